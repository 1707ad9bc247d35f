// A model that is loaded once and used by any number of verifications and generations at a time.
import { availableParallelism } from 'node:os'
import { checkOptions } from './options'
import { addon, fromNative, type NativeModel, type NativeTensor } from './addon'
import type { Numerics } from './binding'
import type { ModelConfig } from './config'
import { modelDigest } from './digest'
import { PocError, wrongValue } from './errors'
import { type Checkpoint, readCheckpoint } from './safetensors'

export interface LoadOptions {
  /** `auto` takes the best one that works here. */
  backend?: 'auto' | 'cpu' | 'cuda'
  /** Threads for the CPU backend, 1 to 1024; no effect on any result. Default: one per available core. */
  threads?: number
  /** Instruction set, for tests: `auto`, `avx512`, `avx2` or `plain`; no effect on any result. */
  simd?: string
  signal?: AbortSignal
  /** Called with the share that is done, 0 to 1. */
  onProgress?: (fraction: number) => void
}

/**
 * An open model: weights packed once for the backend, immutable, shared by all runs.
 *
 * Its digest covers the config and every tensor, so that two models with one digest give the same bits.
 */
export class Model {
  /** The folder it was loaded from. */
  readonly path: string
  readonly config: ModelConfig
  /** SHA-256, 64 hex digits; see docs/FORMATS.md. */
  readonly digest: string
  readonly backend: 'cpu' | 'cuda' = 'cpu'
  readonly numerics: Numerics = 'ieee32'
  /** @internal */
  readonly native: NativeModel
  private readonly running = new Set<Promise<unknown>>()
  private isClosed = false

  private constructor(path: string, config: ModelConfig, digest: string, native: NativeModel) {
    this.path = path
    this.config = config
    this.digest = digest
    this.native = native
  }

  /**
   * Opens a Hugging Face folder: `config.json` and `model.safetensors`, or shards with their index.
   *
   * @throws {PocError} FILE_NOT_FOUND, MODEL_UNSUPPORTED, MODEL_MALFORMED, MODEL_NON_FINITE, OUT_OF_MEMORY,
   *   BACKEND_UNAVAILABLE, INVALID_ARGUMENT, ADDON_UNAVAILABLE; an aborted load rejects with the signal's reason.
   */
  static async load(path: string, options: LoadOptions = {}): Promise<Model> {
    checkOptions(options)
    const { backend = 'auto', threads = availableParallelism(), simd = 'auto', signal, onProgress } = options
    checkLoadArguments(path, backend, threads, simd)
    signal?.throwIfAborted()
    const checkpoint = await readCheckpoint(path)
    signal?.throwIfAborted()
    const native = openNative(checkpoint, threads, simd)
    const stop = new AbortController()
    const abort = () => stop.abort(signal?.reason)
    signal?.addEventListener('abort', abort, { once: true })
    stop.signal.addEventListener('abort', () => native.close())
    // Hashing and packing read the same pages, so they run side by side; packing is the shorter one.
    const digesting = modelDigest(checkpoint, {
      signal: stop.signal,
      onProgress: ({ done, total }) => onProgress?.((done / total + native.progress()) / 2),
    })
    const loading = native.load().catch((error) => {
      throw fromNative(error)
    })
    try {
      const [digest] = await Promise.all([digesting, loading])
      onProgress?.(1)
      return new Model(path, checkpoint.config, digest, native)
    } catch (error) {
      stop.abort(error)
      await Promise.allSettled([digesting, loading])
      if (signal?.aborted) throw signal.reason
      throw error
    } finally {
      signal?.removeEventListener('abort', abort)
    }
  }

  get closed(): boolean {
    return this.isClosed
  }

  /**
   * Stops all runs on this model, which then reject with CLOSED, and frees the weights. Idempotent; resolves
   * when nothing of the model is in use any more.
   */
  async close(): Promise<void> {
    this.isClosed = true
    this.native.close()
    await Promise.allSettled(this.running)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /**
   * Awaits native work of this model; its errors come out typed.
   * @internal
   */
  async run<T>(start: () => Promise<T>): Promise<T> {
    if (this.isClosed) throw closedError()
    let work: Promise<T> | undefined
    try {
      work = start()
      this.running.add(work)
      return await work
    } catch (error) {
      if (this.isClosed) throw closedError()
      throw fromNative(error)
    } finally {
      if (work) this.running.delete(work)
    }
  }
}

function closedError(): PocError {
  return new PocError('CLOSED', 'The model was closed', { where: 'model' })
}

function openNative(checkpoint: Checkpoint, threads: number, simd: string): NativeModel {
  const files = checkpoint.files.map((path, i) => ({ path, bytes: checkpoint.fileSizes[i] }))
  const tensors = checkpoint.tensors.map(({ name, dtype, shape, file, offset }): NativeTensor => {
    const [rows, cols] = shape.length === 2 ? shape : [1, shape[0]]
    return { name, dtype, rows, cols, file, offset }
  })
  try {
    return new (addon().Model)(checkpoint.config, files, tensors, { threads, simd })
  } catch (error) {
    throw fromNative(error)
  }
}

function checkLoadArguments(path: unknown, backend: unknown, threads: unknown, simd: unknown): void {
  if (typeof path !== 'string' || path === '') throw wrongValue('INVALID_ARGUMENT', 'path', 'a folder', path)
  if (backend !== 'auto' && backend !== 'cpu' && backend !== 'cuda') {
    throw wrongValue('INVALID_ARGUMENT', 'backend', "'auto', 'cpu' or 'cuda'", backend)
  }
  if (backend === 'cuda') {
    const message = 'The CUDA backend is not available: this version of the library has none'
    throw new PocError('BACKEND_UNAVAILABLE', message, { where: 'backend' })
  }
  if (!Number.isInteger(threads) || (threads as number) < 1 || (threads as number) > 1024) {
    throw wrongValue('INVALID_ARGUMENT', 'threads', 'an integer from 1 to 1024', threads)
  }
  if (typeof simd !== 'string') throw wrongValue('INVALID_ARGUMENT', 'simd', 'a string', simd)
}
