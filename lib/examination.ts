// What verifying a proof consists of beside the prefill: what is decided before it, what it is compared with, and the
// verdict.
import { leafDigest, leafIndex, opensTo } from './challenge'
import { headCost, planCost } from './cost'
import type { Samplers } from './custom-sampler'
import { wrongValue } from './errors'
import { layerInForm } from './form'
import { bindingId, wasSeen } from './registry'
import { type LayerSamples, samplesOf } from './kv'
import { createDigestMatcher, createMatcher, type Matcher, type MatchResult } from './matcher'
import type { Model } from './model'
import { parseProfile } from './parse-profile'
import type { Pass } from './pass'
import { type PassPlan, planPass } from './pass-plan'
import { NO_PLAN, type Plan } from './plan'
import { checkTokens } from './prefill'
import { type Proof, proofDigest } from './proof'
import { outcomeOfReplay, type ReplayDemands, replayable, replayFault, replayNumbers, unreplayable } from './replay'
import { createReport, type Report } from './report'
import { REPLAYED, type StructuralDemands, structuralReasons, unplannableFault } from './structure'
import { type ToleranceProfile, whyNotCovered } from './tolerance'
import { createTolerantMatcher } from './tolerant-matcher'
import { atOnce, type Turns } from './turns'
import type { Reason, TokenReplay, Verdict } from './verdict'

/** What a verifier asks of a proof. */
export interface Demands extends Samplers, StructuralDemands, ReplayDemands {
  maxFlops?: number
  /** What a proof in other numerics than the model's is compared under; without one there is no verdict on it. */
  profile?: ToleranceProfile
}

/** A proof whose samples are to be recomputed. */
export interface OpenExamination {
  readonly verdict: null
  readonly proof: Proof
  /** What a pass must compute: the samples, and where the sampler is to choose again. */
  readonly plan: Plan
  /**
   * Takes the next layer of that plan; of the virtual layer, lets the sampler choose again, but without a pass.
   * `part`: of the pass.
   */
  push(layer: LayerSamples, pass: Pick<Pass, 'replay'> | null, part: number): Promise<void>
  /** True when nothing more can change the verdict. */
  readonly decided: boolean
  /** The verdict on what was compared; inconclusive while it is not decided. */
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
  return atOnce(examining(model, proof, demands))
}

/** {@link examine} in turns. */
export function* examining(model: Model, proof: Proof, demands: Demands): Turns<Examination> {
  checkLength(model, proof) // before a plan is laid out, which takes seconds for a million tokens
  const planned = yield* planIfAsked(model, proof, demands)
  if ('verdict' in planned) return planned
  const { plan, whole, replayed } = planned
  yield
  const digest = proofDigest(proof)
  yield
  const report = createReport(model, proof, digest, plan)
  const contradictions = structuralReasons(model, proof, plan, demands)
  if (contradictions.length > 0) return { verdict: report('rejected', contradictions) }
  const tolerance = toleranceFor(proof, plan, model, demands)
  if (typeof tolerance === 'string') {
    return { verdict: report('inconclusive', [{ code: 'no_profile', message: tolerance }]) }
  }
  const lacking = unreplayable(proof, demands, demands.profile)
  if (lacking !== null) return { verdict: report('inconclusive', [{ code: 'not_replayable', message: lacking }]) }
  checkTokens(model, proof.tokens.subarray(0, plan.numPositions))
  checkTokens(model, proof.tokens.subarray(plan.numPositions))
  const flops = planCost(whole, model.config).flops + headCost(replayed?.length ?? 0, model.config)
  const { maxFlops = Number.POSITIVE_INFINITY } = demands
  if (flops > maxFlops) {
    const message = `the plan costs ${flops} FLOPs, over ${maxFlops}`
    return { verdict: report('inconclusive', [{ code: 'limit_exceeded', message }]) }
  }
  const full = createReport(model, proof, digest, plan, whole, tolerance)
  return openExamination(model, proof, planned, full, tolerance, demands)
}

/**
 * {@link planPass}; or the verdict, with empty lists, on a proof that nobody can plan and that is not what was asked
 * for.
 */
function* planIfAsked(model: Model, proof: Proof, demands: Demands): Turns<PassPlan | { verdict: Verdict }> {
  try {
    return yield* planPass(proof, demands)
  } catch (error) {
    const message = unplannableFault(error, proof, demands.request)
    if (message === null) throw error
    const report = createReport(model, proof, proofDigest(proof), NO_PLAN)
    return { verdict: report('rejected', [{ code: 'request_mismatch', message }]) }
  }
}

/** Refuses tokens that the model has no room for. */
export function checkLength(model: Model, { tokens }: Pick<Proof, 'tokens'>): void {
  const { maxPositions } = model.config
  if (tokens.length - 1 <= maxPositions) return
  throw wrongValue('CONTEXT_OVERFLOW', 'tokens', `at most ${maxPositions} positions`, tokens.length - 1)
}

