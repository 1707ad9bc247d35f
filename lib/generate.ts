// Generation that captures the sampled K and V while it runs, so that the proof costs no second pass.
import { addon, fromNative, type NativeSampling, type NativeSequence } from './addon'
import { bindingDigest, contextChain, type ProofHeader } from './binding'
import { resolveLayerSampler, resolveTokenSampler } from './custom-sampler'
import { PocError, wrongValue } from './errors'
import { taggedHash } from './hash'
import { type KvSample, kvRowBytes } from './kv'
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
 *   OUT_OF_MEMORY, CLOSED; aborted, it rejects with the signal's reason.
 * @see Proof of Cache, section 3.2, "Token-based KV Cache Sampling".
 */
export async function generate(model: Model, prompt: ArrayLike<number>, options: GenerateOptions): Promise<Generation> {
  const { maxNewTokens, ignoreEos = false, chunkSize = 512, signal, onToken } = options
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
    const { samples, contextDigest } = capture.finish(all)
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

/** The native sequence, the context chain beside it, and the samples taken so far. */
function createCapture(
  model: Model,
  header: ProofHeader,
  options: GenerateOptions,
  capacity: number,
  chunkSize: number,
) {
  const sequence = openSequence(model, header, capacity, chunkSize)
  const tokenSampler = resolveTokenSampler(header.tokenSampler, options.tokenSampler)
  const layerSampler = resolveLayerSampler(header.layerSampler, options.layerSampler)
  const chain = contextChain(bindingDigest(header))
  const rowBytes = kvRowBytes(header, header.kvDtype)
  const sampling = nativeSampling(header)
  const samples: KvSample[] = []
  let length = 0
  let lastContext = new Uint8Array(0)

  const layersAt = (position: number) => layerSampler.layers(lastContext, position, header.numLayers)

  return {
    /** Feeds tokens, takes the samples they ask for, and gives the token chosen after them. */
    async append(tokens: Uint32Array): Promise<number> {
      const wanted = new Map<number, number[]>()
      for (const token of tokens) {
        const position = length++
        lastContext = chain.push(token) as Uint8Array<ArrayBuffer>
        if (!tokenSampler.samples(lastContext, position)) continue
        for (const layer of layersAt(position)) {
          const positions = wanted.get(layer)
          if (positions) positions.push(position)
          else wanted.set(layer, [position])
        }
      }
      const layers = [...wanted.keys()].sort((a, b) => a - b)
      const perLayer = layers.map((layer) => wanted.get(layer) as number[])
      const positions = Uint32Array.from(perLayer.flat())
      const k = new Uint8Array(positions.length * rowBytes)
      const v = new Uint8Array(positions.length * rowBytes)
      const counts = Uint32Array.from(perLayer, (some) => some.length)
      const token = await model.run(() =>
        sequence.append(tokens, Uint32Array.from(layers), counts, positions, k, v, sampling, null),
      )
      let row = 0
      layers.forEach((layer, i) => {
        for (const position of perLayer[i]) samples.push(sampleOf(layer, position, k, v, row++, rowBytes))
      })
      return token
    },

    /** Adds the last position with KV, which every plan holds, and binds the token after it. */
    finish(tokens: Uint32Array): { samples: KvSample[]; contextDigest: string } {
      const position = tokens.length - 2
      if (!samples.some((sample) => sample.position === position)) {
        const layers = layersAt(position)
        const k = new Uint8Array(layers.length * rowBytes)
        const v = new Uint8Array(layers.length * rowBytes)
        try {
          sequence.extract(Uint32Array.from(layers), position, k, v)
        } catch (error) {
          throw fromNative(error)
        }
        layers.forEach((layer, row) => void samples.push(sampleOf(layer, position, k, v, row, rowBytes)))
      }
      samples.sort((a, b) => a.layer - b.layer || a.position - b.position)
      return { samples, contextDigest: Buffer.from(chain.push(tokens[tokens.length - 1])).toString('hex') }
    },

    cancel: () => sequence.cancel(),
  }
}

function openSequence(model: Model, header: ProofHeader, capacity: number, chunkSize: number): NativeSequence {
  if (model.closed) throw new PocError('CLOSED', 'The model was closed', { where: 'model' })
  try {
    return new (addon().Sequence)(model.native, header.kvDtype, capacity, chunkSize)
  } catch (error) {
    throw fromNative(error)
  }
}

function nativeSampling(header: ProofHeader): NativeSampling {
  const { temperature, topK, topP, seed } = header.sampling
  const digest = taggedHash('seed', Buffer.from(seed, 'hex'))
  const view = new DataView(digest.buffer, digest.byteOffset)
  return { temperature, topK, topP, key: Uint32Array.of(view.getUint32(0, true), view.getUint32(4, true)) }
}

function sampleOf(
  layer: number,
  position: number,
  k: Uint8Array,
  v: Uint8Array,
  row: number,
  rowBytes: number,
): KvSample {
  const slice = (all: Uint8Array) => all.subarray(row * rowBytes, (row + 1) * rowBytes)
  return { layer, position, k: slice(k), v: slice(v) }
}
