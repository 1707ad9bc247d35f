// A model that is loaded once and used by any number of verifications and generations at a time.
import { addon, fromNative } from './addon'
import type { KvDtype } from './kv'
import type { NativeModel, NativeModelOptions, NativeTensor, OpDigest, OpTime } from './native'
import { type BackendOptions, backendOptions, resolveBackend } from './backend'
import type { Numerics } from './binding'
import type { ModelConfig } from './config'
import { modelDigest } from './digest'
import { PocError, wrongValue } from './errors'
import { checkUnchanged, fingerprints } from './fingerprint'
import { checkOptions } from './options'
import { type Checkpoint, readCheckpoint } from './safetensors'
import { CacheFile, type WeightCache } from './weight-cache'

export interface LoadOptions extends BackendOptions {
  /**
   * Folder for a file of packed weights, as large as the model: the first load writes it, later ones map it and
   * are done at once, weights and model digest included. Made where it is missing, though not the folders above it.
   * CPU backend only; without effect on `cuda`. It must be as trusted as the model's folder (docs/SECURITY.md).
   * Changes no result. Default: no such file.
   */
  cacheDir?: string
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
  /** Where it runs; no effect on any result. */
  readonly backend: 'cpu' | 'cuda'
  readonly numerics: Numerics = 'ieee32'
  /** What became of the file in `cacheDir`; undefined without one. */
  readonly weightCache: WeightCache | undefined
  /** @internal */
  readonly native: NativeModel
  private readonly running = new Set<Promise<unknown>>()
  private isClosed = false

  private constructor(path: string, { config, digest, backend, native, weightCache }: Loaded) {
    this.path = path
    this.config = config
    this.digest = digest
    this.backend = backend
    this.native = native
    this.weightCache = weightCache
  }

  /**
   * Opens a Hugging Face folder: `config.json` and `model.safetensors`, or shards with their index.
   *
   * @throws {PocError} FILE_NOT_FOUND, MODEL_UNSUPPORTED, MODEL_MALFORMED, MODEL_NON_FINITE, OUT_OF_MEMORY,
   *   BACKEND_UNAVAILABLE, BACKEND_FAILED, INVALID_ARGUMENT (a budget that is too small, too), ADDON_UNAVAILABLE; an
   *   aborted load rejects with the signal's reason.
   */
  static async load(path: string, options: LoadOptions = {}): Promise<Model> {
    checkOptions(options)
    if (typeof path !== 'string' || path === '') throw wrongValue('INVALID_ARGUMENT', 'path', 'a folder', path)
    const { signal, cacheDir } = options
    if (cacheDir !== undefined && (typeof cacheDir !== 'string' || cacheDir === '' || cacheDir.includes('\0'))) {
      throw wrongValue('INVALID_ARGUMENT', 'cacheDir', "a folder's path", cacheDir)
    }
    const asked = backendOptions(options)
    signal?.throwIfAborted()
    const checkpoint = await readCheckpoint(path)
    const chosen = await resolveBackend(asked, checkpoint.config)
    signal?.throwIfAborted()
    const native = openNative(checkpoint, chosen)
    const { config } = checkpoint
    const isCached = chosen.backend === 'cpu'
    const weights = await loadWeights(checkpoint, native, isCached ? options : { ...options, cacheDir: undefined })
    options.onProgress?.(1)
    return new Model(path, { config, backend: chosen.backend, native, ...weights })
  }

  /**
   * What each op took so far, over all runs; a model must be loaded with `timeOps` for it. The rest of a run's time
   * is what the library spends around its ops.
   *
   * @throws {PocError} INVALID_ARGUMENT without `timeOps`
   */
  opTimes(): OpTime[] {
    try {
      return this.native.opTimes()
    } catch (error) {
      throw fromNative(error)
    }
  }

  /**
   * Digests of one position's row after each op, from the block below `layer` up to that layer's leaf, in the order of
   * the computation: what two parties compare where their leaves part (see {@link locateDivergence}).
   *
   * @param tokens - Up to `position` at least.
   * @param layer - 0 to `numLayers`, the virtual layer.
   * @throws {PocError} INVALID_ARGUMENT, TOKEN_OUT_OF_RANGE, CLOSED, BACKEND_UNAVAILABLE on any but the CPU's backend
   */
  async traceOps(tokens: Uint32Array, kvDtype: KvDtype, layer: number, position: number): Promise<OpDigest[]> {
    return await this.run(() => this.native.trace(tokens, kvDtype, layer, position))
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

/** What makes a model. */
interface Loaded extends Weights {
  config: ModelConfig
  backend: 'cpu' | 'cuda'
  native: NativeModel
}

interface Weights {
  digest: string
  weightCache?: WeightCache
}

async function loadWeights(checkpoint: Checkpoint, native: NativeModel, options: LoadOptions): Promise<Weights> {
  const { signal, onProgress, cacheDir } = options
  const stop = new AbortController()
  const abort = () => stop.abort(signal?.reason)
  signal?.addEventListener('abort', abort, { once: true })
  stop.signal.addEventListener('abort', () => native.close())
  const works: Promise<unknown>[] = []
  try {
    const before = await fingerprints(checkpoint.files)
    const cache = cacheDir === undefined ? undefined : new CacheFile(cacheDir, checkpoint, before, native)
    const known = await cache?.load()
    signal?.throwIfAborted()
    if (cache && known !== undefined) return { digest: known, weightCache: { path: cache.path, status: 'used' } }
    // Hashing and packing read the same pages, so they run side by side.
    const digesting = modelDigest(checkpoint, {
      signal: stop.signal,
      onProgress: ({ done, total }) => onProgress?.((done / total + native.progress()) / 2),
    })
    const loading = cache ? cache.build(digesting) : loadNative(native)
    works.push(digesting, loading)
    const [digest, weightCache] = await Promise.all([digesting, loading])
    await checkUnchanged(checkpoint.files, before) // else digest and weights could be of two files
    return { digest, weightCache }
  } catch (error) {
    stop.abort(error)
    await Promise.allSettled(works)
    if (signal?.aborted) throw signal.reason
    throw error
  } finally {
    signal?.removeEventListener('abort', abort)
  }
}

async function loadNative(native: NativeModel): Promise<undefined> {
  await native.load().catch((error) => {
    throw fromNative(error)
  })
}

function closedError(): PocError {
  return new PocError('CLOSED', 'The model was closed', { where: 'model' })
}

function openNative(checkpoint: Checkpoint, options: NativeModelOptions): NativeModel {
  const files = checkpoint.files.map((path, i) => ({ path, bytes: checkpoint.fileSizes[i] }))
  const tensors = checkpoint.tensors.map(({ name, dtype, shape, file, offset }): NativeTensor => {
    const [rows, cols] = shape.length === 2 ? shape : [1, shape[0]]
    return { name, dtype, rows, cols, file, offset }
  })
  try {
    return new (addon().Model)(checkpoint.config, files, tensors, options)
  } catch (error) {
    throw fromNative(error)
  }
}
