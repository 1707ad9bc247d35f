// Generation that proves while it runs, so that the proof costs no second pass.
import { checkRun } from './arguments'
import { DEFAULT_CHUNK_SIZE } from './backend'
import { createCapture } from './capture'
import { PocError, wrongValue } from './errors'
import type { Model } from './model'
import { checkTokens } from './prefill'
import type { Proof } from './proof'
import { checkFinite, type ProofOptions, proofHeader, tokenIds } from './prove'

export interface GenerateOptions extends ProofOptions {
  /** At least 1; prompt and output must fit into the context. */
  maxNewTokens: number
  /** Go on after an end-of-sequence token. */
  ignoreEos?: boolean
  /** Called with each new token. */
  onToken?: (token: number) => void
}

export interface Generation {
  /** Prompt, then output. */
  tokens: Uint32Array
  proof: Proof
  finishReason: 'eos' | 'length'
}

/**
 * Generates and proves in one run: whenever the token sampler picks a position, the K and V of the layers that
 * the layer sampler names are copied out of the cache as that token is processed.
 *
 * The output is a pure function of model, prompt and sampling parameters: greedy at temperature 0, else the
 * largest of logit / temperature plus Gumbel noise from Philox4x32-10, keyed by the seed and counted by token and
 * position, among what topK and topP leave.
 * @param prompt - Token ids, at least one.
 * @throws {PocError} EMPTY_PROMPT, TOKEN_OUT_OF_RANGE, CONTEXT_OVERFLOW, INVALID_ARGUMENT, MODEL_NON_FINITE,
 *   OUT_OF_MEMORY, BACKEND_FAILED, CLOSED; aborted, it rejects with the signal's reason.
 * @see Proof of Cache, section 3.2, "Token-based KV Cache Sampling".
 */
export async function generate(model: Model, prompt: ArrayLike<number>, options: GenerateOptions): Promise<Generation> {
  checkRun(model, options)
  const { maxNewTokens, ignoreEos = false, signal, onToken } = options
  const { chunkSize = DEFAULT_CHUNK_SIZE[model.backend] } = options
  const ids = tokenIds(prompt, 'prompt')
  checkLength(model, ids, maxNewTokens)
  const header = proofHeader(model, ids.length, options)
  signal?.throwIfAborted()
  const capture = createCapture(model, header, options, ids.length + maxNewTokens - 1, chunkSize)
  const abort = () => capture.cancel()
  signal?.addEventListener('abort', abort, { once: true })
  try {
    const tokens = Array.from(ids)
    let input = ids
    let finishReason: Generation['finishReason'] = 'length'
    while (tokens.length < ids.length + maxNewTokens) {
      const token = await capture.append(input)
      tokens.push(token)
      onToken?.(token)
      if (!ignoreEos && model.config.eosTokenIds.includes(token)) {
        finishReason = 'eos'
        break
      }
      input = Uint32Array.of(token)
    }
    const all = Uint32Array.from(tokens)
    const { samples, contextDigest } = capture.finish(all[all.length - 1])
    checkFinite(samples, header.kvDtype)
    return { tokens: all, proof: { header, tokens: all, contextDigest, samples }, finishReason }
  } catch (error) {
    if (signal?.aborted && error instanceof PocError && error.code === 'ABORTED') throw signal.reason
    throw error
  } finally {
    signal?.removeEventListener('abort', abort)
    capture.cancel()
  }
}

function checkLength(model: Model, prompt: Uint32Array, maxNewTokens: number): void {
  if (!Number.isInteger(maxNewTokens) || maxNewTokens < 1) {
    throw wrongValue('INVALID_ARGUMENT', 'maxNewTokens', 'a positive integer', maxNewTokens)
  }
  checkTokens(model, prompt)
  const positions = prompt.length + maxNewTokens - 1 // the last token is never fed back
  const { maxPositions } = model.config
  if (positions > maxPositions) {
    const expected = `at most ${maxPositions} positions in the model's context`
    throw wrongValue('CONTEXT_OVERFLOW', 'prompt and maxNewTokens', expected, positions)
  }
}
