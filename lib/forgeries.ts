// Forgeries that cost nothing: what a generator that did not run the model could put in the place of K and V.

import type { Plan } from './plan'
import type { SampleVectors } from './sample-vectors'
import { SAMPLE_PARTS, type SamplePart } from './strain'
import type { TrivialForgery } from './tolerance'

/** Running means of honest vectors, by layer and part. */
export class MeanVectors {
  private readonly sums = new Map<string, { sum: Float64Array; count: number }>()

  add(samples: readonly SampleVectors[]): void {
    for (const sample of samples) {
      for (const part of SAMPLE_PARTS) {
        const found = this.sums.get(`${part} ${sample.layer}`)
        const entry = found ?? { sum: new Float64Array(sample[part].length), count: 0 }
        sample[part].forEach((value, i) => {
          entry.sum[i] += value
        })
        entry.count++
        if (!found) this.sums.set(`${part} ${sample.layer}`, entry)
      }
    }
  }

  of(part: SamplePart, sample: SampleVectors): Float64Array {
    const found = this.sums.get(`${part} ${sample.layer}`)
    return found ? found.sum.map((value) => value / found.count) : new Float64Array(sample[part].length)
  }
}

/** A plan that also has each sample's neighbours: the position before it, and the layer below it. */
export function withNeighbours(plan: Plan, numLayers: number): Plan {
  const places = new Map<number, Set<number>>()
  const add = (layer: number, position: number) => {
    places.set(layer, (places.get(layer) ?? new Set()).add(position))
  }
  for (const [layer, positions] of plan.layers) {
    for (const position of positions) {
      add(layer, position)
      if (position > 0) add(layer, position - 1)
      if (layer > 0 && layer < numLayers) add(layer - 1, position)
    }
  }
  const sorted = [...places].sort(([a], [b]) => a - b)
  const layers = new Map(sorted.map(([layer, some]) => [layer, Uint32Array.from(some).sort()]))
  const numSamples = [...layers.values()].reduce((sum, positions) => sum + positions.length, 0)
  return { ...plan, layers, numSamples }
}

/** Vectors of one run by their place. */
export type VectorAt = (layer: number, position: number) => SampleVectors | undefined

/** What forgeries are made of: the verifier's own vectors, so that no better ones of their kind exist. */
export interface ForgerySource {
  at: VectorAt
  means: MeanVectors
  /** Samples of another prompt. */
  other: readonly SampleVectors[]
}

/** One vector of each forgery in the place of `sample`; where it has no neighbour, zeros. */
export function forge(
  name: TrivialForgery,
  sample: SampleVectors,
  index: number,
  source: ForgerySource,
): SampleVectors {
  const { layer, position, k, v } = sample
  const zeros = { k: new Float64Array(k.length), v: new Float64Array(v.length) }
  const taken = (from: SampleVectors | undefined) => {
    return from?.k.length === k.length && from.v.length === v.length ? { k: from.k, v: from.v } : zeros
  }
  const others = source.other.filter((one) => one.layer === layer)
  const vectors = {
    zeros: () => zeros,
    mean: () => ({ k: source.means.of('k', sample), v: source.means.of('v', sample) }),
    'previous position': () => taken(source.at(layer, position - 1)),
    'layer below': () => taken(source.at(layer - 1, position)),
    'other prompt': () => taken(others[index % Math.max(1, others.length)]),
  }[name]()
  return { layer, position, ...vectors }
}
