// Limits from honest errors, and what they tell apart.

import { lowerBound, upperBound } from './binomial'
import type { KvDtype } from './kv'
import { byLayer, type SampleErrors } from './sample-vectors'
import {
  createScores,
  createStrainMeter,
  type LayerLimits,
  type PartLimits,
  SAMPLE_PARTS,
  type SamplePart,
} from './strain'
import { MAX_STATED_STRAIN, type StrainQuantiles } from './tolerance'

/** Errors of one proof. */
export type ProofErrors = readonly SampleErrors[]

/** Fewer proofs with samples at a layer say too little about it. */
export const MIN_PROOFS = 10
export const CONFIDENCE = 0.95
/** How much more room a single sample has than means and medians: proofs to come may have many more samples. */
const OUTLIER_ROOM = 5
/** Share of a cheat's proofs over their limits from which on it counts as told apart. */
export const DETECTION = 0.95

/** A quarter of the unit roundoff: few sequences may see no rounding that falls otherwise, which proves nothing. */
const LEAST_TYPICAL_ERROR: Readonly<Record<KvDtype, number>> = { f32: 2 ** -26, f16: 2 ** -13, bf16: 2 ** -10 }

/**
 * Limits that all of `proofs` are within: for each layer and part the mean error is typical, and the greatest mean,
 * median and maximum of the scores so far, times `headroom`, are the limits. Null where fewer than {@link MIN_PROOFS}
 * have samples.
 */
export function fitLimits(
  proofs: readonly ProofErrors[],
  numLayers: number,
  kvDtype: KvDtype,
  headroom: number,
): LayerLimits[] {
  const layered = proofs.map(byLayer)
  const limits = Array.from({ length: numLayers + 1 }, (_, layer): LayerLimits => {
    const of = (part: SamplePart): PartLimits | null => {
      const errors = layered.flatMap((proof) => proof.filter(([at]) => at === layer).map(([, all]) => all[part]))
      const some = errors.filter((all) => all.length > 0)
      if (some.length < MIN_PROOFS) return null
      const flat = some.flat()
      const mean = flat.reduce((sum, error) => sum + error, 0) / flat.length
      const typicalError = Math.max(mean, LEAST_TYPICAL_ERROR[layer === numLayers ? 'f32' : kvDtype])
      return { typicalError, maxMeanScore: headroom, maxMedianScore: headroom, maxSampleScore: headroom * OUTLIER_ROOM }
    }
    return { k: of('k'), v: of('v') }
  })
  for (const proof of layered) for (const part of SAMPLE_PARTS) raiseLimits(limits, part, proof, headroom)
  return limits
}

// Limits begin at a score of 1, the typical error, so that a layer of zeros has one too.
function raiseLimits(limits: LayerLimits[], part: SamplePart, proof: ReturnType<typeof byLayer>, headroom: number) {
  const scores = createScores()
  for (const [layer, errors] of proof) {
    const allowed = limits[layer][part]
    if (!allowed || errors[part].length === 0) continue
    scores.add(errors[part].map((error) => error / allowed.typicalError))
    allowed.maxMeanScore = Math.max(allowed.maxMeanScore, scores.mean() * headroom)
    allowed.maxMedianScore = Math.max(allowed.maxMedianScore, scores.median() * headroom)
    allowed.maxSampleScore = Math.max(allowed.maxSampleScore, scores.max() * headroom * OUTLIER_ROOM)
  }
}

/** The strain of one proof. */
export function strainOf(limits: readonly LayerLimits[], errors: ProofErrors): number {
  const meter = createStrainMeter(limits)
  for (const [layer, some] of byLayer(errors)) meter.push(layer, some)
  return meter.strain
}

export function strainQuantiles(strains: readonly number[]): StrainQuantiles {
  const sorted = strains.map((strain) => Math.min(strain, MAX_STATED_STRAIN)).sort((a, b) => a - b)
  const at = (share: number) => sorted[Math.round(share * (sorted.length - 1))]
  return { min: at(0), lowerQuartile: at(0.25), median: at(0.5), upperQuartile: at(0.75), max: at(1) }
}

/** How many of `strains` are over 1, with the share's bounds. */
export function rejection(strains: readonly number[]) {
  const over = strains.filter((strain) => strain > 1).length
  return {
    over,
    maxShare: upperBound(over, strains.length, CONFIDENCE),
    minShare: lowerBound(over, strains.length, CONFIDENCE),
  }
}

/**
 * The fewest positions at which {@link DETECTION} of a cheat's held-out proofs are over limits that were set on proofs
 * cut to that length; of `lengths`, which descend. Null where not even the first is enough.
 */
export function positionsNeeded(
  fitted: readonly ProofErrors[],
  cheat: readonly ProofErrors[],
  lengths: readonly number[],
  setLimits: (proofs: readonly ProofErrors[]) => LayerLimits[],
): number | null {
  let found: number | null = null
  for (const length of lengths) {
    const cut = (proofs: readonly ProofErrors[]) => {
      return proofs.map((errors) => errors.filter(({ position }) => position < length))
    }
    const limits = setLimits(cut(fitted))
    const proofs = cut(cheat)
    const detected = proofs.filter((errors) => strainOf(limits, errors) > 1).length
    if (detected < DETECTION * proofs.length) return found
    found = length
  }
  return found
}
