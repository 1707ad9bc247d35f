// What terms are tested against: who gains what by cheating, or by not working, given how often that is looked for.
// Source: Proof of Cache, section 3.3.3. The inequalities are derived in docs/PAYOFFS.md.

import { wrongValue } from './errors'
import { type AmountLike, formatRatio, parseAmount, parseRatio, type Ratio, type RatioLike } from './ratio'
import type { Terms, TermsAmounts } from './terms'

/** What {@link lintTerms} tests terms against. */
export interface TermsAssumptions {
  /** Share of results that the user challenges, 0 to 1. Given with the next two, or not at all. */
  challengeProbability?: RatioLike
  /** Share of challenged wrong results that end with the generator refuted, 0 to 1. */
  detectionProbability?: RatioLike
  /** What a wrong result saves the generator, caught or not; smallest unit. */
  cheatingGain?: AmountLike
  /** What one verification costs the verifier itself; smallest unit. */
  verifierWorkCost?: AmountLike
  /** Share of turns in which a verifier gets a canary, 0 to 1; needs `verifierWorkCost`. */
  canaryProbability?: RatioLike
  /** The most that the user agrees to lose by one challenge; alpha Cg if left out. */
  userLossLimit?: AmountLike
}

const DETERRENCE = ['challengeProbability', 'detectionProbability', 'cheatingGain'] as const

/** The keys that assumptions may have. */
export const ASSUMPTIONS: string[] = [...DETERRENCE, 'verifierWorkCost', 'canaryProbability', 'userLossLimit']

interface Temptation {
  pays: boolean
  message: string
}

const NOT_ASKED: Temptation = { pays: false, message: '' }

/** What the assumptions come to under these terms; throws INVALID_ARGUMENT for values of a wrong form. */
export function readAssumptions(given: TermsAssumptions, terms: Terms, amounts: TermsAmounts) {
  const { verifierWorkCost: work, userLossLimit: limit, canaryProbability } = given
  const asked = DETERRENCE.some((key) => given[key] !== undefined)
  return {
    cheating: asked ? deterrence(given, terms, amounts) : NOT_ASKED,
    echoing: canaryProbability === undefined ? NOT_ASKED : laziness(given, terms, amounts),
    work: work === undefined ? work : parseAmount(work, 'verifierWorkCost'),
    limit: limit === undefined ? limit : parseAmount(limit, 'userLossLimit'),
  }
}

function deterrence(given: TermsAssumptions, terms: Terms, amounts: TermsAmounts): Temptation {
  const challenged = probability(given.challengeProbability, 'challengeProbability')
  const detected = probability(given.detectionProbability, 'detectionProbability')
  const gain = parseAmount(given.cheatingGain, 'cheatingGain')
  const { servicePayment, generatorStake } = amounts
  const byDeadlock = terms.onDeadlock === 'confirm-generator' ? 0n : servicePayment
  const forgone = terms.maxStages > 1 ? servicePayment + generatorStake : byDeadlock
  const num = challenged.num * detected.num * forgone
  const den = challenged.den * detected.den
  return { pays: num <= gain * den, message: `cheating gains ${gain}, the expected penalty is ${num}/${den}` }
}

function laziness(given: TermsAssumptions, terms: Terms, amounts: TermsAmounts): Temptation {
  const { num, den } = probability(given.canaryProbability, 'canaryProbability')
  const work = parseAmount(given.verifierWorkCost, 'verifierWorkCost')
  const lost = amounts.verificationPayment + amounts.verifierStake
  const risk = terms.honesty === 'canaries' ? num * lost : 0n
  const message = `echoing saves work costing ${work}, canaries take ${risk}/${den} on average`
  return { pays: terms.honesty !== 'blind' && risk <= work * den, message } // who is blind has nothing to echo
}

function probability(value: unknown, where: string): Ratio {
  const ratio = parseRatio(value, where)
  if (ratio.num <= ratio.den) return ratio
  throw wrongValue('INVALID_ARGUMENT', where, 'a ratio from 0 to 1', formatRatio(ratio))
}
