// One forward pass over prompt and output, layer by layer, as an async iterator that a `break` stops.
import { addon, flattened, fromNative } from './addon'
import { checkRun } from './arguments'
import { DEFAULT_CHUNK_SIZE } from './backend'
import { PocError, wrongValue } from './errors'
import { type KvDtype, kvRowBytes, type LayerSamples } from './kv'
import type { Model } from './model'
import type { Plan } from './plan'

export interface PrefillOptions {
  /** How K and V are rounded into the cache; the proof's. Default `f32`. */
  kvDtype?: KvDtype
  /** Positions computed at a time; bounds scratch memory, changes no result. Default 512 on the CPU, 4096 on a GPU. */
  chunkSize?: number
  signal?: AbortSignal
  /** Called after each layer with the share of the plan's layers that is done, 0 to 1. */
  onProgress?: (fraction: number) => void
}

/**
 * Computes what a plan needs and hands over the sampled K and V of one layer after another, from the first
 * sampled layer to the deepest.
 *
 * Only the dependency cone is computed: positions that no sample of this or a deeper layer depends on are left
 * out, and the deepest layer stops after K and V. While the caller looks at layer l, layer l + 1 is computed;
 * leaving the loop stops that work and waits until it has stopped.
 * @param tokens - Token ids; those at the plan's positions are used.
 * @throws {PocError} TOKEN_OUT_OF_RANGE, CONTEXT_OVERFLOW, INVALID_ARGUMENT, OUT_OF_MEMORY, BACKEND_FAILED, CLOSED; an
 *   aborted pass throws the signal's reason.
 * @see Proof of Cache, section 3.1, on early termination.
 */
export async function* prefill(
  model: Model,
  tokens: Uint32Array,
  plan: Plan,
  options: PrefillOptions = {},
): AsyncGenerator<LayerSamples, void, void> {
  checkRun(model, options)
  const { kvDtype = 'f32', chunkSize = DEFAULT_CHUNK_SIZE[model.backend], signal, onProgress } = options
  signal?.throwIfAborted()
  const run = openRun(model, tokens, plan, kvDtype, chunkSize)
  const abort = () => run.cancel()
  signal?.addEventListener('abort', abort, { once: true })
  const rowBytes = kvRowBytes(model.config, kvDtype)

  const compute = async (layer: number): Promise<LayerSamples> => {
    const positions = plan.layers.get(layer) ?? new Uint32Array(0)
    const k = new Uint8Array(positions.length * rowBytes)
    const v = new Uint8Array(positions.length * rowBytes)
    await model.run(() => run.next(k, v))
    return { layer, positions, k, v }
  }
  let ahead = compute(0)
  try {
    for (let layer = 0; layer <= plan.deepestLayer; layer++) {
      const samples: LayerSamples = await ahead
      if (layer < plan.deepestLayer) ahead = compute(layer + 1)
      ahead.catch(() => {}) // seen again where it is awaited, or not wanted any more
      onProgress?.((layer + 1) / (plan.deepestLayer + 1))
      if (samples.positions.length > 0) yield samples
    }
  } catch (error) {
    if (signal?.aborted && error instanceof PocError && error.code === 'ABORTED') throw signal.reason
    throw error
  } finally {
    signal?.removeEventListener('abort', abort)
    run.cancel()
    await ahead.catch(() => {})
  }
}

function openRun(model: Model, tokens: Uint32Array, plan: Plan, kvDtype: KvDtype, chunkSize: number) {
  if (!(tokens instanceof Uint32Array)) throw wrongValue('INVALID_ARGUMENT', 'tokens', 'a Uint32Array', tokens)
  if (tokens.length < plan.numPositions) {
    throw wrongValue('INVALID_ARGUMENT', 'tokens', `at least the plan's ${plan.numPositions} positions`, tokens)
  }
  if (plan.deepestLayer >= model.config.numLayers) {
    const expected = `within the model's ${model.config.numLayers} layers`
    throw wrongValue('INVALID_ARGUMENT', 'plan.deepestLayer', expected, plan.deepestLayer)
  }
  if (model.closed) throw new PocError('CLOSED', 'The model was closed', { where: 'model' })
  checkTokens(model, tokens.subarray(0, plan.numPositions))
  const { layers, counts, positions } = flattened(plan.layers)
  try {
    const used = tokens.slice(0, plan.numPositions)
    return new (addon().Prefill)(model.native, used, layers, counts, positions, kvDtype, chunkSize)
  } catch (error) {
    throw fromNative(error)
  }
}

/**
 * Checks that every id is in the vocabulary and that the sequence fits into the context.
 *
 * @throws {PocError} TOKEN_OUT_OF_RANGE, CONTEXT_OVERFLOW
 */
export function checkTokens(model: Model, tokens: Uint32Array): void {
  const { vocabSize, maxPositions } = model.config
  if (tokens.length > maxPositions) {
    throw wrongValue('CONTEXT_OVERFLOW', 'tokens', `at most ${maxPositions} positions`, tokens.length)
  }
  const at = tokens.findIndex((token) => token >= vocabSize)
  if (at >= 0) throw wrongValue('TOKEN_OUT_OF_RANGE', `tokens[${at}]`, `an id below ${vocabSize}`, tokens[at])
}
