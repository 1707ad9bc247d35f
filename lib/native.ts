// What the native addon's classes and functions take and give, as types; native/binding has them.
import type { ModelConfig } from './config'
import type { KvDtype } from './kv'

/** What a model is loaded for. */
export interface NativeModelOptions {
  backend: 'cpu' | 'cuda'
  threads: number
  simd: string
  /** Index of the GPU. */
  device: number
  /** 0: no budget. */
  weightBudgetBytes: number
  timeOps: boolean
}

/** A weight in a file: row-major, `rows` x `cols` (a vector has one row). */
export interface NativeTensor {
  name: string
  dtype: KvDtype
  rows: number
  cols: number
  /** Index into the list of files. */
  file: number
  /** Bytes from the file's start. */
  offset: number
}

export interface NativeModel {
  /** Maps the files, checks and packs the weights, and drops the mappings; under a budget it reads them instead. */
  load(): Promise<void>
  /**
   * Instead of load(): maps a file that writePacked() wrote and that begins with `header`. Rejects with FILE_NOT_FOUND
   * or MODEL_MALFORMED where it is another file; load() is possible then.
   */
  loadPacked(path: string, header: Uint8Array): Promise<void>
  /** Packs the weights into a new file, its header empty. Resolves with why it could not be written, '' if it was. */
  writePacked(path: string): Promise<string>
  /** Names what the bytes of such a file depend on beside the weights. */
  packedLayout(): string
  /** Share of the stored bytes that are packed, 0 to 1. */
  progress(): number
  /** Throws unless loaded with `timeOps`. */
  opTimes(): OpTime[]
  /**
   * A digest of `position`'s row after each op from the block before `layer` up to the leaf (layer, position), in the
   * order of the computation; native/core/traced_ops.h has their names. `layer` may be the virtual one.
   * Rejects with BACKEND_UNAVAILABLE on another backend than the CPU's.
   */
  trace(tokens: Uint32Array, kvDtype: KvDtype, layer: number, position: number): Promise<OpDigest[]>
  /** No new runs; those under way stop soon. Idempotent. */
  close(): void
}

/** An op and the SHA-256 digest of the row that it gave, as hex. */
export interface OpDigest {
  op: string
  digest: string
}

/** What one op took so far, over all runs of a model. */
export interface OpTime {
  op: string
  calls: number
  seconds: number
}

/** One sequence of a pass; its samples as {@link flattened} gives them. */
export interface NativePart {
  /** At positions `firstPosition` on. */
  tokens: Uint32Array
  /** A part before this one that has all positions before `firstPosition`, itself or by way of its own parent. */
  parent: number | null
  /** A multiple of `pageSlots`; 0 without a parent. */
  firstPosition: number
  /** May end with the virtual layer, whose index is the number of layers. */
  layers: Uint32Array
  counts: Uint32Array
  positions: Uint32Array
}

/** One pass over the layers; see native/binding/prefill.h. */
export interface NativePrefill {
  /** At the virtual layer `k` takes the final hidden states (fp32, after the final norm), and `v` nothing. */
  next(k: Uint8Array, v: Uint8Array): Promise<number>
  /**
   * What the hidden states at `positions`, which the part samples at the virtual layer, say of the tokens behind them,
   * `tokens[i]` at `positions[i] + 1`. After the virtual layer's next() has resolved; one call at a time.
   *
   * @param out - {@link REPLAY_VALUES} for each token: the chosen id (-1 without sampling); its score less the score
   * of `tokens[i]` (0 where equal; Infinity where top-k or top-p leave `tokens[i]` out; NaN without sampling); with
   * `surprise`, else NaN, -ln p(tokens[i]) / 2 - ln(sum of sqrt(p)), at temperature 1 over the whole vocabulary.
   */
  replay(
    part: number,
    positions: Uint32Array,
    tokens: Uint32Array,
    sampling: NativeSampling | null,
    surprise: boolean,
    out: Float64Array,
  ): Promise<void>
  drop(part: number): void
  cancel(): void
}

