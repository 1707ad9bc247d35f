'use strict'
// What a verifier does with a decoded proof before it runs a model, on a model that would have any such proof.
const { attempt, dist, must } = require('./target.cjs')

const { examine } = dist('examination')
const { createPlan } = dist('plan')
const { samplesFollowPlan } = dist('matcher')
const { isBuiltInSampler } = dist('sampler')

const CODES = ['INVALID_ARGUMENT', 'PROOF_TOO_LARGE', 'TOKEN_OUT_OF_RANGE', 'CONTEXT_OVERFLOW']

const fittingModel = ({ modelDigest, numerics, numLayers, numKvHeads, headDim }) => ({
  digest: modelDigest,
  numerics,
  config: {
    numLayers,
    numKvHeads,
    headDim,
    numHeads: numKvHeads,
    hiddenSize: 64,
    intermediateSize: 64,
    vocabSize: 2 ** 32,
    maxPositions: 2 ** 20,
    slidingWindow: null,
  },
})

/** Derives a proof's plan, holds its samples against it and examines its structure. */
function examineStructure(proof) {
  const { header, tokens } = proof
  const custom = !isBuiltInSampler(header.tokenSampler) || !isBuiltInSampler(header.layerSampler)
  const plan = attempt([...CODES], () => createPlan(header, tokens))
  must(plan === undefined || !custom, 'a sampler that is not known gives no plan')
  if (!plan) return
  samplesFollowPlan(plan, proof.samples)
  const examination = attempt(CODES, () => examine(fittingModel(header), proof, { nonce: 'c0ffee' }))
  if (!examination) return
  const { status } = examination.verdict ?? examination.conclude()
  must(status === 'rejected' || status === 'inconclusive', 'nothing is accepted before a model has run')
}

module.exports = { examineStructure }
