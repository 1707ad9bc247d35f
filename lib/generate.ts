// Generation that proves while it runs, so that the proof costs no second pass.
import { checkRun } from './arguments'
import { DEFAULT_CHUNK_SIZE } from './backend'
import type { ProofHeader } from './binding'
import { createCapture } from './capture'
import { type Commitment, createLeaves } from './commitment'
import { wrongValue } from './errors'
import type { Model } from './model'
import { checkTokens } from './prefill'
import type { Proof } from './proof'
import { checkFinite, type ProofOptions, proofHeader, proofOf, tokenIds } from './prove'
import { cancelledBy, openSequence } from './sequence'

export interface GenerateOptions extends ProofOptions {
  /** At least 1; prompt and output must fit into the context. */
  maxNewTokens: number
  /** Go on after an end-of-sequence token. */
  ignoreEos?: boolean
  /**
   * Commit to everything that is computed, for a challenge by a beacon; positions then do not come from the tokens.
   * See {@link Commitment}.
   */
  commit?: boolean
  /** Called with each new token. */
  onToken?: (token: number) => void
}

interface Grown {
  /** Prompt, then output. */
  tokens: Uint32Array
  finishReason: 'eos' | 'length'
}

export interface Generation extends Grown {
  proof: Proof
}

/** What `commit` gives: no proof before there is a challenge. */
export interface CommittedGeneration extends Grown {
  commitment: Commitment
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
export async function generate(
  model: Model,
  prompt: ArrayLike<number>,
  options: GenerateOptions & { commit: true },
): Promise<CommittedGeneration>
export async function generate(model: Model, prompt: ArrayLike<number>, options: GenerateOptions): Promise<Generation>
export async function generate(
  model: Model,
  prompt: ArrayLike<number>,
  options: GenerateOptions,
): Promise<Generation | CommittedGeneration> {
  checkRun(model, options)
  const { maxNewTokens, signal } = options
  const { chunkSize = DEFAULT_CHUNK_SIZE[model.backend] } = options
  const ids = tokenIds(prompt, 'prompt')
  checkLength(model, ids, maxNewTokens)
  const header = generationHeader(model, ids.length, options)
  signal?.throwIfAborted()
  const sequence = openSequence(model, header, header.sampling, ids.length + maxNewTokens - 1, chunkSize)
  return await cancelledBy(sequence, signal, async () => {
    if (options.commit) {
      const leaves = createLeaves(sequence, header)
      const grown = await grow(leaves, ids, header, options)
      return { ...grown, commitment: await leaves.finish(model, grown.tokens) }
    }
    const capture = createCapture(sequence, header, options)
    const grown = await grow(capture, ids, header, options)
    const { samples, ...bound } = capture.finish(grown.tokens[grown.tokens.length - 1])
    checkFinite(samples, header.kvDtype)
    return { ...grown, proof: proofOf(header, grown.tokens, bound, samples) }
  })
}

/** Token by token, until the header's rule ends it. */
async function grow(
  sequence: { append(tokens: Uint32Array): Promise<number> },
  prompt: Uint32Array,
  { stop }: ProofHeader,
  { maxNewTokens, onToken }: GenerateOptions,
): Promise<Grown> {
  const tokens = Array.from(prompt)
  let input = prompt
  while (tokens.length < prompt.length + maxNewTokens) {
    const token = await sequence.append(input)
    tokens.push(token)
    onToken?.(token)
    if (stop?.stopTokens.includes(token)) return { tokens: Uint32Array.from(tokens), finishReason: 'eos' }
    input = Uint32Array.of(token)
  }
  return { tokens: Uint32Array.from(tokens), finishReason: 'length' }
}

function generationHeader(model: Model, promptLength: number, options: GenerateOptions): ProofHeader {
  const { maxNewTokens, ignoreEos = false, temperature = 0 } = options
  const stopTokens = ignoreEos ? [] : [...new Set(model.config.eosTokenIds)].sort((a, b) => a - b)
  return proofHeader(model, promptLength, {
    ...options,
    temperature, // so that sampling is stated
    stop: { maxNewTokens, stopTokens },
    challenge: options.commit ? 'beacon' : 'context',
  })
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
