'use strict'
// What a verifier does with a decoded proof beside running a model, on a model that would have any such proof.
const { attempt, dist, must } = require('./target.cjs')

const { planOf } = dist('challenge')
const { checkVerdict } = dist('check')
const { examine } = dist('examination')
const { samplesFollowPlan } = dist('matcher')
const { groupsOf } = dist('sample-groups')
const { fromLe32 } = dist('hash')
const { isBuiltInSampler } = dist('sampler')

const CODES = ['INVALID_ARGUMENT', 'PROOF_TOO_LARGE', 'TOKEN_OUT_OF_RANGE', 'CONTEXT_OVERFLOW']
const PASS = { replay: () => must(false, 'no token is replayed that nobody asks for') }

const fittingModel = ({ modelDigest, numerics, numLayers, numKvHeads, headDim, hiddenSize }) => ({
  digest: modelDigest,
  numerics,
  config: {
    numLayers,
    numKvHeads,
    headDim,
    hiddenSize,
    numHeads: numKvHeads,
    intermediateSize: 64,
    vocabSize: 2 ** 31, // the most that a model may have
    maxPositions: 2 ** 20,
    slidingWindow: null,
  },
})

const layersOf = (samples) => groupsOf(samples).map((group) => ({ ...group, positions: fromLe32(group.positions) }))

/** The verdict of a verifier that recomputes these layers. Nothing in push() waits where no token is replayed. */
function verdictOn(examination, layers) {
  for (const layer of layers) if (!examination.decided) examination.push(layer, PASS, 0)
  return examination.conclude()
}

const flipped = (bytes) => bytes.map((byte, i) => (i === bytes.length - 1 ? byte ^ 1 : byte))

/** Derives a proof's plan, holds its samples against it, and compares them: with themselves, and with others. */
function examineProof(proof) {
  const { header } = proof
  const custom = !isBuiltInSampler(header.tokenSampler) || !isBuiltInSampler(header.layerSampler)
  const planned = attempt(CODES, () => planOf(proof))
  must(planned === undefined || !custom, 'a sampler that is not known gives no plan')
  if (!planned) return
  samplesFollowPlan(planned.plan, proof.samples)
  const examined = () => examine(fittingModel(header), proof, { nonce: header.nonce, replay: 'none' })
  const examination = attempt(CODES, examined)
  if (!examination) return
  const early = examination.verdict ?? examination.conclude()
  must(early.status === 'rejected' || early.status === 'inconclusive', 'nothing is accepted before it was compared')
  const isValid = (verdict) => checkVerdict(proof, verdict, { replay: 'none' }).valid
  must(isValid(early), 'a verdict before any work is valid')
  if (examination.verdict || header.form !== 'rows') return
  const claimed = layersOf(proof.samples)
  const honest = verdictOn(examination, claimed)
  must(honest.status === 'accepted' && isValid(honest), 'what was recomputed alike is accepted')
  const others = claimed.map((layer, i) => (i === 0 ? { ...layer, k: flipped(layer.k) } : layer))
  const refuting = verdictOn(examined(), others)
  must(refuting.status === 'rejected' && isValid(refuting), 'one other bit is found')
  must(refuting.firstMismatch.layer === claimed[0].layer, 'where it is')
}

module.exports = { examineProof, fittingModel, layersOf, verdictOn }
