// One forward pass over prompt and output, layer by layer, as an async iterator that a `break` stops.
import { checkRun } from './arguments'
import { wrongValue } from './errors'
import type { KvDtype, LayerSamples } from './kv'
import type { Model } from './model'
import { openPass } from './pass'
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
  options.signal?.throwIfAborted()
  checkPlan(model, tokens, plan)
  const pass = openPass(model, [{ tokens, plan, parent: null, shared: 0 }], options)
  for await (const [samples] of pass.layers()) {
    if (samples.positions.length > 0) yield samples
  }
}

function checkPlan(model: Model, tokens: Uint32Array, plan: Plan): void {
  if (!(tokens instanceof Uint32Array)) throw wrongValue('INVALID_ARGUMENT', 'tokens', 'a Uint32Array', tokens)
  if (tokens.length < plan.numPositions) {
    throw wrongValue('INVALID_ARGUMENT', 'tokens', `at least the plan's ${plan.numPositions} positions`, tokens)
  }
  if (plan.deepestLayer > model.config.numLayers) {
    const expected = `at most ${model.config.numLayers}, the virtual layer`
    throw wrongValue('INVALID_ARGUMENT', 'plan.deepestLayer', expected, plan.deepestLayer)
  }
  checkTokens(model, tokens.subarray(0, plan.numPositions))
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
