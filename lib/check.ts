// The user's own validation of a verdict, without a model.

import { checkReplay, checkReplayed } from './check-replay'
import { wrongValue } from './errors'
import { planIfAsked, structuralFaults } from './check-structure'
import type { Samplers } from './custom-sampler'
import { digestOf } from './form'
import { indicesOfPlan } from './layer-walk'
import { checkNames, checkOptions } from './options'
import { EXACT, type ReplayDemands } from './replay'
import type { Plan } from './plan'
import { type Proof, proofDigest } from './proof'
import type { Request } from './structure'
import { parseVerdict, REASONS_OF_STATUS, type ReasonCode, type SampleIndex, type Verdict } from './verdict'

/** Stable codes saying what is wrong with a verdict. */
export type ProblemCode =
  | 'other_proof' // the verdict is about another proof
  | 'other_numerics'
  | 'reason_status' // the reasons are none, or not those of the status
  | 'reason_false' // a structural reason that the proof itself disproves
  | 'accepted_despite_structure'
  | 'structure_overlooked' // rejected, but not for the structural reason that is there
  | 'index_order'
  | 'index_not_in_plan'
  | 'index_repeated'
  | 'index_missing'
  | 'status_indices' // the three lists do not go with the status
  | 'first_mismatch' // not the first of the mismatched indices
  | 'termination' // the lists are not those of a verifier that stopped at the layer which decided
  | 'computed' // layers, positions or share cannot be those of such a verifier
  | 'samples_digest' // not that of the claimed samples although all of them matched, or the other way round
  | 'replay' // what it says about the replayed tokens does not go with its status, its reasons or the proof

export interface VerdictProblem {
  code: ProblemCode
  message: string
}

/** What the verifier was told. Which tokens it was to replay has {@link verify}'s defaults. */
export interface CheckOptions extends Samplers, ReplayDemands {
  /** The nonce that the user gave out, hex; unchecked when absent. */
  nonce?: string
  /** The beacon that the proof had to be opened for, hex; unchecked when absent. */
  beacon?: string
  /** The root that was published before, hex; unchecked when absent. */
  root?: string
  /** What was asked for; unchecked when absent. */
  request?: Request
}

const CHECK_OPTIONS: Readonly<Record<keyof CheckOptions, true>> = {
  nonce: true,
  beacon: true,
  root: true,
  request: true,
  replay: true,
  replaySeed: true,
  probabilityTest: true,
  tokenSampler: true,
  layerSampler: true,
}

/** Reasons that only recomputing can give: found after all structure, and one at a time. */
const FOUND_BY_MODEL: readonly ReasonCode[] = [
  'sample_mismatch',
  'digest_mismatch',
  'token_mismatch',
  'improbable_tokens',
]

/** Structural reasons that a verifier may find when it has computed: of a digest's opening, and of a race. */
const FOUND_LATE: readonly ReasonCode[] = ['opening_mismatch', 'replayed']

/** What the user finds: `valid` when there are no problems; each code at most once. */
export interface VerdictCheck {
  valid: boolean
  problems: VerdictProblem[]
}

export type Report = (code: ProblemCode, message: string) => void

/**
 * Checks a verdict against its proof: its indices are the plan's, complete and ordered, and go with its status, its
 * reasons, its first mismatch and what it says was computed. It cannot know whether the vectors really matched.
 * @throws {PocError} INVALID_ARGUMENT (no proof; a sampler that must be given; an unknown option), VERDICT_MALFORMED,
 *   PROOF_TOO_LARGE
 * @see Proof of Cache, section 3.2, "local validation".
 */