/** The profile that a proof is compared under, null for bit by bit; or, in words, why there is none. */
function toleranceFor(proof: Proof, plan: Plan, model: Model, demands: Demands): ToleranceProfile | string | null {
  const { header } = proof
  if (header.numerics === model.numerics) return null
  if (demands.profile === undefined) return `no tolerance profile for ${header.numerics} under ${model.numerics}`
  const profile = parseProfile(demands.profile)
  if (header.form === 'digest') return 'a digest cannot be compared under a tolerance'
  return whyNotCovered(profile, header, header.form, model.numerics, plan) ?? profile
}

function openExamination(
  model: Model,
  proof: Proof,
  { plan, whole, replayed }: PassPlan,
  report: Report,
  tolerance: ToleranceProfile | null,
  demands: Demands,
): OpenExamination {
  const { header } = proof
  const { numLayers } = model.config
  const isDigest = header.form === 'digest'
  const chosen = replayable(proof, demands.profile)
  const matcher = matcherOf(proof, plan, tolerance)
  const opened = new Map<number, Uint8Array>() // leaves, recomputed where the proof does not hold their vectors
  let replay: TokenReplay | null = null
  const isReplayed = () => replayed === null || replay !== null

  return {
    verdict: null,
    proof,
    plan: whole,
    async push(layer, pass, part) {
      const sampled = pick(layer, plan.layers.get(layer.layer))
      if (!matcher.decided) {
        if (isDigest && header.challenge === 'beacon') {
          for (const one of samplesOf(sampled)) {
            opened.set(leafIndex(header, one.layer, one.position), leafDigest(one))
          }
        }
        matcher.push(tolerance ? sampled : layerInForm(header, plan.contextDigest, sampled))
      }
      if (pass === null || layer.layer !== numLayers || replayed === null || matcher.failed) return
      replay = outcomeOfReplay(chosen, replayed, await replayNumbers(chosen, replayed, demands, pass, part))
    },
    get decided() {
      return matcher.failed || (matcher.decided && isReplayed())
    },
    conclude() {
      const result = matcher.result()
      const reasons = faults(proof, chosen.header.sampling !== null, result, opened, replay, tolerance)
      if (reasons.length > 0) return report('rejected', reasons, result, replay)
      if (!matcher.decided || !isReplayed()) {
        return report('inconclusive', [{ code: 'aborted', message: 'the verification was aborted' }], result)
      }
      const binding = bindingId(header, proof.root)
      if (wasSeen(demands.seen, binding)) return report('rejected', [REPLAYED], result, replay) // meanwhile
      demands.seen?.add(binding)
      const how = tolerance ? 'are within the profile' : 'match'
      const message = `all ${plan.numSamples} samples ${how}${replay ? `, ${replay.positions} tokens replayed` : ''}`
      return report('accepted', [{ code: 'all_samples_match', message }], result, replay)
    },
  }
}

function matcherOf(proof: Proof, plan: Plan, tolerance: ToleranceProfile | null): Matcher {
  const { header, samples, samplesDigest } = proof
  if (tolerance) return createTolerantMatcher(plan, samples, tolerance, plan.contextDigest)
  if (header.form === 'digest') return createDigestMatcher(plan, header, header.kvDtype, samplesDigest)
  return createMatcher(plan, samples)
}

/** What recomputed vectors and tokens say against a proof. */
function faults(
  proof: Proof,
  isChosen: boolean,
  result: MatchResult,
  opened: ReadonlyMap<number, Uint8Array>,
  replay: TokenReplay | null,
  tolerance: ToleranceProfile | null,
): Reason[] {
  const { header } = proof
  const { firstMismatch, digestMatches } = result
  if (firstMismatch) {
    const { layer, position, part } = firstMismatch
    const what = part === 'hidden' ? 'the final hidden state' : part.toUpperCase()
    const differs = tolerance ? 'is over the limits of the profile' : 'differs'
    const message = `${what} ${differs} at layer ${layer}, position ${position}`
    return [{ code: 'sample_mismatch', message }]
  }
  if (digestMatches === false) return [{ code: 'digest_mismatch', message: 'the digest is not that of the samples' }]
  if (digestMatches && header.challenge === 'beacon') {
    const leaves = new Map([...opened].sort(([a], [b]) => a - b))
    const message = 'the recomputed samples and the path do not lead to the root'
    if (!opensTo(proof, leaves, proof.path)) return [{ code: 'opening_mismatch', message }]
  }
  const fault = replay && replayFault(replay, isChosen, tolerance && (tolerance.tokenGap?.maxMeanGap ?? 0))
  return fault ? [fault] : []
}

/** The rows at some of a layer's positions. */
export function pick({ layer, positions, k, v }: LayerSamples, wanted: Uint32Array = new Uint32Array(0)): LayerSamples {
  if (wanted.length === positions.length) return { layer, positions, k, v }
  const rowOf = new Map(Array.from(positions, (position, row) => [position, row]))
  const rows = Array.from(wanted, (position) => rowOf.get(position) as number)
  const pickRows = (bytes: Uint8Array) => {
    const size = bytes.length / positions.length
    return new Uint8Array(Buffer.concat(rows.map((row) => bytes.subarray(row * size, (row + 1) * size))))
  }
  return { layer, positions: wanted, k: pickRows(k), v: pickRows(v) }
}
