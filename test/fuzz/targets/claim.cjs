'use strict'
// decodeClaim() on any bytes, and what a beacon then asks.
const { attempt, dist, fuzzTarget, must, vectors } = require('../target.cjs')
const { wordsOf } = require('../edits.cjs')
const { challenge } = require('../challenge.cjs')

const { decodeCanonical } = dist('cbor')
const { decodeClaim, encodeClaim } = dist('claim')

const { claims } = vectors('claim.json')
const encoded = claims.map(({ bytes }) => Buffer.from(bytes, 'hex'))
const OTHER_HEADERS = [
  { tokenSampler: 'all', layerSampler: 'fixed:0,8', depth: 'full' },
  { tokenSampler: 'bernoulli:1/4', layerSampler: 'uniform:3', depth: 'random:16' },
  { tokenSampler: 'custom', layerSampler: 'custom:1', sampling: null, kvDtype: 'f16' },
]

function seeds() {
  const claim = decodeClaim(encoded[0])
  const others = OTHER_HEADERS.map((fields) => ({ ...claim, header: { ...claim.header, ...fields } }))
  return [...encoded, ...others.map(encodeClaim)]
}

const text = (word) => Buffer.concat([Buffer.from([0x60 + word.length]), Buffer.from(word)])

module.exports = fuzzTarget({
  maxBytes: 1024,
  seeds,
  words: wordsOf(...seeds().map(decodeCanonical)).map((word) => (word.length < 24 ? text(word) : word)),
  run(bytes) {
    const claim = attempt(['PROOF_MALFORMED', 'PROOF_TOO_LARGE'], () => decodeClaim(bytes))
    if (!claim) return
    must(Buffer.compare(encodeClaim(claim), bytes) === 0, 'a claim has one encoding')
    challenge(claim, claims[claim.tokens.length % claims.length].beacon)
  },
})
