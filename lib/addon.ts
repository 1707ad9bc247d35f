// Finds and loads the native addon; the only file that knows it. Nothing is loaded before it is needed.
import { availableParallelism } from 'node:os'
import path from 'node:path'
import nodeGypBuild from 'node-gyp-build'
import { type ErrorCode, PocError } from './errors'
import type { CudaDevice, NativeAddon } from './native'

let loaded: NativeAddon | undefined

/**
 * The native addon, loaded at the first call.
 *
 * @throws {PocError} ADDON_UNAVAILABLE where there is no build for this platform.
 */
export function addon(): NativeAddon {
  if (loaded) return loaded
  try {
    // lib/ and dist/ both lie one level under the package root.
    loaded = nodeGypBuild(path.join(__dirname, '..')) as NativeAddon
    return loaded
  } catch (cause) {
    const message = 'The native addon could not be loaded. Build it with: npm rebuild proof-of-cache'
    throw new PocError('ADDON_UNAVAILABLE', message, { cause })
  }
}

/**
 * Makes this thread use the CUDA module at `path` from now on, for tests; '' is the one beside the addon.
 * @internal
 */
export function useCudaModule(path: string): void {
  addon().useCudaModule(path)
}

/** Whether a model can be loaded for a backend here. */
export interface BackendInfo {
  name: 'cpu' | 'cuda'
  available: boolean
  /** Why it is absent, or what stands behind it. */
  reason: string
  /** Where its module is looked for; `cuda` only. */
  path?: string
  /** In the order of `LoadOptions.device`; `cuda` only. */
  devices?: CudaDevice[]
}

/** What this installation can do. */
export interface Info {
  version: string
  napi: number
  cpu: {
    /** What the processor says it has, as far as it matters here. */
    features: string[]
    /** Instruction sets that the library has code for and this CPU can run, best first. */
    simd: string[]
    /** The one that is used unless another is asked for. */
    best: string
    /** Threads that a model uses unless told otherwise. */
    threads: number
  }
  backends: BackendInfo[]
}

/** Version, CPU features and backends, with the reason why one is absent. */
export function info(): Info {
  const { version, napi, simd, features, cuda } = addon().info()
  return {
    version,
    napi,
    cpu: { features, simd, best: simd[0], threads: availableParallelism() },
    backends: [
      { name: 'cpu', available: true, reason: `${simd[0]} kernels` },
      { name: 'cuda', ...cuda },
    ],
  }
}

/** A {@link PocError} for whatever a native call threw, with the native error as its cause. */
export function fromNative(error: unknown): PocError {
  if (error instanceof PocError) return error
  const { code, message, where, expected, received } = error as PocError
  const isNative = typeof code === 'string' && /^[A-Z_]+$/.test(code) && !code.startsWith('ERR_')
  return new PocError(isNative ? (code as ErrorCode) : 'INTERNAL', String(message ?? error), {
    where,
    expected,
    received,
    cause: error,
  })
}
