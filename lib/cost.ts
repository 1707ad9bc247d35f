// What a plan costs before anything runs: FLOPs within the dependency cone, and the bytes of its samples.
import type { ModelConfig } from './config'
import { wrongValue } from './errors'
import { fieldsOf } from './header'
import { type KvDtype, KV_DTYPE_BYTES, vectorBytes } from './kv'
import { integerIn } from './limits'
import type { Plan } from './plan'

/** The price of verifying a plan; FLOPs count 2 per multiply-add of matmuls and attention, and nothing else. */
export interface PlanCost {
  /** Layers that are computed, the deepest one in part; the virtual layer counts as one. */
  layers: number
  /** Positions that are computed. */
  positions: number
  /** (layer, position) pairs. */
  samples: number
  /** Exact below 2^53, otherwise rounded to the nearest double. */
  flops: number
  /** K and V bytes of all samples. */
  bytes: number
  /** `flops` over those of a full prefill without the output head, 0 to 1. */
  share: number
}

/**
 * Cost of computing exactly what the plan needs.
 *
 * @param kvDtype - The header's; only `bytes` depends on it.
 * @throws {PocError} INVALID_ARGUMENT when the plan goes deeper than the model
 */
export function planCost(plan: Plan, config: ModelConfig, kvDtype: KvDtype = 'f32'): PlanCost {
  if (!Object.hasOwn(KV_DTYPE_BYTES, kvDtype)) {
    throw wrongValue('INVALID_ARGUMENT', 'kvDtype', "'f32', 'f16' or 'bf16'", kvDtype)
  }
  fieldsOf(plan, 'plan', 'INVALID_ARGUMENT')
  const flops = costThroughLayer(plan, config, plan.deepestLayer)
  return {
    layers: plan.deepestLayer + 1,
    positions: plan.numPositions,
    samples: plan.numSamples,
    flops,
    bytes: [...plan.layers].reduce((sum, [layer, { length }]) => {
      const { k, v } = vectorBytes(config, kvDtype, layer)
      return sum + length * (k + v)
    }, 0),
    share: flops / fullPrefillCost(plan, config),
  }
}

/**
 * FLOPs spent when the samples of `layer` have been extracted: all layers before it, and its own K and V.
 *
 * @param layer - From 0 to `plan.deepestLayer`, `numLayers` being the virtual layer; -1 for nothing yet.
 * @returns Exact below 2^53, otherwise rounded to the nearest double.
 * @throws {PocError} INVALID_ARGUMENT
 */
export function costThroughLayer(plan: Plan, config: ModelConfig, layer: number): number {
  const perPosition = layerFlops(config)
  fieldsOf(plan, 'plan', 'INVALID_ARGUMENT')
  integerIn(plan.deepestLayer, 0, config.numLayers, 'plan.deepestLayer', 'INVALID_ARGUMENT')
  integerIn(layer, -1, plan.deepestLayer, 'layer', 'INVALID_ARGUMENT')
  const cone = dependencyCone(plan)
  let flops = 0n
  for (let l = 0; l <= layer; l++) {
    const { keys, beyond } = cone[l]
    const positions = BigInt(keys + beyond.length)
    if (l < config.numLayers) flops += positions * perPosition.keysAndValues
    if (l === 0) continue
    // What the layer before has still to do for them.
    const pairs = causalPairs(keys, config) + BigInt(beyond.reduce((sum, p) => sum + keysSeenBy(p, config), 0))
    flops += positions * perPosition.rest + pairs * perPosition.pair
  }
  return Number(flops)
}

/** FLOPs of the output head at so many positions: what token replay costs beside their final hidden states. */
export function headCost(positions: number, config: ModelConfig): number {
  return Number(2n * BigInt(positions) * size(config, 'hiddenSize') * size(config, 'vocabSize'))
}

/** FLOPs of a full prefill of the plan's positions: every layer, without the output head. Exact below 2^53. */
export function fullPrefillCost(plan: Pick<Plan, 'numPositions'>, config: ModelConfig): number {
  const perPosition = layerFlops(config)
  fieldsOf(plan, 'plan', 'INVALID_ARGUMENT')
  const positions = BigInt(plan.numPositions) * (perPosition.keysAndValues + perPosition.rest)
  const layer = positions + perPosition.pair * causalPairs(plan.numPositions, config)
  return Number(BigInt(config.numLayers) * layer)
}

/** Positions that are computed at a layer: the first `keys`, which deeper layers need, and samples beyond them. */
interface Needed {
  keys: number
  beyond: Uint32Array
}

/** For each layer up to the deepest. */
function dependencyCone(plan: Plan): Needed[] {
  const cone: Needed[] = new Array(plan.deepestLayer + 1)
  let keys = 0
  for (let layer = plan.deepestLayer; layer >= 0; layer--) {
    const positions = plan.layers.get(layer) ?? new Uint32Array()
    const beyond = positions.filter((position) => position >= keys)
    cone[layer] = { keys, beyond }
    keys = Math.max(keys, 1 + (positions.at(-1) ?? -1))
  }
  return cone
}

/** FLOPs of one layer: for a position's K and V, for the rest of a position, for one (query, key) pair. */
export function layerFlops(config: ModelConfig): { keysAndValues: bigint; rest: bigint; pair: bigint } {
  fieldsOf(config, 'config', 'INVALID_ARGUMENT')
  const hidden = size(config, 'hiddenSize')
  const queryWidth = size(config, 'numHeads') * size(config, 'headDim')
  const kvWidth = size(config, 'numKvHeads') * size(config, 'headDim')
  return {
    keysAndValues: 4n * hidden * kvWidth,
    rest: 4n * hidden * queryWidth + 6n * hidden * size(config, 'intermediateSize'), // q, o; gate, up, down
    pair: 4n * queryWidth, // a score and a weighted value
  }
}

/** Pairs of a query at 0 .. count - 1 and a key that it sees. */
export function causalPairs(count: number, config: ModelConfig): bigint {
  const n = BigInt(count)
  const triangle = (side: bigint) => (side * (side + 1n)) / 2n
  const window = config.slidingWindow === null ? n : size(config, 'slidingWindow')
  return n <= window ? triangle(n) : triangle(window) + (n - window) * window
}

/** Keys that a query at `position` sees. */
function keysSeenBy(position: number, config: ModelConfig): number {
  return Math.min(position + 1, config.slidingWindow ?? Number.POSITIVE_INFINITY)
}

function size(config: ModelConfig, name: keyof ModelConfig): bigint {
  return BigInt(integerIn(config[name], 1, 2 ** 31, `config.${name}`, 'INVALID_ARGUMENT'))
}
