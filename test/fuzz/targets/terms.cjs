'use strict'
// Terms of a stakepool, and what the linter says of them.
const { isDeepStrictEqual } = require('node:util')
const { attempt, dist, fuzzTarget, must, vectors } = require('../target.cjs')
const { jsonOrEdited, wordsOf } = require('../edits.cjs')

const { lintTerms, parseTerms, termsToJson } = dist('terms')

const all = vectors('payoffs.json').map(({ terms }) => JSON.stringify(terms))
const examples = [...new Set(all)].map((terms) => JSON.parse(terms))
const words = [...wordsOf(...examples), '9'.repeat(78), '0.1', '1/3', '0/1']

module.exports = fuzzTarget({
  maxBytes: 1024,
  seeds: () => examples.map((terms) => JSON.stringify(terms)),
  words,
  run(bytes) {
    const given = jsonOrEdited(examples, bytes, words)
    const terms = attempt(['TERMS_INVALID'], () => parseTerms(given))
    if (!terms) return
    must(isDeepStrictEqual(parseTerms(termsToJson(terms)), terms), 'terms survive JSON')
    must(
      lintTerms(terms).every(({ severity }) => severity === 'warning'),
      'terms with errors are refused',
    )
  },
})
