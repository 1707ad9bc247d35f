// A native KV cache that grows, by a prompt or by a token at a time, with the sampler that chooses what comes next.
import { addon, fromNative } from './addon'
import type { ProofHeader, SamplingParams } from './binding'
import { PocError } from './errors'
import { taggedHash } from './hash'
import { bytesOf } from './hex'
import { vectorBytes } from './kv'
import type { Model } from './model'
import { flattened, type NativeSampling, type NativeSequence } from './native'
import { reasonOf } from './options'

/** Sampled rows of several layers, one layer after another, positions ascending. */
export interface Rows {
  k: Uint8Array
  v: Uint8Array
}

export interface Sequence {
  /**
   * Feeds tokens.
   *
   * @param wanted - Sampled positions by layer, layers ascending; their rows come back.
   * @param leaves - Null, or takes the leaf digests of these positions, (tokens, numLayers + 1, 32) bytes.
   * @returns The token that the sampler chooses after them; -1 without one.
   */
  append(
    tokens: Uint32Array,
    wanted: ReadonlyMap<number, number[]>,
    leaves: Uint8Array | null,
  ): Promise<Rows & { token: number }>
  /** K and V of a position that was fed, at some layers. */
  extract(layers: readonly number[], position: number): Rows
  /** Stops an append that is under way; the sequence is of no use afterwards. */
  cancel(): void
}

/**
 * A sequence of at most `capacity` positions; no memory is taken before the first append.
 *
 * @param sampling - Null where nothing is to be chosen.
 * @throws {PocError} CLOSED, INVALID_ARGUMENT
 */
export function openSequence(
  model: Model,
  { kvDtype }: Pick<ProofHeader, 'kvDtype'>,
  sampling: SamplingParams | null,
  capacity: number,
  chunkSize: number,
): Sequence {
  const native = openNative(model, kvDtype, capacity, chunkSize)
  const chooser = sampling && nativeSampling(sampling)
  const emptyRows = (counts: Iterable<[layer: number, count: number]>): Rows => {
    const bytes = { k: 0, v: 0 }
    for (const [layer, count] of counts) {
      const size = vectorBytes(model.config, kvDtype, layer)
      bytes.k += count * size.k
      bytes.v += count * size.v
    }
    return { k: new Uint8Array(bytes.k), v: new Uint8Array(bytes.v) }
  }
  return {
    async append(tokens, wanted, leaves) {
      const { layers, counts, positions } = flattened(wanted)
      const { k, v } = emptyRows(Array.from(layers, (layer, i) => [layer, counts[i]]))
      const token = await model.run(() => native.append(tokens, layers, counts, positions, k, v, chooser, null, leaves))
      return { token, k, v }
    },
    extract(layers, position) {
      const { k, v } = emptyRows(layers.map((layer) => [layer, 1]))
      try {
        native.extract(Uint32Array.from(layers), position, k, v)
      } catch (error) {
        throw fromNative(error)
      }
      return { k, v }
    },
    cancel: () => native.cancel(),
  }
}

/** Sampling parameters as native code takes them; the noise's key is a digest, so that all of a seed counts. */
export function nativeSampling({ temperature, topK, topP, seed }: SamplingParams): NativeSampling {
  const digest = taggedHash('seed', bytesOf(seed))
  const view = new DataView(digest.buffer, digest.byteOffset)
  return { temperature, topK, topP, key: Uint32Array.of(view.getUint32(0, true), view.getUint32(4, true)) }
}

function openNative(
  model: Model,
  kvDtype: ProofHeader['kvDtype'],
  capacity: number,
  chunkSize: number,
): NativeSequence {
  if (model.closed) throw new PocError('CLOSED', 'The model was closed', { where: 'model' })
  try {
    return new (addon().Sequence)(model.native, kvDtype, capacity, chunkSize)
  } catch (error) {
    throw fromNative(error)
  }
}

/** Work on a sequence that a signal cancels; cancelled, it rejects with the signal's reason. Nothing of it is kept. */
export async function cancelledBy<T>(
  sequence: Sequence,
  signal: AbortSignal | undefined,
  work: () => Promise<T>,
): Promise<T> {
  const abort = () => sequence.cancel()
  signal?.addEventListener('abort', abort, { once: true })
  try {
    return await work()
  } catch (error) {
    throw reasonOf(error, signal)
  } finally {
    signal?.removeEventListener('abort', abort)
    sequence.cancel()
  }
}
