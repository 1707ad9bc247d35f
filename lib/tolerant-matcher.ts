// Compares recomputed K and V with claimed ones of an engine that rounds otherwise, within a profile's limits.

import { wrongValue } from './errors'
import { createSamplesHash } from './hash'
import type { KvDtype, KvSample, LayerSamples } from './kv'
import type { Matcher, MatchResult } from './matcher'
import type { Plan } from './plan'
import { relativeError, sketchedError, valuesOf } from './relative-error'
import { projections, type SampleSketch, sketchedSums, sketchPartBytes } from './sketch'
import { createStrainMeter, type Excess, type LayerErrors, type SamplePart, scoreOf } from './strain'
import type { ToleranceProfile } from './tolerance'
import type { SampleIndex } from './verdict'

/** What a proof carries of its samples, in the plan's order. */
export type TolerantClaim =
  | { form: 'rows'; samples: readonly KvSample[] }
  | { form: 'sketch'; sketches: readonly SampleSketch[]; seed: Uint8Array }

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
 * @throws {PocError} INVALID_ARGUMENT where the claim does not follow the plan.
 */
export function createTolerantMatcher(plan: Plan, claim: TolerantClaim, profile: ToleranceProfile): TolerantMatcher {
  checkClaim(plan, claim, profile)
  const layers = [...plan.layers]
  const errorOf = claim.form === 'rows' ? errorOfRows(claim.samples, profile) : errorOfSketches(claim, profile)
  const meter = createStrainMeter(profile.layers)
  const recomputed = createSamplesHash()
  const lists = { matched: [] as SampleIndex[], mismatched: [] as SampleIndex[] }
  let firstMismatch: MatchResult['firstMismatch'] = null
  let excesses: Excess[] = []
  let nextLayer = 0 // index into `layers`
  let nextSample = 0 // index into the claim
  let layersComputed = 0

  const decided = () => excesses.length > 0 || nextLayer === layers.length

  const compare = (samples: LayerSamples) => {
    const { layer, positions } = samples
    const errors = errorsOf(samples, nextSample, errorOf, profile)
    nextSample += positions.length
    excesses = meter.push(layer, errors)
    const parts = mismatchedParts(errors, excesses, profile)
    positions.forEach((position, row) => {
      const part = parts[row]
      lists[part ? 'mismatched' : 'matched'].push([layer, position])
      if (part) firstMismatch ??= { layer, position, part }
    })
  }

  return {
    push(layer) {
      if (decided()) throw wrongValue('INVALID_ARGUMENT', 'layer.layer', 'none: the matcher is decided', layer.layer)
      const [sampledLayer, positions] = layers[nextLayer]
      const isNext = Number.isInteger(layer.layer) && layer.layer >= layersComputed && layer.layer <= sampledLayer
      const expected = `an integer from ${layersComputed} to ${sampledLayer}`
      if (!isNext) throw wrongValue('INVALID_ARGUMENT', 'layer.layer', expected, layer.layer)
      const isSampled = layer.layer === sampledLayer
      checkPositions(layer, isSampled ? positions : new Uint32Array(0))
      layersComputed = layer.layer + 1
      if (!isSampled) return
      nextLayer++
      recomputed.push(layer)
      compare(layer)
    },
    get decided() {
      return decided()
    },
    result: () => ({
      matched: [...lists.matched],
      mismatched: [...lists.mismatched],
      unchecked: layers
        .slice(nextLayer)
        .flatMap(([layer, positions]) => Array.from(positions, (p): SampleIndex => [layer, p])),
      firstMismatch,
      samplesDigest: recomputed.digest(),
      layersComputed,
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
      const values = rowOf(rows, row, positions.length, dtype)
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

function errorOfSketches(
  { sketches, seed }: { sketches: readonly SampleSketch[]; seed: Uint8Array },
  { projections: count }: ToleranceProfile,
): ErrorOf {
  const size = sketchPartBytes(count)
  return (index, layer, position, part, values) => {
    const start = part === 'k' ? 0 : size
    const claimed = sketchedSums(sketches[index].bytes.subarray(start, start + size))
    if (claimed?.length !== count) return Number.POSITIVE_INFINITY
    return sketchedError(claimed, projections({ seed, layer, position, part }, values, count), values)
  }
}

function rowOf(rows: Uint8Array, row: number, numRows: number, dtype: KvDtype): Float64Array {
  const bytes = rows.byteLength / numRows
  return valuesOf(rows.subarray(row * bytes, (row + 1) * bytes), dtype)
}

function checkClaim(plan: Plan, claim: TolerantClaim, { form, layers, projections: count }: ToleranceProfile): void {
  if (claim.form !== form) throw wrongValue('INVALID_ARGUMENT', 'claim.form', `'${form}', as the profile's`, claim.form)
  const samples: readonly { layer: number; position: number }[] = claim.form === 'rows' ? claim.samples : claim.sketches
  const planned = [...plan.layers].flatMap(([layer, positions]) =>
    Array.from(positions, (position) => ({ layer, position })),
  )
  const follows =
    samples.length === planned.length &&
    planned.every(({ layer, position }, i) => samples[i].layer === layer && samples[i].position === position)
  if (!follows)
    throw wrongValue('INVALID_ARGUMENT', 'claim', `the ${plan.numSamples} samples of the plan, in its order`, samples)
  if (plan.deepestLayer >= layers.length) {
    throw wrongValue('INVALID_ARGUMENT', 'plan.deepestLayer', `at most ${layers.length - 1}`, plan.deepestLayer)
  }
  if (claim.form === 'rows') return
  for (const [i, { layer, bytes }] of claim.sketches.entries()) {
    const expected = sketchPartBytes(count) * (layer === layers.length - 1 ? 1 : 2)
    if (bytes.length !== expected)
      throw wrongValue('INVALID_ARGUMENT', `claim.sketches[${i}].bytes`, `${expected} bytes`, bytes)
  }
}

function checkPositions(layer: LayerSamples, positions: Uint32Array): void {
  const given = layer.positions
  if (given.length === positions.length && given.every((position, i) => position === positions[i])) return
  throw wrongValue('INVALID_ARGUMENT', 'layer.positions', `the plan's ${positions.length} positions`, [...given])
}
