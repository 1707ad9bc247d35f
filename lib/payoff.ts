// Who gets what from the stakepool: each row of the paper's Table 1, and the cases it leaves open.
// Source: Proof of Cache, section 3.3.2 and Table 1; the open cases are argued in docs/PAYOFFS.md.

import { PocError, wrongValue } from './errors'
import { createTerms, termsAmounts, termsDeposits } from './terms'
import type { DeadlockRule, Terms, TermsInput } from './terms'

/** How a pool was emptied. */
export type SettlementCase =
  | 'no_challenge'
  | 'generator_confirmed'
  | 'verifier_confirmed'
  | 'deadlock'
  | 'refunded' // the deal ended before there was a result to dispute
  | 'withheld' // the generator did not open its commitment

/** What one party put in and takes out; smallest unit. */
export interface Payout {
  /** `'user'`, `'generator'` or a verifier's id. */
  party: string
  amount: bigint
  deposit: bigint
  /** `amount - deposit`. */
  net: bigint
  /** For people; its wording may change. */
  reason: string
}

/** An emptied pool: the amounts, and also the deposits, sum to `pool`. */
export interface Settlement {
  case: SettlementCase
  /** k: verdicts that counted as a stage, 0 if none did. */
  stage: number
  pool: bigint
  /** User, generator, V_1 .. V_k, then failed and released verifiers. */
  payouts: Payout[]
}

/** {@link Settlement} with its amounts as decimal strings. */
export interface SettlementJson {
  case: SettlementCase
  stage: number
  pool: string
  payouts: { party: string; amount: string; deposit: string; net: string; reason: string }[]
}

/** The verifiers of a dispute, by id. */
export interface DisputeStages {
  /** V_1 .. V_k: those that accepted or rejected, in order. */
  verifiers: readonly string[]
  /** Those that joined and decided nothing; each gets its stake back. */
  released?: readonly string[]
  /** Those that failed a canary; their stakes go to V_k, or in a deadlock to the user. */
  failed?: readonly string[]
}

/** Whether a value can be a verifier's id: 1 to 128 visible ASCII characters, not `user` or `generator`. */
export function isVerifierId(value: unknown): value is string {
  return typeof value === 'string' && /^(?!(user|generator)$)[!-~]{1,128}$/.test(value)
}

/**
 * The user accepts, or does not challenge in time (Table 1, "No Challenge").
 * @throws {PocError} TERMS_INVALID.
 */
export function settleNoChallenge(input: TermsInput): Settlement {
  const terms = createTerms(input)
  const { servicePayment, verificationPayment, generatorStake } = termsAmounts(terms)
  return settle(
    'no_challenge',
    terms,
    { verifiers: [] },
    {
      user: [verificationPayment, 'pays for the service; nothing was verified'],
      generator: [servicePayment + generatorStake, 'paid for the service'],
      verifier: () => SLASHED,
    },
  )
}

/**
 * V_k, the last of the stages, agrees with the generator (Table 1, "V_k confirms G" and its case k = 1).
 * @throws {PocError} TERMS_INVALID; INVALID_ARGUMENT: no stage, more than the terms allow, or wrong ids.
 */
export function settleGeneratorConfirmed(input: TermsInput, stages: DisputeStages): Settlement {
  const terms = createTerms(input)
  const last = checkStages(terms, stages, 1)
  const { servicePayment, verificationPayment, generatorStake, verifierStake } = termsAmounts(terms)
  const stakes = BigInt(stages.verifiers.length) * verifierStake + failedStakes(terms, stages)
  return settle('generator_confirmed', terms, stages, {
    user: [0n, 'pays for the service and its verification'],
    generator: [servicePayment + generatorStake, 'confirmed: paid for the service'],
    verifier: (id) => (id === last ? [verificationPayment + stakes, 'confirmed the generator'] : SLASHED),
  })
}

/**
 * V_k, the last of the stages, agrees with an earlier verifier (Table 1, "V_k confirms prior V").
 * @param matched - The id of that earlier verifier.
 * @throws {PocError} TERMS_INVALID; INVALID_ARGUMENT: wrong stages, or `matched` is none before the last.
 */
export function settleVerifierConfirmed(input: TermsInput, stages: DisputeStages, matched: string): Settlement {
  const terms = createTerms(input)
  const last = checkStages(terms, stages, 2)
  if (!stages.verifiers.includes(matched) || matched === last) {
    throw wrongValue('INVALID_ARGUMENT', 'matched', 'a verifier before the last one', matched)
  }
  const { verificationPayment, generatorStake, verifierStake } = termsAmounts(terms)
  const stakes = BigInt(stages.verifiers.length - 1) * verifierStake + failedStakes(terms, stages)
  const rest = generatorStake + stakes - verificationPayment
  const shares = new Map<string, Share>([
    [matched, [verificationPayment + verifierStake, `refuted the generator, as ${last} confirmed`]],
    [last, [rest, `confirmed ${matched}, refuting the generator`]],
  ])
  return settle('verifier_confirmed', terms, stages, {
    user: [termsDeposits(terms).user, 'the service was wrong: everything back'],
    generator: SLASHED,
    verifier: (id) => shares.get(id) ?? SLASHED,
  })
}

/**
 * No two results agreed and no further verifier comes; the terms' `onDeadlock` says who is presumed right.
 * @throws {PocError} TERMS_INVALID; INVALID_ARGUMENT: more stages than the terms allow, or wrong ids.
 */