/** Of each token, in the output of {@link NativePrefill.replay}. */
export const REPLAY_VALUES = 3

/** How the next token is chosen. `key` is the noise's, two words. */
export interface NativeSampling {
  temperature: number
  topK: number
  topP: number
  key: Uint32Array
}

/** A KV cache that grows; see native/binding/sequence.h. */
export interface NativeSequence {
  append(
    tokens: Uint32Array,
    layers: Uint32Array,
    counts: Uint32Array,
    positions: Uint32Array,
    k: Uint8Array,
    v: Uint8Array,
    sampling: NativeSampling | null,
    logits: Uint8Array | null,
    /** Takes the leaf digests of the appended positions: 32 bytes for each (position, layer), the virtual one too. */
    leaves?: Uint8Array | null,
  ): Promise<number>
  /**
   * Rows of one position, copied at once. `layers` may end with the virtual layer (to `k` alone) for the last position
   * of an append that chose a token or gave logits.
   */
  extract(layers: Uint32Array, position: number, k: Uint8Array, v: Uint8Array): void
  cancel(): void
}

/** Sampled positions by layer, as the native classes take them: counts[i] positions belong to layers[i]. */
export function flattened(byLayer: ReadonlyMap<number, ArrayLike<number>>) {
  const counts = Uint32Array.from(byLayer.values(), (positions) => positions.length)
  const positions = new Uint32Array(counts.reduce((sum, count) => sum + count, 0))
  let at = 0
  for (const some of byLayer.values()) {
    positions.set(some, at)
    at += some.length
  }
  return { layers: Uint32Array.from(byLayer.keys()), counts, positions }
}

export interface NativeLayout {
  pageSize: number
  pageStride: number
  slotStride: number
  headStride: number
  dimStride: number
  dimSplit: number
  splitStride: number
}

/** A GPU. */
export interface CudaDevice {
  name: string
  /** Such as `9.0`; the library needs 8.0 or later. */
  computeCapability: string
  multiprocessors: number
  memoryBytes: number
}

/** The CUDA module, as the addon found it. */
export interface NativeCuda {
  available: boolean
  /** Why not; or the versions of driver and runtime. */
  reason: string
  path: string
  devices: CudaDevice[]
}

export interface NativeAddon {
  info(): {
    version: string
    napi: number
    simd: string[]
    features: string[]
    cuda: NativeCuda
  }
  /** As `info().cuda`, off this thread: the first call may have to wake a driver. */
  openCuda(): Promise<NativeCuda>
  useCudaModule(path: string): void
  extractRows(
    data: ArrayBufferView,
    layout: NativeLayout,
    blockTable: Uint32Array | null,
    shape: { dtype: KvDtype; numKvHeads: number; headDim: number },
    positions: Uint32Array,
    out: Uint8Array,
  ): void
  extractRowsFromDevice(
    device: number,
    pointer: bigint,
    layout: NativeLayout,
    blockTable: Uint32Array | null,
    shape: { dtype: KvDtype; numKvHeads: number; headDim: number },
    positions: Uint32Array,
    out: Uint8Array,
  ): { done: Promise<void>; cancel(): void }
  /** All nodes of the tree above leaves of 32 bytes each, level by level, the head last; nothing above one leaf. */
  merkleTree(leaves: Uint8Array): Promise<Uint8Array>
  Model: new (
    config: ModelConfig,
    files: { path: string; bytes: number }[],
    tensors: NativeTensor[],
    options: NativeModelOptions,
  ) => NativeModel
  Prefill: {
    new (model: NativeModel, parts: NativePart[], kvDtype: KvDtype, chunkSize: number): NativePrefill
    pageSlots(model: NativeModel, kvDtype: KvDtype): number
  }
  Sequence: new (model: NativeModel, kvDtype: KvDtype, capacity: number, chunkSize: number) => NativeSequence
}
