'use strict'
// Terms of a stakepool, and what the linter says of them under assumptions.
const { isDeepStrictEqual } = require('node:util')
const { attempt, dist, fuzzTarget, must, vectors } = require('../target.cjs')
const { jsonOrEdited, wordsOf } = require('../edits.cjs')

const { lintTerms, parseTerms, termsToJson } = dist('terms')

const ASSUMPTIONS = [
  {},
  { challengeProbability: '1/10', detectionProbability: '0.99', cheatingGain: '500', userLossLimit: '100' },
  { verifierWorkCost: '30', canaryProbability: '1/20' },
]
const all = new Set(vectors('payoffs.json').map(({ terms }) => JSON.stringify(terms)))
const examples = [...all].flatMap((terms, i) =>
  [undefined, 'blind', 'canaries'].map((honesty) => {
    return {
      terms: { ...JSON.parse(terms), ...(honesty && { honesty }) },
      assumptions: ASSUMPTIONS[i % ASSUMPTIONS.length],
    }
  }),
)
const words = [...wordsOf(...examples), '9'.repeat(78), '0.1', '1/3', '0/1']

module.exports = fuzzTarget({
  maxBytes: 1024,
  seeds: () => examples.flatMap((example, i) => [JSON.stringify(example), Uint8Array.of(i)]),
  words,
  run(bytes) {
    const given = jsonOrEdited(examples, bytes, words) ?? {}
    const terms = attempt(['TERMS_INVALID'], () => parseTerms(given.terms))
    if (!terms) return
    must(isDeepStrictEqual(parseTerms(termsToJson(terms)), terms), 'terms survive JSON')
    const findings = attempt(['INVALID_ARGUMENT'], () => lintTerms(terms, given.assumptions))
    must(findings?.every(({ severity }) => severity === 'warning') ?? true, 'terms with errors are refused')
  },
})
