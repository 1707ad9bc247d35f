'use strict'
// A generator's claim, and what a beacon then asks of it. Any bytes that begin as a claim does are its bytes; others
// say how a claim is changed.
const { attempt, dist, fuzzTarget, must, vectors } = require('../target.cjs')
const { edited, wordsOf } = require('../edits.cjs')

const { decodeCanonical, encodeCanonical, float64 } = dist('cbor')
const { drawChallenge } = dist('challenge')
const { decodeClaim, encodeClaim } = dist('claim')
const { isBuiltInSampler } = dist('sampler')

const MAP_OF_FIVE = 0xa5
const { claims } = vectors('claim.json')
const encoded = claims.map(({ bytes }) => Buffer.from(bytes, 'hex'))
const examples = encoded.map(decodeCanonical)
const words = [...wordsOf(...examples), 'all', 'every:1', 'uniform:4096', 'fixed:0,8', 'custom', 'kv', 'random:16']

function challenge(claim, { beacon }) {
  const { header } = claim
  const custom = !isBuiltInSampler(header.tokenSampler) || !isBuiltInSampler(header.layerSampler)
  const challenged = attempt(['INVALID_ARGUMENT', 'PROOF_TOO_LARGE'], () => drawChallenge(claim, beacon))
  must(challenged === undefined || !custom, 'a sampler that is not known draws nothing')
  if (!challenged) return
  const { layers, numSamples, deepestLayer, numPositions } = challenged.plan
  const drawn = [...layers]
  const last = numPositions - 1
  must(deepestLayer <= header.numLayers, 'no layer is deeper than the virtual one')
  must(drawn.reduce((sum, [, { length }]) => sum + length, 0) === numSamples, 'all samples are counted')
  must(
    drawn.every(([, positions]) => positions.every((position, i) => i === 0 || position > positions[i - 1])),
    'positions ascend',
  )
  must(
    drawn.some(([, positions]) => positions[positions.length - 1] === last),
    'the last position is in every plan',
  )
}

module.exports = fuzzTarget({
  maxBytes: 2048,
  seeds: () => [...encoded, ...encoded.map((_, i) => Uint8Array.of(i))],
  words,
  run(given) {
    const isBytes = given[0] === MAP_OF_FIVE
    const bytes = isBytes ? given : encodeCanonical(edited(examples, given, { words, bytes: true, float: float64 }))
    const claim = attempt(['PROOF_MALFORMED', 'PROOF_TOO_LARGE'], () => decodeClaim(bytes))
    if (!claim) return
    must(Buffer.compare(encodeClaim(claim), bytes) === 0, 'a claim has one encoding')
    challenge(claim, claims[given[1] % claims.length] ?? claims[0])
  },
})
