// Runs a GGUF file in llama.cpp through node-llama-cpp, which is the user's to install, and takes the KV cache over.

import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { PocError } from '../errors'
import type { KvDtype } from '../kv'
import { temporaryFolder } from '../temporary-folder'

/** How llama.cpp computes; all of these are honest, and none gives the same bits as another. */
export interface LlamaRun {
  kvDtype: KvDtype
  flashAttention: boolean
  /** Positions computed at a time. */
  batchSize: number
}

export interface LlamaEngine {
  /** llama.cpp with its release, and node-llama-cpp with its version, as far as they are known. */
  readonly name: string
  /** The instruction sets that llama.cpp uses. */
  readonly systemInfo: string
  /** Evaluates tokens from the start and gives the bytes of `saveStateToFile`. */
  stateOf(tokens: Uint32Array, run: LlamaRun): Promise<Uint8Array>
  /** Prompt and `numTokens` tokens more, the likeliest each time. */
  greedy(prompt: Uint32Array, numTokens: number, run: LlamaRun): Promise<Uint32Array>
  close(): Promise<void>
}

// The part of node-llama-cpp 3 that is used here; its own types need it installed.
interface LlamaModule {
  getLlama(options: object): Promise<Llama>
  LlamaLogLevel: { error: unknown }
  getModuleVersion?(): Promise<string>
}
interface Llama {
  systemInfo: string
  llamaCppRelease?: { release?: string }
  loadModel(options: object): Promise<LlamaModel>
  dispose(): Promise<void>
}
interface LlamaModel {
  createContext(options: object): Promise<LlamaContext>
  dispose(): Promise<void>
}
interface LlamaContext {
  getSequence(): LlamaSequence
  dispose(): Promise<void>
}
interface LlamaSequence {
  clearHistory(): Promise<void>
  evaluateWithoutGeneratingNewTokens(tokens: number[]): Promise<void>
  evaluate(tokens: number[], options: object): AsyncIterable<number>
  saveStateToFile(path: string): Promise<unknown>
}

const GGML_TYPE: Readonly<Record<KvDtype, string>> = { f32: 'F32', f16: 'F16', bf16: 'BF16' }

export interface LlamaOptions {
  /** Most positions of a sequence. */
  capacity: number
  /** llama.cpp's threads wait for one another by spinning: more than idle cores take far longer than one. */
  threads: number
  /** node-llama-cpp's name, or the path of its entry file where Node does not find it by name. */
  location?: string
  /** Aborted, what is under way rejects with its reason. */
  signal?: AbortSignal
}

/**
 * Opens a GGUF file on the CPU.
 *
 * @throws {PocError} BACKEND_UNAVAILABLE where the package is missing or does not load, BACKEND_FAILED
 */
export async function openLlama(gguf: string, options: LlamaOptions): Promise<LlamaEngine> {
  const { threads, location = 'node-llama-cpp', signal } = options
  const module = await load(location)
  const failing = <T>(work: () => Promise<T>) => failingOf(work, signal)
  const { error: logLevel } = module.LlamaLogLevel
  const llama = await failing(() => module.getLlama({ gpu: false, build: 'never', logLevel, maxThreads: threads }))
  const file = { modelPath: resolve(gguf), gpuLayers: 0, loadSignal: signal }
  const model = await failing(() => llama.loadModel(file)).catch(async (error) => {
    await llama.dispose()
    throw error
  })
  const folder = await temporaryFolder('poc-llama-')
  const sequences = createSequences(model, options)
  return {
    name: await nameOf(module, llama),
    systemInfo: llama.systemInfo.replace(/[ |]+$/, ''),
    stateOf: (tokens, run) =>
      failing(async () => {
        const sequence = await sequences.of(run)
        await sequence.evaluateWithoutGeneratingNewTokens(Array.from(tokens))
        const state = join(folder.path, 'state')
        await sequence.saveStateToFile(state)
        return new Uint8Array(await readFile(state))
      }),
    greedy: (prompt, numTokens, run) =>
      failing(async () => {
        const sequence = await sequences.of(run)
        const tokens = Array.from(prompt)
        for await (const token of sequence.evaluate([...tokens], { temperature: 0, yieldEogToken: true })) {
          signal?.throwIfAborted()
          tokens.push(token)
          if (tokens.length === prompt.length + numTokens) break
        }
        return Uint32Array.from(tokens)
      }),
    async close() {
      try {
        await sequences.close()
        await model.dispose()
        await llama.dispose()
      } finally {
        await folder.remove()
      }
    },
  }
}

/** Printable ASCII, as a profile takes it. */
async function nameOf({ getModuleVersion }: LlamaModule, { llamaCppRelease }: Llama): Promise<string> {
  const version = await getModuleVersion?.()
  const release = llamaCppRelease?.release
  const name = `llama.cpp${release ? ` ${release}` : ''}${version ? ` (node-llama-cpp ${version})` : ''}`
  return name.replace(/[^\x20-\x7e]/g, '?').slice(0, 200)
}

/** One context a setting, whose only sequence is handed out emptied. */
function createSequences(model: LlamaModel, { capacity, threads, signal }: LlamaOptions) {
  const contexts = new Map<string, { context: LlamaContext; sequence: LlamaSequence }>()
  return {
    async of({ kvDtype, flashAttention, batchSize }: LlamaRun): Promise<LlamaSequence> {
      const key = `${kvDtype} ${flashAttention} ${batchSize}`
      let open = contexts.get(key)
      if (!open) {
        const type = GGML_TYPE[kvDtype]
        const cache = { experimentalKvCacheKeyType: type, experimentalKvCacheValueType: type }
        const work = { contextSize: capacity, batchSize, flashAttention, threads: { ideal: threads, min: threads } }
        const context = await model.createContext({ ...work, ...cache, sequences: 1, createSignal: signal })
        open = { context, sequence: context.getSequence() }
        contexts.set(key, open)
      }
      await open.sequence.clearHistory()
      return open.sequence
    },
    async close() {
      for (const { context } of contexts.values()) await context.dispose()
    },
  }
}

async function load(location: string): Promise<LlamaModule> {
  const isPath = location.includes('/') && !location.startsWith('@')
  const specifier = isPath ? pathToFileURL(resolve(location)).href : location
  try {
    return await import(specifier)
  } catch (cause) {
    const expected = 'installed beside this package (npm install node-llama-cpp)'
    const received = cause instanceof Error ? cause.message : String(cause)
    const message = `${location} must be ${expected}: ${received}`
    throw new PocError('BACKEND_UNAVAILABLE', message, { where: location, expected, received, cause })
  }
}

async function failingOf<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
  signal?.throwIfAborted()
  try {
    return await work()
  } catch (cause) {
    signal?.throwIfAborted()
    const received = cause instanceof Error ? cause.message : String(cause)
    throw new PocError('BACKEND_FAILED', `llama.cpp failed: ${received}`, { where: 'llama.cpp', received, cause })
  }
}
