'use strict'
// decodeClaim() on canonical CBOR that says something else than a claim does, and what a beacon then asks.
const { attempt, dist, fuzzTarget, must, vectors } = require('../target.cjs')
const { edited, wordsOf } = require('../edits.cjs')
const { challenge } = require('../challenge.cjs')

const { decodeCanonical, encodeCanonical, float64 } = dist('cbor')
const { decodeClaim, encodeClaim } = dist('claim')

const { claims } = vectors('claim.json')
const examples = claims.map(({ bytes }) => decodeCanonical(Buffer.from(bytes, 'hex')))
const words = [...wordsOf(...examples), 'all', 'every:1', 'uniform:4096', 'fixed:0,8', 'custom', 'kv', 'random:16']

module.exports = fuzzTarget({
  maxBytes: 256,
  seeds: () => examples.map((_, i) => Uint8Array.of(i)),
  run(program) {
    const bytes = encodeCanonical(edited(examples, program, { words, bytes: true, float: float64 }))
    const claim = attempt(['PROOF_MALFORMED', 'PROOF_TOO_LARGE'], () => decodeClaim(bytes))
    if (!claim) return
    must(Buffer.compare(encodeClaim(claim), bytes) === 0, 'a claim has one encoding')
    challenge(claim, claims[claim.tokens.length % claims.length].beacon)
  },
})
