// The pipeline, and the file to read first: structure and binding, then one prefill, layer by layer, that stops
// at the first layer with a mismatch.
import { checkRun } from './arguments'
import type { ProofHeader } from './binding'
import { costThroughLayer, fullPrefillCost, planCost } from './cost'
import type { Samplers } from './custom-sampler'
import { createSamplesHash } from './hash'
import { createMatcher, indicesOfPlan, type MatchResult, samplesFollowPlan } from './matcher'
import type { Model } from './model'
import { createPlan, type Plan } from './plan'
import { checkTokens, prefill } from './prefill'
import { type Proof, proofDigest } from './proof'
import type { Reason, ReasonCode, Verdict, VerdictStatus } from './verdict'

export interface VerifyOptions extends Samplers {
  /** The nonce that the user gave out, hex. Without it, nothing shows that the proof is fresh. */
  nonce?: string
  /** An upper bound on the work: a plan that costs more gives an inconclusive verdict. */
  maxFlops?: number
  /** Positions computed at a time; changes no result. */
  chunkSize?: number
  /** Aborted, the verdict is inconclusive. */
  signal?: AbortSignal
  onProgress?: (fraction: number) => void
}

/**
 * Says whether `model` computed what the proof claims.
 *
 * Plan and digests are recomputed first; a proof that contradicts itself, or names another model, is rejected
 * without any model work. Then one prefill over prompt and output, compared bit for bit, layer by layer.
 * @returns The same verdict for the same inputs, on every machine.
 * @throws {PocError} PROOF_MALFORMED, INVALID_ARGUMENT (a sampler that must be given), TOKEN_OUT_OF_RANGE,
 *   CONTEXT_OVERFLOW, OUT_OF_MEMORY, BACKEND_FAILED, CLOSED
 * @see Proof of Cache, section 3.2, "KV Cache-based Verification".
 */
export async function verify(model: Model, given: Proof, options: VerifyOptions = {}): Promise<Verdict> {
  checkRun(model, options)
  const digest = proofDigest(given) // also refuses an object that is no proof
  const proof = copyOf(given) // what the caller does to it from now on does not count
  const plan = createPlan(proof.header, proof.tokens, options)
  const conclude = (status: VerdictStatus, reasons: Reason[], result: MatchResult = nothingMatched(plan)) =>
    verdictOf(model, digest, plan, status, reasons, result)

  const contradictions = structuralReasons(model, proof, plan, options)
  if (contradictions.length > 0) return conclude('rejected', contradictions)
  checkTokens(model, proof.tokens.subarray(0, plan.numPositions))
  checkTokens(model, proof.tokens.subarray(plan.numPositions))
  const { flops } = planCost(plan, model.config)
  if (options.maxFlops !== undefined && flops > options.maxFlops) {
    return conclude('inconclusive', [
      reason('limit_exceeded', `the plan costs ${flops} FLOPs, over ${options.maxFlops}`),
    ])
  }

  const matcher = createMatcher(plan, proof.samples)
  const { chunkSize, signal, onProgress } = options
  try {
    const { kvDtype } = proof.header
    for await (const layer of prefill(model, proof.tokens, plan, { kvDtype, chunkSize, signal, onProgress })) {
      matcher.push(layer)
      if (matcher.decided) break // leaving the loop stops the native work: early termination
    }
  } catch (error) {
    if (!signal?.aborted || error !== signal.reason) throw error
    return conclude('inconclusive', [reason('aborted', 'the verification was aborted')], matcher.result())
  }
  const result = matcher.result()
  if (result.firstMismatch === null) {
    return conclude('accepted', [reason('all_samples_match', `all ${plan.numSamples} samples match`)], result)
  }
  const { layer, position, part } = result.firstMismatch
  const message = `${part.toUpperCase()} differs at layer ${layer}, position ${position}`
  return conclude('rejected', [reason('sample_mismatch', message)], result)
}

function copyOf({ header, tokens, contextDigest, samples }: Proof): Proof {
  const rows = samples.map(({ layer, position, k, v }) => ({ layer, position, k: k.slice(), v: v.slice() }))
  return { header: structuredClone(header), tokens: tokens.slice(), contextDigest, samples: rows }
}

/** What is wrong with a proof before any model work: cheapest first, all of it. */
function structuralReasons(model: Model, proof: Proof, plan: Plan, options: VerifyOptions): Reason[] {
  const { header } = proof
  const reasons: Reason[] = []
  if (header.modelDigest !== model.digest) {
    const message = `model mismatch: the proof states ${header.modelDigest}, this model is ${model.digest}`
    reasons.push(reason('model_mismatch', message))
  }
  const parameters = differingParameters(header, model)
  if (parameters) reasons.push(reason('parameters_mismatch', parameters))
  const { nonce } = options
  if (nonce !== undefined && nonce.toLowerCase() !== header.nonce) {
    reasons.push(reason('nonce_mismatch', `the proof states nonce '${header.nonce}', expected '${nonce}'`))
  }
  if (Buffer.from(plan.contextDigest).toString('hex') !== proof.contextDigest) {
    reasons.push(reason('context_mismatch', 'the context digest is not that of header and tokens'))
  }
  if (!samplesFollowPlan(plan, proof.samples)) {
    reasons.push(reason('plan_mismatch', 'the samples are not at the layers and positions that the plan asks for'))
  }
  return reasons
}

function differingParameters(header: ProofHeader, model: Model): string | null {
  for (const key of ['numLayers', 'numKvHeads', 'headDim'] as const) {
    if (header[key] !== model.config[key])
      return `the proof states ${key} ${header[key]}, the model has ${model.config[key]}`
  }
  return header.numerics === model.numerics
    ? null
    : `the proof states numerics ${header.numerics}, not ${model.numerics}`
}

function reason(code: ReasonCode, message: string): Reason {
  return { code, message }
}

function nothingMatched(plan: Plan): MatchResult {
  const samplesDigest = createSamplesHash().digest()
  const unchecked = indicesOfPlan(plan)
  return { matched: [], mismatched: [], unchecked, firstMismatch: null, samplesDigest, layersComputed: 0 }
}

function verdictOf(
  model: Model,
  digest: string,
  plan: Plan,
  status: VerdictStatus,
  reasons: Reason[],
  { layersComputed, ...indices }: MatchResult,
): Verdict {
  const spent = layersComputed > 0 ? costThroughLayer(plan, model.config, layersComputed - 1) : 0
  const share = spent > 0 ? spent / fullPrefillCost(plan, model.config) : 0
  return {
    version: 1,
    status,
    reasons,
    proofDigest: digest,
    modelDigest: model.digest,
    numerics: model.numerics,
    ...indices,
    computed: { layers: layersComputed, positions: layersComputed > 0 ? plan.numPositions : 0, share },
  }
}