export function settleDeadlock(input: TermsInput, stages: DisputeStages): Settlement {
  const terms = createTerms(input)
  checkStages(terms, stages, 0)
  const { servicePayment, verificationPayment } = termsAmounts(terms)
  const { user, generator, verifier } = termsDeposits(terms)
  const stakes = BigInt(stages.verifiers.length) * verifier
  const failed = failedStakes(terms, stages)
  const unproven: Share = [verifier, 'its result was neither confirmed nor refuted: stake back']
  const shares: Record<DeadlockRule, Shares> = {
    'return-deposits': {
      user: [user + failed, 'nothing was decided: everything back'],
      generator: [generator, 'nothing was decided: stake back'],
      verifier: () => unproven,
    },
    'confirm-generator': {
      user: [verificationPayment + failed, 'pays for the service, which stands as not refuted'],
      generator: [generator + servicePayment, 'not refuted: paid for the service'],
      verifier: () => unproven,
    },
    'refund-user': {
      user: [user + stakes + failed, 'nothing was decided: everything back, and the stakes of the verifiers'],
      generator: [generator, 'nothing was decided: stake back'],
      verifier: () => [0n, 'slashed: its result was not confirmed'],
    },
  }
  return settle('deadlock', terms, stages, shares[terms.onDeadlock])
}

/**
 * There was no deal, or no result: whoever has deposited gets it back.
 * @throws {PocError} TERMS_INVALID.
 */
export function settleRefund(terms: TermsInput, deposited: { user: boolean; generator: boolean }): Settlement {
  const deposits = termsDeposits(createTerms(terms))
  const payouts = (['user', 'generator'] as const).map((party) => {
    const amount = deposited[party] ? deposits[party] : 0n
    return payout(party, amount, [amount, 'there was no result: deposit back'])
  })
  return emptied('refunded', 0, payouts)
}

/**
 * The generator committed to its vectors and then did not open those that the beacon drew: it knows by then whether it
 * would be refuted, so this costs what being refuted costs.
 * @throws {PocError} TERMS_INVALID.
 */
export function settleWithheld(input: TermsInput): Settlement {
  const terms = createTerms(input)
  const { user, generator } = termsDeposits(terms)
  return settle(
    'withheld',
    terms,
    { verifiers: [] },
    {
      user: [user + generator, 'the result was not opened: everything back, and the stake of the generator'],
      generator: [0n, 'slashed: it did not open its commitment'],
      verifier: () => SLASHED,
    },
  )
}

/** The JSON form of a settlement. */
export function settlementToJson(settlement: Settlement): SettlementJson {
  const payouts = settlement.payouts.map(({ party, amount, deposit, net, reason }) => {
    return { party, amount: `${amount}`, deposit: `${deposit}`, net: `${net}`, reason }
  })
  return { case: settlement.case, stage: settlement.stage, pool: `${settlement.pool}`, payouts }
}

type Share = readonly [amount: bigint, reason: string]

interface Shares {
  user: Share
  generator: Share
  verifier: (id: string) => Share
}

const SLASHED: Share = [0n, 'slashed: its result was refuted']

/** Checks the stages and gives the id of V_k. */
function checkStages(terms: Terms, stages: DisputeStages, least: number): string {
  const { verifiers, released = [], failed = [] } = stages ?? {}
  if (!Array.isArray(verifiers) || !Array.isArray(released) || !Array.isArray(failed)) {
    throw wrongValue('INVALID_ARGUMENT', 'stages', 'an object of arrays: verifiers, released, failed', stages)
  }
  const ids: unknown[] = [...verifiers, ...released, ...failed]
  const wrong = ids.find((id) => !isVerifierId(id))
  if (wrong !== undefined) throw wrongValue('INVALID_ARGUMENT', 'a verifier', 'an id', wrong)
  if (new Set(ids).size < ids.length) throw wrongValue('INVALID_ARGUMENT', 'verifiers', 'distinct', ids)
  if (verifiers.length < least || verifiers.length > terms.maxStages) {
    throw wrongValue('INVALID_ARGUMENT', 'the stages', `${least} to ${terms.maxStages}`, verifiers.length)
  }
  return verifiers[verifiers.length - 1]
}

function failedStakes(terms: Terms, { failed = [] }: DisputeStages): bigint {
  return BigInt(failed.length) * termsDeposits(terms).verifier
}

function settle(kind: SettlementCase, terms: Terms, stages: DisputeStages, shares: Shares): Settlement {
  const { user, generator, verifier } = termsDeposits(terms)
  const unused: Share = [verifier, 'decided nothing: stake back']
  return emptied(kind, stages.verifiers.length, [
    payout('user', user, shares.user),
    payout('generator', generator, shares.generator),
    ...stages.verifiers.map((id) => payout(id, verifier, shares.verifier(id))),
    ...(stages.failed ?? []).map((id) => payout(id, verifier, [0n, 'slashed: it failed a canary'])),
    ...(stages.released ?? []).map((id) => payout(id, verifier, unused)),
  ])
}

function payout(party: string, deposit: bigint, [amount, reason]: Share): Payout {
  return { party, amount, deposit, net: amount - deposit, reason }
}

function emptied(kind: SettlementCase, stage: number, payouts: Payout[]): Settlement {
  const pool = payouts.reduce((sum, { deposit }) => sum + deposit, 0n)
  const paid = payouts.reduce((sum, { amount }) => sum + amount, 0n)
  const owed = payouts.some(({ amount }) => amount < 0n)
  if (paid === pool && !owed) return { case: kind, stage, pool, payouts }
  throw new PocError('INTERNAL', `the settlement "${kind}" pays ${paid} out of a pool of ${pool}`)
}
