'use strict'
// A header that a caller passes, as objects from JSON are: checked, and bound.
const { isDeepStrictEqual } = require('node:util')
const { attempt, dist, fuzzTarget, must, vectors } = require('../target.cjs')
const { jsonOrEdited, wordsOf } = require('../edits.cjs')

const { bindingDigest } = dist('binding')
const { checkHeader } = dist('header')

const examples = vectors('binding.json').map(({ header }) => header)
const words = [...wordsOf(...examples), 'all', 'every:1', 'uniform:4096', 'fixed:0,7', 'f32', 'custom']

module.exports = fuzzTarget({
  seeds: () => examples.map((header) => JSON.stringify(header)),
  words,
  run(bytes) {
    const given = jsonOrEdited(examples, bytes, words)
    const header = attempt(['INVALID_ARGUMENT'], () => checkHeader(given, 'INVALID_ARGUMENT'))
    if (!header) return
    must(isDeepStrictEqual(checkHeader(header, 'INVALID_ARGUMENT'), header), 'a checked header is as it must be')
    must(bindingDigest(header).length === 32, 'a binding digest has 32 bytes')
  },
})