export function checkVerdict(proof: Proof, verdict: Verdict, options: CheckOptions = {}): VerdictCheck {
  checkOptions(options)
  checkNames(options, CHECK_OPTIONS)
  if (proof instanceof Uint8Array) throw wrongValue('INVALID_ARGUMENT', 'proof', 'a decoded proof', proof)
  const digest = proofDigest(proof) // refuses what is no proof
  parseVerdict(verdict)
  const problems: VerdictProblem[] = []
  const report: Report = (code, message) => {
    if (!problems.some((problem) => problem.code === code)) problems.push({ code, message })
  }
  const { plan, seed } = planIfAsked(proof, options)
  checkSubject(proof, digest, verdict, report)
  checkReasons(structuralFaults(proof, verdict, plan, options), verdict, report)
  checkOrder(verdict, report)
  checkPartition(plan, verdict, report)
  checkLists(verdict, report)
  const { matched, mismatched } = verdict
  const lastMatched = isDigestRejected(proof, verdict) ? plan.deepestLayer : (matched.at(-1)?.[0] ?? -1)
  const stop = mismatched[0]?.[0] ?? lastMatched // the layer after which the verifier stopped comparing
  if (!isDigestRejected(proof, verdict)) checkTermination(verdict, stop, report)
  checkComputed(proof, plan, verdict, stop, report)
  checkSamplesDigest(proof, verdict, stop, report)
  checkReplay(proof, verdict, report)
  checkReplayed(proof, verdict, seed, options, report)
  return { valid: problems.length === 0, problems }
}

function checkSubject(proof: Proof, digest: string, verdict: Verdict, report: Report): void {
  if (verdict.proofDigest !== digest)
    report('other_proof', `it is about ${verdict.proofDigest}, the proof is ${digest}`)
  const { numerics } = proof.header
  if (verdict.numerics !== numerics) report('other_numerics', `the proof is in ${numerics}, not ${verdict.numerics}`)
  const isCompared = verdict.computed.layers > 0
  if (isCompared && (verdict.profile === null) !== (numerics === EXACT)) {
    report('other_numerics', `a proof in ${numerics} compared under ${verdict.profile ?? 'no profile'}`)
  }
}

/** Whether all samples were recomputed and found not to be those that one digest stands for. */
function isDigestRejected({ header }: Proof, { reasons, computed }: Verdict): boolean {
  const codes = reasons.map((reason) => reason.code)
  const isLate = codes.includes('opening_mismatch') && computed.layers > 0
  return header.form === 'digest' && (codes.includes('digest_mismatch') || isLate)
}

function checkReasons(faults: ReadonlyMap<ReasonCode, boolean>, verdict: Verdict, report: Report): void {
  const { status } = verdict
  const codes = verdict.reasons.map((reason) => reason.code)
  const allowed = REASONS_OF_STATUS[status]
  const wrong = codes.find((code) => !allowed.includes(code))
  if (codes.length === 0) report('reason_status', `${status} for no reason`)
  if (wrong) report('reason_status', `${status} does not go with ${wrong}`)
  const byModel = codes.find((code) => FOUND_BY_MODEL.includes(code))
  if (byModel && codes.length > 1) {
    report('reason_status', `${byModel} stands alone: bad structure is found before anything is recomputed`)
  }
  for (const code of codes) {
    if (faults.get(code) === false) report('reason_false', `${code} is not true of this proof`)
  }
  const fault = [...faults].find(([, present]) => present)?.[0]
  if (fault && status === 'accepted') report('accepted_despite_structure', `accepted in spite of ${fault}`)
  if (fault && byModel) report('structure_overlooked', `${fault} was to be found first`)
}

function checkOrder(verdict: Verdict, report: Report): void {
  for (const part of ['matched', 'mismatched', 'unchecked'] as const) {
    const indices = verdict[part]
    const wrong = indices.findIndex((index, i) => i > 0 && !isBefore(indices[i - 1], index))
    if (wrong !== -1) report('index_order', `${part}[${wrong}] is not after the one before it`)
  }
}

function checkPartition(plan: Plan, verdict: Verdict, report: Report): void {
  const inPlan = new Set(indicesOfPlan(plan).map(keyOf))
  const left = new Set(inPlan)
  for (const index of [...verdict.matched, ...verdict.mismatched, ...verdict.unchecked]) {
    const key = keyOf(index)
    if (!inPlan.has(key)) report('index_not_in_plan', `the plan has no sample at ${shownIndex(index)}`)
    else if (!left.delete(key)) report('index_repeated', `${shownIndex(index)} is listed twice`)
  }
  if (left.size > 0) report('index_missing', `${left.size} of the plan's ${inPlan.size} samples are not listed`)
}

