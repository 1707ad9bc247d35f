// The generator's side for tokens that already exist: plan, prefill, and the proof made of both.
import { checkRun } from './arguments'
import {
  bindingDigest,
  type ChallengeMode,
  type ProofHeader,
  type SampleForm,
  type SamplingParams,
  type StopRule,
} from './binding'
import type { Samplers } from './custom-sampler'
import { resolveLayerSampler, resolveTokenSampler } from './custom-sampler'
import { PocError, wrongValue } from './errors'
import { inForm } from './form'
import { type KvDtype, type KvSample, samplesOf } from './kv'
import type { Model } from './model'
import { hexFrom } from './hex'
import { type Plan, planning } from './plan'
import { checkTokens, prefill } from './prefill'
import type { Proof } from './proof'
import { inTurns } from './turns'

/** What a proof states beside tokens and samples. Every default is the plainest choice. */
export interface ProofOptions extends Samplers, Partial<SamplingParams> {
  kvDtype?: KvDtype
  /** Hex, 0 to 64 bytes: the user's, so that an old proof cannot be handed over again. Default: empty. */
  nonce?: string
  /** How deep samples may lie: `kv`, `full` (final hidden states too) or, of a commitment, `random:n`. */
  depth?: string
  /** What the proof carries of its samples; default `rows`. */
  form?: SampleForm
  /** Root of the conversation's turn before this one, 64 hex digits. */
  previousRoot?: string
  /** Positions computed at a time; changes no result. */
  chunkSize?: number
  signal?: AbortSignal
}

export interface ProveOptions extends ProofOptions {
  /** How many of the tokens are prompt, 1 to `tokens.length`. */
  promptLength: number
  /** When generation had to end. Default: not stated. */
  stop?: StopRule | null
  onProgress?: (fraction: number) => void
}

export const DEFAULT_TOKEN_SAMPLER = 'bernoulli:1/32'
export const DEFAULT_LAYER_SAMPLER = 'stratified:2'

/** What only the caller of {@link proofHeader} knows. */
export interface HeaderOptions extends ProofOptions {
  stop?: StopRule | null
  /** Default: `context`. */
  challenge?: ChallengeMode
}

/**
 * The header of a proof by this model. Without any of the sampling parameters it does not state how tokens were
 * chosen, and they cannot be replayed.
 *
 * @throws {PocError} INVALID_ARGUMENT
 */
export function proofHeader(model: Model, promptLength: number, options: HeaderOptions = {}): ProofHeader {
  checkRun(model, options)
  const { tokenSampler = DEFAULT_TOKEN_SAMPLER, layerSampler = DEFAULT_LAYER_SAMPLER, challenge = 'context' } = options
  const nameOf = (sampler: string | { name: string }) => (typeof sampler === 'string' ? sampler : sampler?.name)
  const { numLayers, numKvHeads, headDim, hiddenSize } = model.config
  const header: ProofHeader = {
    version: 1,
    modelDigest: model.digest,
    numLayers,
    numKvHeads,
    headDim,
    hiddenSize,
    numerics: model.numerics,
    kvDtype: options.kvDtype ?? 'f32',
    promptLength,
    sampling: samplingOf(options),
    stop: options.stop ?? null,
    challenge,
    depth: options.depth ?? (challenge === 'beacon' ? 'full' : 'kv'),
    form: options.form ?? 'rows',
    tokenSampler: resolveTokenSampler(nameOf(tokenSampler), tokenSampler).name,
    layerSampler: resolveLayerSampler(nameOf(layerSampler), layerSampler).name,
    nonce: (options.nonce ?? '').toLowerCase(),
    previousRoot: (options.previousRoot ?? '').toLowerCase(),
  }
  bindingDigest(header) // refuses what a header may not hold before any work is done
  return header
}

function samplingOf({ temperature, topK, topP, seed }: Partial<SamplingParams>): SamplingParams | null {
  if ([temperature, topK, topP, seed].every((parameter) => parameter === undefined)) return null
  return { temperature: temperature ?? 0, topK: topK ?? 0, topP: topP ?? 1, seed: (seed ?? '').toLowerCase() }
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
  const ids = checkedTokens(model, tokens)
  const plan = await inTurns(planning(header, ids, options))
  const samples = await sampledBy(model, ids, plan, header.kvDtype, options)
  return proofOf(header, ids, plan, samples)
}

/** A proof whose positions come from the context, from its digest at the last token and the vectors at them. */
export function proofOf(
  header: ProofHeader,
  tokens: Uint32Array,
  { contextDigest }: Pick<Plan, 'contextDigest'>,
  samples: KvSample[],
): Proof {
  const carried = inForm(header, contextDigest, samples)
  return {
    header,
    tokens,
    contextDigest: hexFrom(contextDigest),
    ...carried,
    root: '',
    beacon: '',
    path: new Uint8Array(0),
  }
}

/** The vectors that a plan asks for, by one prefill; a NaN or an infinity among them is an error. */
export async function sampledBy(
  model: Model,
  tokens: Uint32Array,
  plan: Plan,
  kvDtype: KvDtype,
  { chunkSize, signal, onProgress }: Pick<ProveOptions, 'chunkSize' | 'signal' | 'onProgress'>,
): Promise<KvSample[]> {
  const samples: KvSample[] = []
  for await (const layer of prefill(model, tokens, plan, { kvDtype, chunkSize, signal, onProgress })) {
    for (const sample of samplesOf(layer)) samples.push(sample)
  }
  checkFinite(samples, kvDtype)
  return samples
}

/** Prompt and output as ids of the model's vocabulary that fit into its context. */
export function checkedTokens(model: Model, tokens: ArrayLike<number>): Uint32Array {
  const ids = tokenIds(tokens, 'tokens')
  checkTokens(model, ids.subarray(0, ids.length - 1))
  checkTokens(model, ids.subarray(ids.length - 1))
  return ids
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
  const isNotFinite = (row: Uint8Array, kvDtype: KvDtype) => {
    const { buffer, byteOffset, byteLength } = row.slice()
    if (kvDtype === 'f32')
      return new Uint32Array(buffer, byteOffset, byteLength / 4).some((x) => (x & 0x7f800000) === 0x7f800000)
    const exponent = kvDtype === 'f16' ? 0x7c00 : 0x7f80
    return new Uint16Array(buffer, byteOffset, byteLength / 2).some((x) => (x & exponent) === exponent)
  }
  const bad = samples.find(({ k, v }) => {
    return isNotFinite(k, v.length === 0 ? 'f32' : kvDtype) || isNotFinite(v, kvDtype) // a hidden state is f32
  })
  if (bad) {
    const where = `K or V at layer ${bad.layer}, position ${bad.position}`
    throw wrongValue('MODEL_NON_FINITE', where, 'finite', 'a NaN or an infinity')
  }
}
