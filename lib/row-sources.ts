// Where a calibration's rows come from: this engine on some model, llama.cpp, or vectors that were rounded afterwards.

import type { LlamaEngine, LlamaRun } from './adapters/node-llama-cpp'
import { llamaSamples, readLlamaState } from './adapters/llama-state'
import type { RowSource } from './calibrate'
import { wrongValue } from './errors'
import { generate } from './generate'
import { KV_DTYPE_BYTES, type KvDtype, type KvSample, samplesOf } from './kv'
import type { Model } from './model'
import type { Plan } from './plan'
import { prefill, type PrefillOptions } from './prefill'
import { valuesOf } from './relative-error'

/** This engine with a model of the same shape, and K and V stored in `kvDtype`. */
export function modelRows(name: string, model: Model, kvDtype: KvDtype, signal?: AbortSignal): RowSource {
  return {
    name,
    rows: async (tokens, plan) => ({ samples: await rowsOf(model, tokens, plan, { kvDtype, signal }), kvDtype }),
    greedy: async (prompt, numTokens) => {
      return (await generate(model, prompt, { maxNewTokens: numTokens, ignoreEos: true, kvDtype, signal })).tokens
    },
  }
}

/** llama.cpp's own cache after the tokens, read from what it saves. */
export function llamaRows(engine: LlamaEngine, model: Model, run: LlamaRun): RowSource {
  const attention = run.flashAttention ? 'flash attention' : 'plain attention'
  return {
    name: `${engine.name}, ${attention}, batch ${run.batchSize}`,
    async rows(tokens, plan) {
      const bytes = await engine.stateOf(tokens.subarray(0, plan.numPositions), run)
      const state = readLlamaState(bytes, model.config)
      return { samples: llamaSamples(state, plan), kvDtype: state.kvDtype }
    },
    greedy: (prompt, numTokens) => engine.greedy(prompt, numTokens, run),
  }
}

/**
 * Vectors that were rounded to int8 after the pass, one scale a vector. A generator whose cache is int8 has these
 * errors in the first layer and larger ones behind it, since its attention reads what was rounded.
 */
export function int8Rows(model: Model, kvDtype: KvDtype, signal?: AbortSignal): RowSource {
  return {
    name: 'K and V rounded to int8',
    rows: async (tokens, plan) => {
      const samples = await rowsOf(model, tokens, plan, { kvDtype, signal })
      return {
        samples: samples.map((sample) => ({ ...sample, k: int8(sample.k, kvDtype), v: int8(sample.v, kvDtype) })),
        kvDtype: 'f32',
      }
    },
  }
}

/**
 * Refuses a model whose vectors cannot be compared with another's.
 *
 * @throws {PocError} INVALID_ARGUMENT
 */
export function checkSameShape(model: Model, other: Model): void {
  for (const field of ['numLayers', 'numKvHeads', 'headDim', 'hiddenSize', 'vocabSize'] as const) {
    const [ours, theirs] = [model.config[field], other.config[field]]
    if (ours !== theirs)
      throw wrongValue('INVALID_ARGUMENT', `${other.path}: ${field}`, `${ours}, as in ${model.path}`, theirs)
  }
}

/** Whether chunks of another size give the same bits, as they must in one engine. */
export async function isChunkingExact(
  model: Model,
  tokens: Uint32Array,
  plan: Plan,
  kvDtype: KvDtype,
  signal?: AbortSignal,
): Promise<boolean> {
  const whole = await rowsOf(model, tokens, plan, { kvDtype, signal })
  const parts = await rowsOf(model, tokens, plan, { kvDtype, signal, chunkSize: 16 })
  return whole.every(({ k, v }, i) => Buffer.compare(k, parts[i].k) === 0 && Buffer.compare(v, parts[i].v) === 0)
}

async function rowsOf(model: Model, tokens: Uint32Array, plan: Plan, options: PrefillOptions) {
  const samples: KvSample[] = []
  for await (const layer of prefill(model, tokens, plan, options)) samples.push(...samplesOf(layer))
  return samples
}

function int8(row: Uint8Array, dtype: KvDtype): Uint8Array {
  const values = valuesOf(row, dtype)
  const scale = values.reduce((max, value) => Math.max(max, Math.abs(value)), 0) / 127 || 1
  const bytes = new Uint8Array(values.length * KV_DTYPE_BYTES.f32)
  const view = new DataView(bytes.buffer)
  values.forEach((value, i) => void view.setFloat32(4 * i, Math.round(value / scale) * scale, true))
  return bytes
}