function checkLists(
  { status, reasons, matched, mismatched, unchecked, firstMismatch, computed }: Verdict,
  report: Report,
): void {
  const has = (...codes: ReasonCode[]) => reasons.some((reason) => codes.includes(reason.code))
  const onTokens = has('token_mismatch', 'improbable_tokens')
  const [first] = mismatched
  if ((status === 'accepted' || onTokens) && mismatched.length + unchecked.length > 0) {
    report('status_indices', `${onTokens ? 'rejected for its tokens' : 'accepted'}, but not every sample matched`)
  } else if (has('sample_mismatch') && !first) {
    report('status_indices', 'rejected for a sample, but none mismatched')
  } else if (has('digest_mismatch') && matched.length + mismatched.length > 0) {
    report('status_indices', 'rejected for a digest, which tells no samples apart')
  } else if (status === 'rejected' && !has(...FOUND_BY_MODEL, ...FOUND_LATE) && computed.layers > 0) {
    report('status_indices', 'rejected for its structure, but samples were computed')
  } else if (status === 'inconclusive' && first) {
    report('status_indices', 'inconclusive, but a sample mismatched')
  }
  if (firstMismatch?.layer !== first?.[0] || firstMismatch?.position !== first?.[1]) {
    report('first_mismatch', 'firstMismatch is not the first of the mismatched indices')
  }
}

function checkTermination({ matched, mismatched, unchecked }: Verdict, stop: number, report: Report): void {
  const late = [...matched, ...mismatched].find(([layer]) => layer > stop)
  const early = unchecked.find(([layer]) => layer <= stop)
  if (late) report('termination', `${shownIndex(late)} was compared after layer ${stop} decided`)
  if (early) report('termination', `${shownIndex(early)} is unchecked, but the verifier got to layer ${stop}`)
}

function checkComputed({ header }: Proof, plan: Plan, verdict: Verdict, stop: number, report: Report): void {
  const { layers, positions, share } = verdict.computed
  // An aborted verifier may have computed further than it had compared; one that replays tokens goes all the way.
  const maxLayers = verdict.replay
    ? header.numLayers + 1
    : verdict.status === 'inconclusive'
      ? plan.deepestLayer + 1
      : stop + 1
  if (layers <= stop || layers > maxLayers || (verdict.replay && layers < maxLayers)) {
    report('computed', `${layers} layers computed, but samples compared up to layer ${stop}`)
  }
  if (positions !== (layers > 0 ? plan.numPositions : 0)) {
    report('computed', `${positions} positions computed, the plan has ${plan.numPositions}`)
  }
  if (share > 0 !== layers > 0) report('computed', `a share of ${share} for ${layers} layers`)
}

// Where everything matched, the recomputed samples are the claimed ones, so the user knows their digest too.
function checkSamplesDigest(proof: Proof, verdict: Verdict, stop: number, report: Report): void {
  if (proof.header.form === 'digest' && stop < 0) return // a part of the samples that nobody else knows
  if (proof.header.numerics !== EXACT) return // other bits than the claimed ones, within the profile or not
  const claimed = proof.header.form === 'digest' ? proof.samplesDigest : digestOf(proof.samples, stop)
  const isClaimed = verdict.samplesDigest === claimed
  const differ = verdict.mismatched.length > 0 || verdict.reasons.some(({ code }) => code === 'digest_mismatch')
  if (!differ && !isClaimed) {
    report('samples_digest', 'it is not that of the claimed samples, although none mismatched')
  } else if (differ && isClaimed) {
    report('samples_digest', 'it is that of the claimed samples, although some mismatched')
  }
}

function isBefore(a: SampleIndex, b: SampleIndex): boolean {
  return a[0] < b[0] || (a[0] === b[0] && a[1] < b[1])
}

function keyOf([layer, position]: SampleIndex): string {
  return `${layer}/${position}`
}

function shownIndex([layer, position]: SampleIndex): string {
  return `layer ${layer}, position ${position}`
}
