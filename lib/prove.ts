// The generator's side for tokens that already exist: plan, prefill, and the proof made of both.
import { checkRun } from './arguments'
import { bindingDigest, type ProofHeader, type SamplingParams } from './binding'
import type { Samplers } from './custom-sampler'
import { resolveLayerSampler, resolveTokenSampler } from './custom-sampler'
import { PocError, wrongValue } from './errors'
import { type KvDtype, type KvSample, samplesOf } from './kv'
import type { Model } from './model'
import { createPlan } from './plan'
import { checkTokens, prefill } from './prefill'
import type { Proof } from './proof'

/** What a proof states beside tokens and samples. Every default is the plainest choice. */
export interface ProofOptions extends Samplers, Partial<SamplingParams> {
  kvDtype?: KvDtype
  /** Hex, 0 to 64 bytes: the user's, so that an old proof cannot be handed over again. Default: empty. */
  nonce?: string
  /** Positions computed at a time; changes no result. */
  chunkSize?: number
  signal?: AbortSignal
}

export interface ProveOptions extends ProofOptions {
  /** How many of the tokens are prompt, 1 to `tokens.length`. */
  promptLength: number
  onProgress?: (fraction: number) => void
}

export const DEFAULT_TOKEN_SAMPLER = 'bernoulli:1/32'
export const DEFAULT_LAYER_SAMPLER = 'stratified:2'

/**
 * The header of a proof by this model.
 *
 * @throws {PocError} INVALID_ARGUMENT
 */
export function proofHeader(model: Model, promptLength: number, options: ProofOptions = {}): ProofHeader {
  checkRun(model, options)
  const { tokenSampler = DEFAULT_TOKEN_SAMPLER, layerSampler = DEFAULT_LAYER_SAMPLER } = options
  const nameOf = (sampler: string | { name: string }) => (typeof sampler === 'string' ? sampler : sampler?.name)
  const header: ProofHeader = {
    version: 1,
    modelDigest: model.digest,
    numLayers: model.config.numLayers,
    numKvHeads: model.config.numKvHeads,
    headDim: model.config.headDim,
    numerics: model.numerics,
    kvDtype: options.kvDtype ?? 'f32',
    promptLength,
    sampling: {
      temperature: options.temperature ?? 0,
      topK: options.topK ?? 0,
      topP: options.topP ?? 1,
      seed: (options.seed ?? '').toLowerCase(),
    },
    tokenSampler: resolveTokenSampler(nameOf(tokenSampler), tokenSampler).name,
    layerSampler: resolveLayerSampler(nameOf(layerSampler), layerSampler).name,
    nonce: (options.nonce ?? '').toLowerCase(),
  }
  bindingDigest(header) // refuses what a header may not hold before any work is done
  return header
}

/**
 * Proves a token sequence that already exists, by one prefill.
 *
 * @param tokens - Prompt then output, 2 to 2^20 ids of the vocabulary.
 * @throws {PocError} EMPTY_PROMPT, TOKEN_OUT_OF_RANGE, CONTEXT_OVERFLOW, INVALID_ARGUMENT, MODEL_NON_FINITE,
 *   BACKEND_FAILED, CLOSED; aborted, it rejects with the signal's reason.
 * @see Proof of Cache, section 3.2.
 */
export async function prove(model: Model, tokens: ArrayLike<number>, options: ProveOptions): Promise<Proof> {
  checkRun(model, options)
  return await proveWithHeader(model, proofHeader(model, options.promptLength, options), tokens, options)
}

/**
 * As {@link prove}, for a header that was made elsewhere; it may name another model than the one that runs, which
 * is how a forger would use it and how verifiers are tested.
 */
export async function proveWithHeader(
  model: Model,
  header: ProofHeader,
  tokens: ArrayLike<number>,
  options: Omit<ProveOptions, 'promptLength'> = {},
): Promise<Proof> {
  checkRun(model, options)
  const ids = tokenIds(tokens, 'tokens')
  checkTokens(model, ids.subarray(0, ids.length - 1))
  checkTokens(model, ids.subarray(ids.length - 1))
  const plan = createPlan(header, ids, options)
  const samples: KvSample[] = []
  const { chunkSize, signal, onProgress } = options
  for await (const layer of prefill(model, ids, plan, { kvDtype: header.kvDtype, chunkSize, signal, onProgress })) {
    for (const sample of samplesOf(layer)) samples.push(sample)
  }
  checkFinite(samples, header.kvDtype)
  return { header, tokens: ids, contextDigest: Buffer.from(plan.contextDigest).toString('hex'), samples }
}

/**
 * Token ids as a fresh Uint32Array.
 *
 * @throws {PocError} EMPTY_PROMPT, TOKEN_OUT_OF_RANGE, INVALID_ARGUMENT
 */
export function tokenIds(tokens: ArrayLike<number>, where: string): Uint32Array {
  const isList = Array.isArray(tokens) || (ArrayBuffer.isView(tokens) && !(tokens instanceof DataView))
  if (!isList) throw wrongValue('INVALID_ARGUMENT', where, 'an array or typed array of token ids', tokens)
  if (tokens.length === 0) throw new PocError('EMPTY_PROMPT', `${where} must hold at least one token`, { where })
  const ids = new Uint32Array(tokens.length)
  for (let i = 0; i < tokens.length; i++) {
    const token: unknown = tokens[i]
    if (!Number.isInteger(token) || (token as number) < 0 || (token as number) > 0xffffffff) {
      throw wrongValue('TOKEN_OUT_OF_RANGE', `${where}[${i}]`, 'a token id', token)
    }
    ids[i] = token as number
  }
  return ids
}

/** An honest generator has no NaN or infinity to hand over: its model is broken for this input. */
export function checkFinite(samples: readonly KvSample[], kvDtype: KvDtype): void {
  const isNotFinite = (row: Uint8Array) => {
    const { buffer, byteOffset, byteLength } = row.slice()
    if (kvDtype === 'f32')
      return new Uint32Array(buffer, byteOffset, byteLength / 4).some((x) => (x & 0x7f800000) === 0x7f800000)
    const exponent = kvDtype === 'f16' ? 0x7c00 : 0x7f80
    return new Uint16Array(buffer, byteOffset, byteLength / 2).some((x) => (x & exponent) === exponent)
  }
  const bad = samples.find(({ k, v }) => isNotFinite(k) || isNotFinite(v))
  if (bad) {
    const where = `K or V at layer ${bad.layer}, position ${bad.position}`
    throw wrongValue('MODEL_NON_FINITE', where, 'finite', 'a NaN or an infinity')
  }
}
