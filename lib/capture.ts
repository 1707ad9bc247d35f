// Captures K and V while a sequence grows: the native cache, the context chain beside it, and the samples so far.
import { addon, fromNative } from './addon'
import { flattened, type NativeSampling, type NativeSequence } from './native'
import { bindingDigest, contextChain, type ProofHeader } from './binding'
import { resolveLayerSampler, resolveTokenSampler, type Samplers } from './custom-sampler'
import { PocError } from './errors'
import { taggedHash } from './hash'
import { cutSamples, type KvSample, kvRowBytes } from './kv'
import type { Model } from './model'
import { addSamples } from './plan'

/** A growing sequence whose sampled vectors are copied out of the cache as their tokens are processed. */
export interface Capture {
  /** Feeds tokens, takes the samples that they ask for, and gives the token chosen after them. */
  append(tokens: Uint32Array): Promise<number>
  /** Adds the last position with KV, which every plan holds, and binds the token after it, which is not fed. */
  finish(lastToken: number): { samples: KvSample[]; contextDigest: string }
  /** Stops an append that is under way; the sequence is of no use afterwards. */
  cancel(): void
}

/**
 * A capture for at most `capacity` positions.
 *
 * @throws {PocError} CLOSED, INVALID_ARGUMENT
 * @see Proof of Cache, section 3.2: "captured alongside the generated token".
 */
export function createCapture(
  model: Model,
  header: ProofHeader,
  samplers: Samplers,
  capacity: number,
  chunkSize: number,
): Capture {
  const sequence = openSequence(model, header, capacity, chunkSize)
  const tokenSampler = resolveTokenSampler(header.tokenSampler, samplers.tokenSampler)
  const layerSampler = resolveLayerSampler(header.layerSampler, samplers.layerSampler)
  const chain = contextChain(bindingDigest(header))
  const sampling = nativeSampling(header)
  const rowBytes = kvRowBytes(header, header.kvDtype)
  const samples: KvSample[] = []
  let position = -1 // the last one fed
  let context: Uint8Array = new Uint8Array(0)
  let isSampled = false

  // One push a sample: there may be more of them than a call takes arguments.
  const takeRows = (byLayer: ReadonlyMap<number, number[]>, k: Uint8Array, v: Uint8Array) => {
    for (const sample of cutSamples(byLayer, k, v, rowBytes)) samples.push(sample)
  }

  return {
    async append(tokens) {
      const wanted = new Map<number, number[]>()
      for (const token of tokens) {
        context = chain.push(token)
        isSampled = tokenSampler.samples(context, ++position)
        if (isSampled) addSamples(wanted, layerSampler.layers(context, position, header.numLayers), position)
      }
      const byLayer = new Map([...wanted].sort(([a], [b]) => a - b))
      const { layers, counts, positions } = flattened(byLayer)
      const { k, v } = emptyRows(positions.length * rowBytes)
      const token = await model.run(() => sequence.append(tokens, layers, counts, positions, k, v, sampling, null))
      takeRows(byLayer, k, v)
      return token
    },

    finish(lastToken) {
      if (!isSampled) {
        const layers = Uint32Array.from(layerSampler.layers(context, position, header.numLayers))
        const { k, v } = emptyRows(layers.length * rowBytes)
        try {
          sequence.extract(layers, position, k, v)
        } catch (error) {
          throw fromNative(error)
        }
        takeRows(new Map(Array.from(layers, (layer) => [layer, [position]])), k, v)
      }
      samples.sort((a, b) => a.layer - b.layer || a.position - b.position)
      return { samples, contextDigest: Buffer.from(chain.push(lastToken)).toString('hex') }
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

/** The noise's key is the seed's digest, so that every bit of a seed of any length counts. */
function nativeSampling(header: ProofHeader): NativeSampling {
  const { temperature, topK, topP, seed } = header.sampling
  const digest = taggedHash('seed', Buffer.from(seed, 'hex'))
  const view = new DataView(digest.buffer, digest.byteOffset)
  return { temperature, topK, topP, key: Uint32Array.of(view.getUint32(0, true), view.getUint32(4, true)) }
}

function emptyRows(bytes: number): { k: Uint8Array; v: Uint8Array } {
  return { k: new Uint8Array(bytes), v: new Uint8Array(bytes) }
}
