// The terms of one stakepool, and a linter for what they reward.
// Source: Proof of Cache, sections 3.3.1 to 3.3.3. Each finding is derived in docs/PAYOFFS.md.

import { ASSUMPTIONS, readAssumptions, type TermsAssumptions } from './assumptions'
import { type ErrorCode, PocError, wrongValue } from './errors'
import { type AmountLike, formatRatio, parseAmount, parseRatio, type Ratio, type RatioLike } from './ratio'

export type { TermsAssumptions } from './assumptions'
export { type AmountLike, formatRatio, parseAmount, parseRatio, type Ratio, type RatioLike } from './ratio'

const DEADLOCK_RULES = ['return-deposits', 'confirm-generator', 'refund-user'] as const

/** What empties the pool when no two results agree; docs/PAYOFFS.md gives the reason of each. */
export type DeadlockRule = (typeof DEADLOCK_RULES)[number]

const HONESTY_RULES = ['blind', 'canaries'] as const

/** Who fails a canary loses its stake; `blind` verifiers also seal their samples before they see the claimed ones. */
export type HonestyRule = (typeof HONESTY_RULES)[number]

/** What user, generator and verifiers agreed on before the first deposit. */
export interface Terms {
  /** The user pays alpha Cg for the service and at most alpha Cv for its verification. */
  readonly alpha: Ratio
  /** A generator stakes beta Cg, a verifier beta Cv. */
  readonly beta: Ratio
  /** Cg, smallest unit, at least 1. */
  readonly generationCost: bigint
  /** Cv, smallest unit, at least 1. */
  readonly verificationCost: bigint
  /** Verdicts after which a dispute without agreement is a deadlock, 1 to {@link MAX_STAGES}. */
  readonly maxStages: number
  readonly onDeadlock: DeadlockRule
  /** What keeps verifiers from echoing; if absent, nothing but the stake does. */
  readonly honesty?: HonestyRule
}

/** {@link Terms} as a caller or a JSON file writes them; without `onDeadlock`, it is `'return-deposits'`. */
export interface TermsInput {
  alpha: RatioLike
  beta: RatioLike
  generationCost: AmountLike
  verificationCost: AmountLike
  maxStages: number
  onDeadlock?: DeadlockRule
  honesty?: HonestyRule
}

/** {@link Terms} in JSON: ratios as `'n/d'`, amounts as decimal strings. */
export type TermsJson = { [K in keyof Terms]: Terms[K] extends Ratio | bigint ? string : Terms[K] }

/** The four products that every deposit and payout is made of; smallest unit. */
export interface TermsAmounts {
  /** alpha Cg: the user's payment for the service. */
  servicePayment: bigint
  /** alpha Cv: the most that verification may cost the user. */
  verificationPayment: bigint
  /** beta Cg. */
  generatorStake: bigint
  /** beta Cv, of each verifier. */
  verifierStake: bigint
}

/** Stable code of a finding. */
export type TermsFindingCode =
  | 'insolvent' // the second verifier's payout would be negative
  | 'verifier_underpaid' // the second verifier can earn less than alpha Cv by being right
  | 'never_slashed' // one stage: no two verifiers can ever agree
  | 'user_loss_above_limit' // alpha Cv is over the limit
  | 'cheating_pays' // the expected penalty does not exceed the gain
  | 'verifier_work_unpaid' // being right can earn less than the work costs
  | 'echoing_pays' // a verifier that accepts without computing expects no less than one that computes

/** Something that terms reward wrongly; an `error` cannot be settled, and {@link createTerms} refuses it. */
export interface TermsFinding {
  code: TermsFindingCode
  severity: 'error' | 'warning'
  message: string
}

/** The most stages that terms may allow. */
export const MAX_STAGES = 100

/**
 * Makes terms that can always be settled.
 * @throws {PocError} TERMS_INVALID: a wrong field, a fractional product, an error of {@link lintTerms}.
 * @see Proof of Cache, section 3.3.1.
 */
export function createTerms(input: TermsInput): Terms {
  const terms = readTerms(input)
  const error = lintTerms(terms).find((finding) => finding.severity === 'error')
  if (error) throw new PocError('TERMS_INVALID', `these terms cannot be settled: ${error.message}`)
  return terms
}

/** {@link createTerms} for a value of unknown shape, such as parsed JSON; throws the same. */
export function parseTerms(json: unknown): Terms {
  return createTerms(json as TermsInput)
}

/** The JSON form of terms; {@link parseTerms} reads it back. */
export function termsToJson(terms: Terms): TermsJson {
  const { alpha, beta, generationCost, verificationCost, ...rest } = terms
  const costs = { generationCost: `${generationCost}`, verificationCost: `${verificationCost}` }
  return { alpha: formatRatio(alpha), beta: formatRatio(beta), ...costs, ...rest }
}

/**
 * The four products of the terms.
 * @throws {PocError} TERMS_INVALID: one of them is not a whole number of units.
 */
export function termsAmounts(terms: Terms): TermsAmounts {
  return {
    servicePayment: product('alpha * generationCost', terms.alpha, terms.generationCost),
    verificationPayment: product('alpha * verificationCost', terms.alpha, terms.verificationCost),
    generatorStake: product('beta * generationCost', terms.beta, terms.generationCost),
    verifierStake: product('beta * verificationCost', terms.beta, terms.verificationCost),
  }
}

