// Compares recomputed K and V with claimed ones of an engine that rounds otherwise, within a profile's limits.

import { wrongValue } from './errors'
import type { KvDtype, KvSample, LayerSamples } from './kv'
import { createLayerWalk } from './layer-walk'
import { type Matcher, type MatchResult, samplesFollowPlan } from './matcher'
import type { Plan } from './plan'
import { relativeError, rowValues, sketchedError, valuesOf } from './relative-error'
import { projections, sketchedSums } from './sketch'
import { createStrainMeter, type Excess, type LayerErrors, type SamplePart, scoreOf } from './strain'
import type { ToleranceProfile } from './tolerance'
import type { SampleIndex } from './verdict'

/** What a comparison within limits finds. */
export interface TolerantResult extends MatchResult {
  /** Greatest statistic over its limit so far; more than 1 where one is exceeded. */
  strain: number
  /** The statistics that decided, all of one layer; empty while none is over its limit. */
  excesses: Excess[]
}

export interface TolerantMatcher extends Matcher {
  result(): TolerantResult
}

/** Relative error of one claimed vector against the recomputed row's values; Infinity where it cannot be one. */
type ErrorOf = (index: number, layer: number, position: number, part: SamplePart, values: Float64Array) => number

/**
 * A matcher for proofs in other numerics than the verifier's.
 *
 * It is decided by the first layer at which a statistic of the scores so far is over its limit. There, a sample is
 * mismatched whose own score is over an exceeded limit; where none is, the one with the greatest score. All samples
 * of layers before it are matched: what they add up to was within limits.
 * @param plan - Covered by the profile, see {@link whyNotCovered}.
 * @param samples - In the profile's form: vectors, or their sketches by `seed`.
 * @throws {PocError} INVALID_ARGUMENT where the samples do not follow the plan.
 */
export function createTolerantMatcher(
  plan: Plan,
  samples: readonly KvSample[],
  profile: ToleranceProfile,
  seed: Uint8Array,
): TolerantMatcher {
  checkSamples(plan, samples, profile)
  const virtualLayer = profile.layers.length - 1
  const errorOf = profile.form === 'rows' ? errorOfRows(samples, profile) : errorOfSketches(samples, profile, seed)
  const walk = createLayerWalk(plan, null)
  const meter = createStrainMeter(profile.layers)
  const lists = { matched: [] as SampleIndex[], mismatched: [] as SampleIndex[] }
  let firstMismatch: MatchResult['firstMismatch'] = null
  let excesses: Excess[] = []
  let nextSample = 0 // index into `samples`

  const compare = (recomputed: LayerSamples) => {
    const { layer, positions } = recomputed
    const errors = errorsOf(recomputed, nextSample, errorOf, profile)
    nextSample += positions.length
    excesses = meter.push(layer, errors)
    const parts = mismatchedParts(errors, excesses, profile)
    positions.forEach((position, row) => {
      const part = parts[row]
      lists[part ? 'mismatched' : 'matched'].push([layer, position])
      if (part) firstMismatch ??= { layer, position, part: layer < virtualLayer ? part : 'hidden' }
    })
  }

  return {
    push(layer) {
      if (walk.push(layer, excesses.length > 0)) compare(layer)
    },
    get decided() {
      return excesses.length > 0 || walk.done
    },
    get failed() {
      return excesses.length > 0
    },
    result: () => ({
      matched: [...lists.matched],
      mismatched: [...lists.mismatched],
      firstMismatch,
      unchecked: walk.unchecked(),
      ...walk.result(),
      strain: meter.strain,
      excesses: [...excesses],
    }),
  }
}

function errorsOf(
  { layer, positions, k, v }: LayerSamples,
  firstSample: number,
  errorOf: ErrorOf,
  { kvDtype, layers }: ToleranceProfile,
): LayerErrors {
  const isVirtual = layer === layers.length - 1
  const of = (part: SamplePart, rows: Uint8Array, dtype: KvDtype) => {
    return Array.from(positions, (position, row) => {
      const values = rowValues(rows, row, positions.length, dtype)
      return errorOf(firstSample + row, layer, position, part, values)
    })
  }
  return { k: of('k', k, isVirtual ? 'f32' : kvDtype), v: isVirtual ? [] : of('v', v, kvDtype) }
}

// For each sample of the deciding layer the part that is off, or null; 'k' where both are.
function mismatchedParts(
  errors: LayerErrors,
  excesses: readonly Excess[],
  { layers }: ToleranceProfile,
): (SamplePart | null)[] {
  const parts: (SamplePart | null)[] = errors.k.map(() => null)
  if (excesses.length === 0) return parts
  const worst = { row: 0, part: excesses[0].part, score: Number.NEGATIVE_INFINITY }
  for (const { layer, part, maxScore } of excesses) {
    const limits = layers[layer][part]
    errors[part].forEach((error, row) => {
      const score = limits ? scoreOf(error, limits) : 0
      if (score > maxScore && parts[row] !== 'k') parts[row] = part
      if (score > worst.score) Object.assign(worst, { row, part, score })
    })
  }
  if (!parts.some((part) => part !== null)) parts[worst.row] = worst.part
  return parts
}

function errorOfRows(samples: readonly KvSample[], { kvDtype, layers }: ToleranceProfile): ErrorOf {
  return (index, layer, _position, part, values) => {
    const dtype = layer === layers.length - 1 ? 'f32' : kvDtype
    const claimed = valuesOf(samples[index][part], dtype)
    return claimed.length === values.length ? relativeError(claimed, values) : Number.POSITIVE_INFINITY
  }
}

function errorOfSketches(samples: readonly KvSample[], profile: ToleranceProfile, seed: Uint8Array): ErrorOf {
  const count = profile.projections
  return (index, layer, position, part, values) => {
    const claimed = sketchedSums(samples[index][part], count)
    if (!claimed) return Number.POSITIVE_INFINITY
    return sketchedError(claimed, projections({ seed, layer, position, part }, values, count), values)
  }
}

function checkSamples(plan: Plan, samples: readonly KvSample[], { layers }: ToleranceProfile): void {
  if (!samplesFollowPlan(plan, samples)) {
    throw wrongValue('INVALID_ARGUMENT', 'samples', `the ${plan.numSamples} samples of the plan, in its order`, samples)
  }
  if (plan.deepestLayer >= layers.length) {
    throw wrongValue('INVALID_ARGUMENT', 'plan.deepestLayer', `at most ${layers.length - 1}`, plan.deepestLayer)
  }
}
