// Which backend a model is loaded for, and the options that say so.
import { availableParallelism } from 'node:os'
import { addon, fromNative } from './addon'
import type { NativeModelOptions } from './native'
import type { ModelConfig } from './config'
import { wrongValue } from './errors'
import { integerIn } from './limits'

/** Where a model runs. No choice here changes a result. */
export interface BackendOptions {
  /**
   * `auto`, the default, takes `cuda` where the GPU has what this model needs and `cpu` elsewhere; memory is not
   * looked at. Naming an instruction set with `simd` asks for `cpu`.
   */
  backend?: 'auto' | 'cpu' | 'cuda'
  /** Which GPU, by its place in `info()`; 0 by default. */
  device?: number
  /**
   * Most bytes that weights may take in the backend's memory. A model over it keeps none of its layers: each pass
   * reads them again, two at a time, and its files (or the one in `cacheDir`) must stay as they are until the model
   * is closed. Beside the budget come the KV cache, activations, and one tensor on its way. Default: no limit.
   */
  weightBudgetBytes?: number
  /** Threads for the CPU backend, 1 to 1024. Default: one per available core. */
  threads?: number
  /** Times every op, see `Model.opTimes`; asks for `cpu`. Default: no. */
  timeOps?: boolean
  /** Instruction set of the CPU backend, for tests: `auto`, `avx512`, `avx2`, `neon` or `plain`. */
  simd?: string
}

/** The widest heads that the CUDA backend has kernels for. */
const CUDA_MAX_HEAD_DIM = 256
const CUDA_MIN_CAPABILITY = 8

/** Positions computed at a time unless the caller says otherwise: enough to keep the backend busy. */
export const DEFAULT_CHUNK_SIZE: Readonly<Record<'cpu' | 'cuda', number>> = { cpu: 512, cuda: 4096 }

/**
 * The options with their defaults, `auto` not yet decided.
 *
 * @throws {PocError} INVALID_ARGUMENT
 */
export function backendOptions(options: BackendOptions): Required<BackendOptions> {
  const { backend = 'auto', device = 0, weightBudgetBytes = 0 } = options
  const { threads = availableParallelism(), simd = 'auto', timeOps = false } = options
  if (backend !== 'auto' && backend !== 'cpu' && backend !== 'cuda') {
    throw wrongValue('INVALID_ARGUMENT', 'backend', "'auto', 'cpu' or 'cuda'", backend)
  }
  integerIn(device, 0, 1023, 'device', 'INVALID_ARGUMENT')
  if (options.weightBudgetBytes !== undefined) {
    integerIn(weightBudgetBytes, 1, Number.MAX_SAFE_INTEGER, 'weightBudgetBytes', 'INVALID_ARGUMENT')
  }
  integerIn(threads, 1, 1024, 'threads', 'INVALID_ARGUMENT')
  if (typeof simd !== 'string') throw wrongValue('INVALID_ARGUMENT', 'simd', 'a string', simd)
  const canTime = timeOps === false || (timeOps === true && backend !== 'cuda')
  if (!canTime) throw wrongValue('INVALID_ARGUMENT', 'timeOps', 'true on the CPU backend, or false', timeOps)
  return { backend, device, weightBudgetBytes, threads, simd, timeOps }
}

/** What the native model takes, with `auto` decided for a model of this shape. */
export async function resolveBackend(
  options: Required<BackendOptions>,
  config: ModelConfig,
): Promise<NativeModelOptions> {
  const { backend, simd, device, timeOps } = options
  if (backend !== 'auto') return { ...options, backend }
  const isFit = simd === 'auto' && !timeOps && config.headDim <= CUDA_MAX_HEAD_DIM && (await isUsable(device))
  return { ...options, backend: isFit ? 'cuda' : 'cpu' }
}

async function isUsable(device: number): Promise<boolean> {
  try {
    const { available, devices } = await addon().openCuda()
    return available && Number.parseInt(devices[device]?.computeCapability ?? '0', 10) >= CUDA_MIN_CAPABILITY
  } catch (error) {
    throw fromNative(error)
  }
}
