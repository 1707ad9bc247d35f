// Compares recomputed K and V vectors with the claimed ones, layer by layer, and says when nothing more can change.

import { wrongValue } from './errors'
import { createSamplesHash } from './hash'
import type { KvSample, LayerSamples } from './kv'
import type { Plan } from './plan'
import type { SampleIndex, Verdict } from './verdict'

/** The parts of a {@link Verdict} that the comparison gives. */
export interface MatchResult
  extends Pick<Verdict, 'matched' | 'mismatched' | 'unchecked' | 'firstMismatch' | 'samplesDigest'> {
  /** Layers 0 up to the last one pushed. */
  layersComputed: number
}

/** Takes one layer after another until it is decided. */
export interface Matcher {
  /**
   * Compares all samples of the next layer; a layer that the plan does not sample may be left out or pushed empty.
   * @throws {PocError} INVALID_ARGUMENT for a layer out of order, after the decision, or with other positions or sizes.
   */
  push(layer: LayerSamples): void
  /** True from the first layer with a mismatch on, or after the last sampled layer. */
  readonly decided: boolean
  /** What is known so far; all that was not compared is `unchecked`. */
  result(): MatchResult
}

/** Whether the samples are those of the plan: the same (layer, position) indices in the same order. */
export function samplesFollowPlan(plan: Plan, samples: readonly KvSample[]): boolean {
  if (samples.length !== plan.numSamples) return false
  let i = 0
  for (const [layer, positions] of plan.layers) {
    for (const position of positions) {
      const sample = samples[i++]
      if (sample.layer !== layer || sample.position !== position) return false
    }
  }
  return true
}

/**
 * A matcher of claimed samples in bit-equal numerics (`ieee32`): a sample matches when all bits of K and V do.
 * In the layer that decides, every sample is compared; later layers stay unchecked.
 * @throws {PocError} INVALID_ARGUMENT when the samples are not those of the plan or differ in size.
 * @see Proof of Cache, section 3.2, "KV Cache-based Verification".
 */
export function createMatcher(plan: Plan, samples: readonly KvSample[]): Matcher {
  const rowBytes = checkedRowBytes(plan, samples)
  const layers = [...plan.layers]
  const matched: SampleIndex[] = []
  const mismatched: SampleIndex[] = []
  const recomputed = createSamplesHash()
  let firstMismatch: MatchResult['firstMismatch'] = null
  let nextLayer = 0 // index into `layers`
  let nextSample = 0 // index into `samples`
  let layersComputed = 0

  const decided = () => firstMismatch !== null || nextLayer === layers.length

  const compare = (layer: LayerSamples) => {
    const k = bytesOf(layer.k)
    const v = bytesOf(layer.v)
    layer.positions.forEach((position, row) => {
      const claimed = samples[nextSample++]
      const start = row * rowBytes
      const part = differs(k, start, rowBytes, claimed.k) ? 'k' : differs(v, start, rowBytes, claimed.v) ? 'v' : null
      if (part === null) matched.push([layer.layer, position])
      else mismatched.push([layer.layer, position])
      if (part !== null) firstMismatch ??= { layer: layer.layer, position, part }
    })
  }

  return {
    push(layer) {
      if (decided()) throw wrongValue('INVALID_ARGUMENT', 'layer.layer', 'none: the matcher is decided', layer.layer)
      const [sampledLayer, positions] = layers[nextLayer]
      checkOrder(layer.layer, layersComputed, sampledLayer)
      const isSampled = layer.layer === sampledLayer
      checkRows(layer, isSampled ? positions : new Uint32Array(0), rowBytes)
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
      matched: [...matched],
      mismatched: [...mismatched],
      unchecked: layers.slice(nextLayer).flatMap(indicesOfLayer),
      firstMismatch,
      samplesDigest: recomputed.digest(),
      layersComputed,
    }),
  }
}

/** All samples of a plan in (layer, position) order. */
export function indicesOfPlan(plan: Plan): SampleIndex[] {
  return [...plan.layers].flatMap(indicesOfLayer)
}

function indicesOfLayer([layer, positions]: [number, Uint32Array]): SampleIndex[] {
  return Array.from(positions, (position) => [layer, position] as SampleIndex)
}

function checkedRowBytes(plan: Plan, samples: readonly KvSample[]): number {
  if (!samplesFollowPlan(plan, samples)) {
    throw wrongValue('INVALID_ARGUMENT', 'samples', `the ${plan.numSamples} samples of the plan, in its order`, samples)
  }
  const rowBytes = samples[0].k.byteLength
  samples.forEach(({ k, v }, i) => {
    for (const [part, row] of [
      ['k', k],
      ['v', v],
    ] as const) {
      if (row.byteLength !== rowBytes) {
        throw wrongValue('INVALID_ARGUMENT', `samples[${i}].${part}`, `${rowBytes} bytes as the first`, row)
      }
    }
  })
  return rowBytes
}

function checkOrder(layer: number, layersComputed: number, sampledLayer: number): void {
  if (Number.isInteger(layer) && layer >= layersComputed && layer <= sampledLayer) return
  throw wrongValue('INVALID_ARGUMENT', 'layer.layer', `an integer from ${layersComputed} to ${sampledLayer}`, layer)
}

function checkRows(layer: LayerSamples, positions: Uint32Array, rowBytes: number): void {
  const given = layer.positions
  if (given.length !== positions.length || given.some((position, i) => position !== positions[i])) {
    throw wrongValue('INVALID_ARGUMENT', 'layer.positions', `the plan's ${positions.length} positions`, [...given])
  }
  for (const part of ['k', 'v'] as const) {
    const numBytes = positions.length * rowBytes
    if (layer[part].byteLength === numBytes) continue
    throw wrongValue('INVALID_ARGUMENT', `layer.${part}`, `${numBytes} bytes`, layer[part])
  }
}

function bytesOf(view: Uint8Array): Buffer {
  return Buffer.from(view.buffer, view.byteOffset, view.byteLength)
}

// The length counts too: an array that was detached since it was checked has none, and would equal anything.
function differs(recomputed: Buffer, start: number, rowBytes: number, claimed: Uint8Array): boolean {
  if (claimed.byteLength !== rowBytes) return true
  return recomputed.compare(claimed, 0, rowBytes, start, start + rowBytes) !== 0
}
