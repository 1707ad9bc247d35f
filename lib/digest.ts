// The model digest: which network with which weights, whatever files they lie in. Its bytes: docs/FORMATS.md.
import { createHash, webcrypto } from 'node:crypto'
import type { FileHandle } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { encodeCanonical, float64 } from './cbor'
import type { ModelConfig } from './config'
import { wrongValue } from './errors'
import { openFile, readExactly } from './json'
import type { Checkpoint, TensorEntry } from './safetensors'

/** How a digest is computed; nothing here changes its value. */
export interface DigestOptions {
  /** Rejects with its reason when aborted. */
  signal?: AbortSignal
  /** Called after every piece that was read; in bytes. */
  onProgress?: (progress: { done: number; total: number }) => void
}

// WebCrypto copies its input on the event loop: 0.2 ms for this size, but several for 8 MiB.
const LEAF_BYTES = 2 ** 20
const DIGEST_BYTES = 32
/** Node's pool has four threads; more pieces in flight than keep it busy would only take memory. */
const MAX_IN_FLIGHT = 8

/**
 * SHA-256 over what makes a model this model: config and every tensor's name, dtype, shape and bytes, as 64
 * lowercase hex digits. The spread over files and config fields that change no computed value do not count.
 *
 * @throws {PocError} FILE_NOT_FOUND; MODEL_MALFORMED where a file changed since `checkpoint` was read.
 */
export async function modelDigest(checkpoint: Checkpoint, options: DigestOptions = {}): Promise<string> {
  options.signal?.throwIfAborted()
  const files: OpenFile[] = []
  try {
    for (const [i, path] of checkpoint.files.entries()) {
      const file = await openWeights(path, checkpoint.fileSizes[i])
      files.push(file)
      await checkUnchanged(file)
    }
    const tensors = [...checkpoint.tensors].sort((a, b) => (a.name < b.name ? -1 : 1))
    const leafDigests = await hashLeaves(tensors, files, options)
    for (const file of files) await checkUnchanged(file)
    const digests = tensors.map(({ name, dtype, shape }, i) =>
      taggedDigest('model-tensor', encodeCanonical([name, dtype, shape, leafDigests[i]])),
    )
    const digest = taggedDigest('model', encodeCanonical([digestedConfig(checkpoint.config), digests]))
    return Buffer.from(digest).toString('hex')
  } finally {
    await Promise.all(files.map(({ handle }) => handle.close()))
  }
}

// Every field that changes a computed value. Biases and q/k norms follow from the architecture; bos, eos and
// the longest context steer a generation but change no value.
function digestedConfig(config: ModelConfig): Record<string, unknown> {
  const scaling = config.ropeScaling
  return {
    architecture: config.architecture,
    vocabSize: config.vocabSize,
    hiddenSize: config.hiddenSize,
    intermediateSize: config.intermediateSize,
    numLayers: config.numLayers,
    numHeads: config.numHeads,
    numKvHeads: config.numKvHeads,
    headDim: config.headDim,
    rmsNormEps: float64(config.rmsNormEps),
    ropeTheta: float64(config.ropeTheta),
    ropeScaling: scaling && {
      type: scaling.type,
      factor: float64(scaling.factor),
      lowFreqFactor: float64(scaling.lowFreqFactor),
      highFreqFactor: float64(scaling.highFreqFactor),
      originalMaxPositions: scaling.originalMaxPositions,
    },
    slidingWindow: config.slidingWindow,
    tiedHead: config.tiedHead,
  }
}

function tag(use: 'model-leaf' | 'model-tensor' | 'model'): Buffer {
  return Buffer.from(`proof-of-cache/v1/${use}\0`, 'latin1')
}

function taggedDigest(use: 'model-tensor' | 'model', bytes: Uint8Array): Uint8Array {
  return new Uint8Array(createHash('sha256').update(tag(use)).update(bytes).digest())
}

// The digests of each tensor's pieces, one after the other; several workers share one list of jobs.
async function hashLeaves(tensors: TensorEntry[], files: OpenFile[], options: DigestOptions): Promise<Uint8Array[]> {
  const digests = tensors.map(({ bytes }) => new Uint8Array(Math.ceil(bytes / LEAF_BYTES) * DIGEST_BYTES))
  const leaves = listLeaves(tensors)
  const total = tensors.reduce((sum, { bytes }) => sum + bytes, 0)
  let done = 0
  const work = async () => {
    const leafTag = tag('model-leaf')
    const input = new Uint8Array(leafTag.length + LEAF_BYTES)
    input.set(leafTag)
    // A worker that throws here closes the shared generator, and with it the loops of the others.
    for (const { tensor, leaf, offset, bytes } of leaves) {
      options.signal?.throwIfAborted()
      const { handle, path } = files[tensors[tensor].file]
      await readExactly(handle, path, offset, input.subarray(leafTag.length, leafTag.length + bytes))
      const digest = await webcrypto.subtle.digest('SHA-256', input.subarray(0, leafTag.length + bytes))
      digests[tensor].set(new Uint8Array(digest), leaf * DIGEST_BYTES)
      done += bytes
      options.onProgress?.({ done, total })
    }
  }
  const numWorkers = Math.min(availableParallelism() + 1, MAX_IN_FLIGHT)
  const results = await Promise.allSettled(Array.from({ length: numWorkers }, work))
  for (const result of results) if (result.status === 'rejected') throw result.reason
  options.signal?.throwIfAborted()
  return digests
}

function* listLeaves(tensors: TensorEntry[]) {
  for (const [tensor, { offset, bytes }] of tensors.entries()) {
    for (let start = 0, leaf = 0; start < bytes; start += LEAF_BYTES, leaf++) {
      yield { tensor, leaf, offset: offset + start, bytes: Math.min(LEAF_BYTES, bytes - start) }
    }
  }
}

interface OpenFile {
  path: string
  handle: FileHandle
  size: number
  modified: number
}

async function openWeights(path: string, size: number): Promise<OpenFile> {
  const { handle, modified } = await openFile(path)
  return { path, handle, size, modified }
}

async function checkUnchanged({ path, handle, size, modified }: OpenFile): Promise<void> {
  const now = await handle.stat()
  if (now.size !== size) throw wrongValue('MODEL_MALFORMED', `${path}: file size`, `${size}`, now.size)
  if (now.mtimeMs !== modified) throw wrongValue('MODEL_MALFORMED', path, 'left alone while read', 'a change')
}
