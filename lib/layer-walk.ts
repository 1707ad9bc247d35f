// What every matcher does with the layers of a plan before it compares them: their order, their sizes, and the digest
// of what was recomputed.
import { wrongValue } from './errors'
import { given, LAYER } from './given'
import { createSamplesHash } from './hash'
import type { LayerSamples } from './kv'
import type { Plan } from './plan'
import type { SampleIndex } from './verdict'

/** Bytes of a layer's two vectors. */
export interface VectorBytes {
  k: number
  v: number
}

/**
 * A walk over the sampled layers of a plan, which takes each in its turn.
 *
 * @param bytesAt - Null where the size of recomputed vectors is not known.
 */
export function createLayerWalk(plan: Plan, bytesAt: ((layer: number) => VectorBytes) | null) {
  const layers = [...plan.layers]
  const recomputed = createSamplesHash()
  let nextLayer = 0 // index into `layers`
  let layersComputed = 0
  return {
    /** @returns Whether the layer is sampled. */
    push(layer: LayerSamples, isDecided: boolean): boolean {
      given(LAYER, layer, 'layer')
      if (isDecided || nextLayer === layers.length) {
        throw wrongValue('INVALID_ARGUMENT', 'layer.layer', 'none: the matcher is decided', layer.layer)
      }
      const [sampledLayer, positions] = layers[nextLayer]
      checkOrder(layer.layer, layersComputed, sampledLayer)
      const isSampled = layer.layer === sampledLayer
      checkRows(layer, isSampled ? positions : new Uint32Array(0), bytesAt?.(layer.layer))
      layersComputed = layer.layer + 1
      if (!isSampled) return false
      nextLayer++
      recomputed.push(layer)
      return true
    },
    get done() {
      return nextLayer === layers.length
    },
    /** The samples that were not pushed. */
    unchecked: () => indicesOf(layers.slice(nextLayer)),
    result: () => ({ samplesDigest: recomputed.digest(), layersComputed }),
  }
}

/** All samples of a plan in (layer, position) order. */
export function indicesOfPlan(plan: Plan): SampleIndex[] {
  return indicesOf(plan.layers)
}

function indicesOf(layers: Iterable<readonly [number, Uint32Array]>): SampleIndex[] {
  const indices: SampleIndex[] = []
  for (const [layer, positions] of layers) {
    for (let i = 0; i < positions.length; i++) indices.push([layer, positions[i]])
  }
  return indices
}

function checkOrder(layer: number, layersComputed: number, sampledLayer: number): void {
  if (Number.isInteger(layer) && layer >= layersComputed && layer <= sampledLayer) return
  throw wrongValue('INVALID_ARGUMENT', 'layer.layer', `an integer from ${layersComputed} to ${sampledLayer}`, layer)
}

function checkRows(layer: LayerSamples, positions: Uint32Array, bytes: VectorBytes | undefined): void {
  const given = layer.positions
  if (given.length !== positions.length || given.some((position, i) => position !== positions[i])) {
    throw wrongValue('INVALID_ARGUMENT', 'layer.positions', `the plan's ${positions.length} positions`, [...given])
  }
  if (!bytes) return
  for (const part of ['k', 'v'] as const) {
    const numBytes = positions.length * bytes[part]
    if (layer[part].byteLength === numBytes) continue
    throw wrongValue('INVALID_ARGUMENT', `layer.${part}`, `${numBytes} bytes`, layer[part])
  }
}
