// Samples as values, and their errors in the form that a proof would carry them in: what a calibration works on.

import type { KvDtype, KvSample } from './kv'
import { relativeError, sketchedError, valuesOf } from './relative-error'
import { projections, type SketchPlace, sketchedSums, sketchVector } from './sketch'
import { type LayerErrors, SAMPLE_PARTS, type SamplePart } from './strain'

/** A sample's values; `v` is empty at the virtual layer. */
export interface SampleVectors {
  layer: number
  position: number
  k: Float64Array
  v: Float64Array
}

/** A sample's relative errors; `v` is null at the virtual layer. */
export interface SampleErrors {
  layer: number
  position: number
  k: number
  v: number | null
}

/** The form of the proofs that are calibrated: their K and V, or sums of them drawn by a seed of 32 bytes. */
export type ErrorForm = { form: 'rows' } | { form: 'sketch'; projections: number; seed: Uint8Array }

export function vectorsOf({ layer, position, k, v }: KvSample, kvDtype: KvDtype): SampleVectors {
  const dtype = v.length === 0 ? 'f32' : kvDtype
  return { layer, position, k: valuesOf(k, dtype), v: valuesOf(v, dtype) }
}

/** Errors of claimed vectors against the recomputed ones of the same places, as a verifier would find them. */
export function errorsOfSamples(
  claimed: readonly SampleVectors[],
  recomputed: readonly SampleVectors[],
  form: ErrorForm,
): SampleErrors[] {
  return claimed.map((sample, i) => {
    const { layer, position } = sample
    const error = (part: SamplePart) => {
      const values = recomputed[i][part]
      if (form.form === 'rows') return relativeError(sample[part], values)
      const place: SketchPlace = { seed: form.seed, layer, position, part }
      const sums = sketchedSums(sketchVector(place, sample[part], form.projections), form.projections)
      return sums ? sketchedError(sums, projections(place, values, form.projections), values) : Number.POSITIVE_INFINITY
    }
    return { layer, position, k: error('k'), v: sample.v.length === 0 ? null : error('v') }
  })
}

/** Errors by layer, ascending, as a verifier comes to them. */
export function byLayer(errors: readonly SampleErrors[]): [layer: number, errors: LayerErrors][] {
  const layers = new Map<number, Record<SamplePart, number[]>>()
  for (const sample of errors) {
    const found = layers.get(sample.layer) ?? { k: [], v: [] }
    layers.set(sample.layer, found)
    for (const part of SAMPLE_PARTS) {
      const error = sample[part]
      if (error !== null) found[part].push(error)
    }
  }
  return [...layers].sort(([a], [b]) => a - b)
}
