// One native pass over the sequences of one or several verifications, layer by layer; leaving it stops it.
import { addon, fromNative } from './addon'
import { DEFAULT_CHUNK_SIZE } from './backend'
import { PocError } from './errors'
import { type KvDtype, type LayerSamples, vectorBytes } from './kv'
import type { Model } from './model'
import { flattened, type NativePart, type NativePrefill, type NativeSampling, REPLAY_VALUES } from './native'
import { reasonOf } from './options'
import type { Plan } from './plan'

/** A sequence of a pass. */
export interface PassPart {
  /** At least the plan's positions, each in the vocabulary. */
  tokens: Uint32Array
  plan: Plan
  /** A part before this one whose first `shared` tokens are this one's too; they are computed once. */
  parent: number | null
  /** A multiple of {@link pageSlots}; 0 without a parent. */
  shared: number
}

export interface PassOptions {
  kvDtype?: KvDtype
  chunkSize?: number
  signal?: AbortSignal
  onProgress?: (fraction: number) => void
}

export interface Pass {
  /**
   * Each layer up to the deepest that a plan samples: for each part its samples, none where its plan has none.
   * While the caller looks at layer l, layer l + 1 is computed; leaving the loop waits until that has stopped.
   */
  layers(): AsyncGenerator<LayerSamples[], void, void>
  /** Says that a part is decided: what only it needs is left out from now on, and its vectors mean nothing. */
  drop(part: number): void
  /**
   * Lets the sampler choose again after positions of the virtual layer, which the pass has just given and of which
   * {@link PassPart.plan} has these.
   *
   * @param tokens - The token claimed behind each position.
   * @param sampling - Null: nothing is chosen, only `surprise` is taken.
   * @returns {@link REPLAY_VALUES} numbers a position, see {@link NativePrefill.replay}.
   */
  replay(
    part: number,
    positions: Uint32Array,
    tokens: Uint32Array,
    sampling: NativeSampling | null,
    surprise: boolean,
  ): Promise<Float64Array>
}

/** What `shared` must be a multiple of: positions that the cache holds in one piece. */
export function pageSlots(model: Model, kvDtype: KvDtype): number {
  try {
    return addon().Prefill.pageSlots(model.native, kvDtype)
  } catch (error) {
    throw fromNative(error)
  }
}

/**
 * Opens a pass; no work is done and no memory taken before the first layer is asked for.
 *
 * @throws {PocError} CLOSED; its layers, also OUT_OF_MEMORY, BACKEND_FAILED, or the signal's reason once it is aborted.
 */
export function openPass(model: Model, parts: readonly PassPart[], options: PassOptions): Pass {
  const { kvDtype = 'f32', chunkSize = DEFAULT_CHUNK_SIZE[model.backend], signal, onProgress } = options
  const run = openRun(model, parts.map(nativePart), kvDtype, chunkSize)
  const deepestLayer = parts.reduce((deepest, { plan }) => Math.max(deepest, plan.deepestLayer), 0)

  const compute = async (layer: number): Promise<LayerSamples[]> => {
    const positions = parts.map(({ plan }) => plan.layers.get(layer) ?? new Uint32Array(0))
    const rows = positions.reduce((sum, some) => sum + some.length, 0)
    const bytes = vectorBytes(model.config, kvDtype, layer)
    const k = new Uint8Array(rows * bytes.k)
    const v = new Uint8Array(rows * bytes.v)
    await model.run(() => run.next(k, v))
    return cutParts(layer, positions, k, v)
  }
  async function* layers(): AsyncGenerator<LayerSamples[], void, void> {
    signal?.throwIfAborted()
    const abort = () => run.cancel()
    signal?.addEventListener('abort', abort, { once: true })
    let ahead = compute(0)
    try {
      for (let layer = 0; layer <= deepestLayer; layer++) {
        const samples = await ahead
        if (layer < deepestLayer) ahead = compute(layer + 1)
        ahead.catch(() => {}) // seen again where it is awaited, or not wanted any more
        onProgress?.((layer + 1) / (deepestLayer + 1))
        yield samples
      }
    } catch (error) {
      throw reasonOf(error, signal)
    } finally {
      signal?.removeEventListener('abort', abort)
      run.cancel()
      await ahead.catch(() => {})
    }
  }
  const replay: Pass['replay'] = async (part, positions, tokens, sampling, surprise) => {
    const out = new Float64Array(REPLAY_VALUES * positions.length)
    try {
      await model.run(() => run.replay(part, positions, tokens, sampling, surprise, out))
    } catch (error) {
      throw reasonOf(error, signal)
    }
    return out
  }
  return { layers, drop: (part) => run.drop(part), replay }
}

function openRun(model: Model, parts: NativePart[], kvDtype: KvDtype, chunkSize: number): NativePrefill {
  if (model.closed) throw new PocError('CLOSED', 'The model was closed', { where: 'model' })
  try {
    return new (addon().Prefill)(model.native, parts, kvDtype, chunkSize)
  } catch (error) {
    throw fromNative(error)
  }
}

function nativePart({ tokens, plan, parent, shared }: PassPart): NativePart {
  return { tokens: tokens.slice(shared, plan.numPositions), parent, firstPosition: shared, ...flattened(plan.layers) }
}

/** Rows of one layer, which follow one another part by part, as views. */
function cutParts(layer: number, positions: Uint32Array[], k: Uint8Array, v: Uint8Array): LayerSamples[] {
  const rows = positions.reduce((sum, some) => sum + some.length, 0)
  const cut = (bytes: Uint8Array, first: number, count: number) => {
    const row = rows === 0 ? 0 : bytes.length / rows
    return bytes.subarray(first * row, (first + count) * row)
  }
  let first = 0
  return positions.map((some) => {
    const samples = { layer, positions: some, k: cut(k, first, some.length), v: cut(v, first, some.length) }
    first += some.length
    return samples
  })
}
