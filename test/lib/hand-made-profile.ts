// A profile that no calibration made: limits and evidence are whatever a test needs.

import type { ProofHeader } from '../../lib/binding'
import { createPlan } from '../../lib/plan'
import type { Proof } from '../../lib/proof'
import { proofOf } from '../../lib/prove'
import type { PartLimits } from '../../lib/strain'
import { type ToleranceProfile, TRIVIAL_FORGERIES } from '../../lib/tolerance'

export const STRAIN = { min: 0.25, lowerQuartile: 0.5, median: 0.625, upperQuartile: 0.75, max: 1.5 }

/** Limits for every layer and the virtual one. */
export function handMadeProfile(
  numLayers: number,
  part: PartLimits = { typicalError: 2 ** -10, maxMeanScore: 3, maxMedianScore: 2, maxSampleScore: 40 },
  change: Partial<ToleranceProfile> = {},
): ToleranceProfile {
  const ofLayer = { k: { ...part }, v: { ...part } }
  return {
    version: 1,
    modelDigest: 'ab'.repeat(32),
    kvDtype: 'f32',
    generator: 'llama.cpp',
    verifier: 'ieee32',
    form: 'rows',
    projections: 0,
    tokenSampler: 'bernoulli:1/32',
    layerSampler: 'stratified:2',
    minPositions: 16,
    maxPositions: 512,
    layers: [...Array.from({ length: numLayers }, () => ofLayer), { k: { ...part }, v: null }],
    tokenGap: null,
    honest: {
      variants: ['llama.cpp, flash attention'],
      fittedSequences: 50,
      heldOutSequences: 50,
      rejectedSequences: 1,
      maxFalseRejection: 0.09,
      confidence: 0.95,
      strain: STRAIN,
    },
    cheats: [
      {
        name: 'weights rounded to int8',
        sequences: 50,
        detectedSequences: 50,
        minDetection: 0.94,
        strain: { ...STRAIN, min: 4, max: 1e9 },
        positionsNeeded: 64,
        samplesNeeded: 4.5,
      },
    ],
    forgeries: TRIVIAL_FORGERIES.map((name) => ({ name, sequences: 50, passedSequences: 0, minStrain: 100 })),
    ...change,
  }
}

/** A proof by another engine of nothing but zeros, and a profile under which any vectors pass. */
export function zerosUnderLaxLimits(ours: ProofHeader, tokens: Uint32Array) {
  const header: ProofHeader = { ...ours, numerics: 'llama.cpp', sampling: null, stop: null }
  const plan = createPlan(header, tokens)
  const zero = new Uint8Array(header.numKvHeads * header.headDim * 4) // of f32
  const samples = [...plan.layers].flatMap(([layer, positions]) =>
    [...positions].map((position) => ({ layer, position, k: zero, v: zero })),
  )
  const limits = { typicalError: 1, maxMeanScore: 1e6, maxMedianScore: 1e6, maxSampleScore: 1e6 }
  const { modelDigest, tokenSampler, layerSampler } = header
  const profile = handMadeProfile(header.numLayers, limits, {
    modelDigest,
    tokenSampler,
    layerSampler,
    minPositions: 1,
  })
  const proof: Proof = proofOf(header, tokens, plan, samples)
  return { proof, profile }
}
