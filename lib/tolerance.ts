// The tolerance profile: what a verifier allows an engine with other rounding to differ by, and what that rests on.

import type { ProofHeader } from './binding'
import type { KvDtype } from './kv'
import type { Plan } from './plan'
import { PROJECTIONS } from './sketch'
import type { LayerLimits } from './strain'

/** Forms of a proof that can be compared within limits. */
export type ProfileForm = 'rows' | 'sketch'

/** Names of the forgeries that cost nothing; a profile that lets one of them pass is none. */
export const TRIVIAL_FORGERIES = ['zeros', 'mean', 'previous position', 'layer below', 'other prompt'] as const

export type TrivialForgery = (typeof TRIVIAL_FORGERIES)[number]

/** Greatest strain in evidence; larger ones, Infinity among them, stand as this. */
export const MAX_STATED_STRAIN = 1e9

/** Strains of several proofs: a proof is within the profile up to 1. */
export interface StrainQuantiles {
  min: number
  lowerQuartile: number
  median: number
  upperQuartile: number
  max: number
}

/** Honest proofs, of sequences that had no part in setting the limits. */
export interface HonestEvidence {
  /** How they were computed: engine and settings. */
  variants: string[]
  /** Sequences that the limits were set on. */
  fittedSequences: number
  /** Sequences that they were judged on. */
  heldOutSequences: number
  /** Held-out sequences of which a variant was rejected. */
  rejectedSequences: number
  /** Upper bound of the share that is rejected, by Clopper and Pearson, at `confidence`. */
  maxFalseRejection: number
  confidence: number
  strain: StrainQuantiles
}

/** A cheat, on the held-out sequences. */
export interface CheatEvidence {
  name: string
  sequences: number
  detectedSequences: number
  /** Lower bound of the share that is detected, at the confidence of the honest evidence. */
  minDetection: number
  strain: StrainQuantiles
  /** Fewest positions, of those tried, at which 95 % are detected by limits set at that length; null: at none. */
  positionsNeeded: number | null
  /**
   * Fewest samples, of 1, 2, 4, ..., at which 95 % of proofs that are cut to so many drawn ones are over the profile's
   * limits, and of the honest ones no more than `maxFalseRejection` and 5 %; null: with none of the numbers tried.
   */
  samplesNeeded: number | null
}

/** A forgery that costs nothing, on the held-out sequences. */
export interface ForgeryEvidence {
  name: TrivialForgery
  sequences: number
  /** 0, or the profile is refused. */
  passedSequences: 0
  minStrain: number
}

/**
 * What a greedy generator's tokens may cost: the mean over generated tokens of the greatest logit minus the token's
 * own. At temperature t, scores are logits over t, and so is the limit.
 */
export interface TokenGapEvidence {
  maxMeanGap: number
  fittedSequences: number
  heldOutSequences: number
  rejectedSequences: number
  /** As of the honest evidence. */
  maxFalseRejection: number
  /** Greatest held-out mean gap of an honest source. */
  greatestHonestGap: number
  cheats: TokenGapOfCheat[]
}

/** Greedy tokens of a cheat's own, on the held-out prompts. */
export interface TokenGapOfCheat {
  name: string
  sequences: number
  detectedSequences: number
  minDetection: number
  leastGap: number
  medianGap: number
}

/** Limits for proofs of one model by one engine, checked by another. */
export interface ToleranceProfile {
  version: 1
  modelDigest: string
  kvDtype: KvDtype
  /** Numerics of the engine that generates, as headers state them. */
  generator: string
  /** Numerics of the engine that verifies. */
  verifier: string
  form: ProfileForm
  /** Signed sums of a vector in form sketch; 0 in form rows. */
  projections: number
  tokenSampler: string
  layerSampler: string
  minPositions: number
  maxPositions: number
  /** One for each layer, then the virtual one. */
  layers: LayerLimits[]
  /** Null where it was not measured. */
  tokenGap: TokenGapEvidence | null
  honest: HonestEvidence
  cheats: CheatEvidence[]
  forgeries: ForgeryEvidence[]
}

/** Why a profile says nothing about a proof, for people; null where it does. */
export function whyNotCovered(
  profile: ToleranceProfile,
  header: ProofHeader,
  form: ProfileForm,
  verifier: string,
  plan: Plan,
): string | null {
  const stated: [string, unknown, unknown][] = [
    ['model', profile.modelDigest, header.modelDigest],
    ['number of layers', profile.layers.length - 1, header.numLayers],
    ['kvDtype', profile.kvDtype, header.kvDtype],
    ['generator', profile.generator, header.numerics],
    ['verifier', profile.verifier, verifier],
    ['form', profile.form, form],
    ['projections', profile.projections, form === 'sketch' ? PROJECTIONS : 0],
    ['token sampler', profile.tokenSampler, header.tokenSampler],
    ['layer sampler', profile.layerSampler, header.layerSampler],
  ]
  const other = stated.find(([, ours, theirs]) => ours !== theirs)
  if (other) return `the profile is for ${other[0]} ${other[1]}, not ${other[2]}`
  const { minPositions, maxPositions } = profile
  if (plan.numPositions < minPositions || plan.numPositions > maxPositions) {
    return `the profile is for ${minPositions} to ${maxPositions} positions, not ${plan.numPositions}`
  }
  const numLayers = profile.layers.length - 1
  const unknown = [...plan.layers.keys()].find((layer) => {
    const { k, v } = profile.layers[layer]
    return !k || (!v && layer < numLayers)
  })
  return unknown === undefined ? null : `the profile has no limits for layer ${unknown}`
}
