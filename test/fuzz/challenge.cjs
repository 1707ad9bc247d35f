'use strict'
// What a beacon asks of a decoded claim.
const { attempt, dist, must } = require('./target.cjs')

const { drawChallenge } = dist('challenge')
const { isBuiltInSampler } = dist('sampler')

/** Draws a claim's challenge and holds it against what every plan promises. */
function challenge(claim, beacon) {
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

module.exports = { challenge }
