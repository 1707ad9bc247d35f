'use strict'
// A header that a caller passes, as objects from JSON are: checked, bound, and read back.
const { isDeepStrictEqual } = require('node:util')
const { attempt, dist, fuzzTarget, must, vectors } = require('../target.cjs')
const { jsonOrEdited, wordsOf } = require('../edits.cjs')

const { bindingDigest } = dist('binding')
const { decodeCanonical } = dist('cbor')
const { checkHeader, encodeHeader, headerOf } = dist('header')

const examples = vectors('binding.json').map(({ header }) => header)
const samplers = ['all', 'every:1', 'uniform:4096', 'fixed:0,7', 'fixed:8', 'custom']
const words = [...wordsOf(...examples), ...samplers, 'f32', 'rows', 'kv', 'random:16']

module.exports = fuzzTarget({
  maxBytes: 2048,
  seeds: () => examples.map((header) => JSON.stringify(header)),
  words,
  run(bytes) {
    const given = jsonOrEdited(examples, bytes, words)
    const header = attempt(['INVALID_ARGUMENT'], () => checkHeader(given, 'INVALID_ARGUMENT'))
    if (!header) return
    must(isDeepStrictEqual(checkHeader(header, 'INVALID_ARGUMENT'), header), 'a checked header is as it must be')
    const read = checkHeader(headerOf(decodeCanonical(encodeHeader(header))), 'PROOF_MALFORMED')
    must(isDeepStrictEqual(read, header), 'a header survives its encoding')
    must(bindingDigest(header).length === 32, 'a binding digest has 32 bytes')
  },
})
