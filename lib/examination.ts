// What verifying a proof consists of beside the prefill: what is decided before it, what it is compared with, and the
// verdict.
import type { ProofHeader } from './binding'
import { costThroughLayer, fullPrefillCost, planCost } from './cost'
import type { Samplers } from './custom-sampler'
import { createSamplesHash } from './hash'
import { createMatcher, indicesOfPlan, type Matcher, type MatchResult, samplesFollowPlan } from './matcher'
import type { Model } from './model'
import { createPlan, type Plan } from './plan'
import { checkTokens } from './prefill'
import { type Proof, proofDigest } from './proof'
import type { Reason, ReasonCode, Verdict, VerdictStatus } from './verdict'

/** What a verifier asks of a proof before it works on it. */
export interface Demands extends Samplers {
  nonce?: string
  maxFlops?: number
}

/** A proof whose samples are to be recomputed and pushed into the matcher. */
export interface OpenExamination {
  readonly verdict: null
  readonly proof: Proof
  readonly plan: Plan
  readonly matcher: Matcher
  /** The verdict on what was compared; inconclusive while the matcher is not decided. */
  conclude(): Verdict
}

/** Decided without any model work, or open. */
export type Examination = { readonly verdict: Verdict } | OpenExamination

/**
 * Recomputes plan and digests of a well-formed proof that nobody else changes.
 *
 * @throws {PocError} INVALID_ARGUMENT (a sampler that must be given), TOKEN_OUT_OF_RANGE, CONTEXT_OVERFLOW
 */
export function examine(model: Model, proof: Proof, demands: Demands): Examination {
  const digest = proofDigest(proof)
  const plan = createPlan(proof.header, proof.tokens, demands)
  const decide = (status: VerdictStatus, reasons: Reason[], result: MatchResult = nothingMatched(plan)) =>
    verdictOf(model, digest, plan, status, reasons, result)

  const contradictions = structuralReasons(model, proof, plan, demands)
  if (contradictions.length > 0) return { verdict: decide('rejected', contradictions) }
  checkTokens(model, proof.tokens.subarray(0, plan.numPositions))
  checkTokens(model, proof.tokens.subarray(plan.numPositions))
  const { flops } = planCost(plan, model.config)
  const { maxFlops = Number.POSITIVE_INFINITY } = demands
  if (flops > maxFlops) {
    const tooMuch = reason('limit_exceeded', `the plan costs ${flops} FLOPs, over ${maxFlops}`)
    return { verdict: decide('inconclusive', [tooMuch]) }
  }
  const matcher = createMatcher(plan, proof.samples)
  const conclude = () => {
    const result = matcher.result()
    const { status, reasons } = outcome(result, plan)
    return decide(status, reasons, result)
  }
  return { verdict: null, proof, plan, matcher, conclude }
}

function outcome({ firstMismatch, unchecked }: MatchResult, plan: Plan): Pick<Verdict, 'status' | 'reasons'> {
  if (firstMismatch) {
    const { layer, position, part } = firstMismatch
    const message = `${part.toUpperCase()} differs at layer ${layer}, position ${position}`
    return { status: 'rejected', reasons: [reason('sample_mismatch', message)] }
  }
  if (unchecked.length > 0) {
    return { status: 'inconclusive', reasons: [reason('aborted', 'the verification was aborted')] }
  }
  return { status: 'accepted', reasons: [reason('all_samples_match', `all ${plan.numSamples} samples match`)] }
}

/** What is wrong with a proof before any model work: cheapest first, all of it. */
function structuralReasons(model: Model, proof: Proof, plan: Plan, { nonce }: Demands): Reason[] {
  const { header } = proof
  const reasons: Reason[] = []
  if (header.modelDigest !== model.digest) {
    const message = `model mismatch: the proof states ${header.modelDigest}, this model is ${model.digest}`
    reasons.push(reason('model_mismatch', message))
  }
  const parameters = differingParameters(header, model)
  if (parameters) reasons.push(reason('parameters_mismatch', parameters))
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