/** What each party deposits, smallest unit; throws as {@link termsAmounts}. */
export function termsDeposits(terms: Terms): { user: bigint; generator: bigint; verifier: bigint } {
  const { servicePayment, verificationPayment, generatorStake, verifierStake } = termsAmounts(terms)
  return { user: servicePayment + verificationPayment, generator: generatorStake, verifier: verifierStake }
}

/**
 * Says what is wrong with the economics of terms, in the order of {@link TermsFindingCode}.
 *
 * Cheating is deterred when `c d L > g` (challenge and detection probability, gain), L being what a refuted
 * generator forgoes: (alpha + beta) Cg. With one stage a rejection deadlocks and slashes no stake: L is then
 * alpha Cg, or 0 under `'confirm-generator'`.
 * @throws {PocError} TERMS_INVALID: terms of a wrong form; INVALID_ARGUMENT: assumptions of a wrong form.
 * @see Proof of Cache, section 3.3.3.
 */
export function lintTerms(input: TermsInput, assumptions: TermsAssumptions = {}): TermsFinding[] {
  const terms = readTerms(input)
  const amounts = termsAmounts(terms)
  const { servicePayment, verificationPayment: promised, generatorStake, verifierStake } = amounts
  checkKeys(assumptions, 'assumptions', [], ASSUMPTIONS, 'INVALID_ARGUMENT')
  const { cheating, echoing, work, limit = servicePayment } = readAssumptions(assumptions, terms, amounts)
  const slashes = terms.maxStages > 1
  const net = generatorStake - promised // of V_2 that confirms V_1: its payout less its stake
  const payout = net + verifierStake
  const least = slashes && net < promised ? net : promised
  const found: [TermsFindingCode, boolean, string][] = [
    ['insolvent', slashes && payout < 0n, `V_2 would be paid ${payout} for confirming V_1`],
    ['verifier_underpaid', least < promised, `V_2 nets ${net} by confirming V_1, alpha Cv is ${promised}`],
    ['never_slashed', !slashes, 'maxStages is 1: every rejection is a deadlock, no generator is slashed'],
    ['user_loss_above_limit', promised > limit, `a challenge may cost the user ${promised}, over ${limit}`],
    ['cheating_pays', cheating.pays, cheating.message],
    ['echoing_pays', echoing.pays, echoing.message],
    ['verifier_work_unpaid', least < (work ?? least), `a verifier may net ${least} by work costing ${work}`],
  ]
  return found.flatMap(([code, holds, message]) =>
    holds ? [{ code, severity: code === 'insolvent' ? 'error' : 'warning', message }] : [],
  )
}

function readTerms(input: TermsInput): Terms {
  const required = ['alpha', 'beta', 'generationCost', 'verificationCost', 'maxStages']
  checkKeys(input, 'terms', required, ['onDeadlock', 'honesty'], 'TERMS_INVALID')
  const { maxStages, onDeadlock = 'return-deposits', honesty } = input
  if (!Number.isInteger(maxStages) || maxStages < 1 || maxStages > MAX_STAGES) {
    throw wrongValue('TERMS_INVALID', 'maxStages', `an integer from 1 to ${MAX_STAGES}`, maxStages)
  }
  if (!DEADLOCK_RULES.includes(onDeadlock)) {
    throw wrongValue('TERMS_INVALID', 'onDeadlock', `one of ${DEADLOCK_RULES.join(', ')}`, onDeadlock)
  }
  if (honesty !== undefined && !HONESTY_RULES.includes(honesty)) {
    throw wrongValue('TERMS_INVALID', 'honesty', `one of ${HONESTY_RULES.join(', ')}`, honesty)
  }
  const terms = {
    alpha: parseRatio(input.alpha, 'alpha', 'TERMS_INVALID'),
    beta: parseRatio(input.beta, 'beta', 'TERMS_INVALID'),
    generationCost: parseAmount(input.generationCost, 'generationCost', 'TERMS_INVALID'),
    verificationCost: parseAmount(input.verificationCost, 'verificationCost', 'TERMS_INVALID'),
    maxStages,
    onDeadlock,
    ...(honesty !== undefined && { honesty }),
  }
  for (const [party, amount] of Object.entries(termsDeposits(terms))) {
    if (parseAmount(amount, `the ${party}'s deposit`, 'TERMS_INVALID') > 0n) continue
    throw wrongValue('TERMS_INVALID', `the ${party}'s deposit`, '1 or more', amount)
  }
  return Object.freeze(terms)
}

/** Unknown keys are refused: a misspelt optional one would silently mean its default. */
function checkKeys(value: unknown, where: string, required: string[], optional: string[], code: ErrorCode) {
  const expected = `an object of ${[...required, ...optional].join(', ')}`
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
  if (!isObject) throw wrongValue(code, where, expected, value)
  const keys = Object.keys(value)
  const missing = required.find((key) => !keys.includes(key))
  if (missing !== undefined) throw wrongValue(code, `${where}.${missing}`, 'given', undefined)
  const unknown = keys.find((key) => !required.includes(key) && !optional.includes(key))
  if (unknown !== undefined) throw wrongValue(code, where, expected, unknown)
}

function product(name: string, ratio: Ratio, cost: bigint): bigint {
  const scaled = ratio.num * cost
  if (scaled % ratio.den === 0n) return scaled / ratio.den
  throw wrongValue('TERMS_INVALID', name, 'a whole number of units', `${scaled}/${ratio.den}`)
}
