// An emptied stakepool: its type, its form in JSON, and the checks that hold every case to what was deposited.

import { PocError, wrongValue } from './errors'
import { type Terms, termsDeposits } from './terms'

/** How a pool was emptied. */
export type SettlementCase =
  | 'no_challenge'
  | 'generator_confirmed'
  | 'verifier_confirmed'
  | 'deadlock'
  | 'lapsed' // a challenge of which no verdict came
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

/** The JSON form of a settlement. */
export function settlementToJson(settlement: Settlement): SettlementJson {
  const payouts = settlement.payouts.map(({ party, amount, deposit, net, reason }) => {
    return { party, amount: `${amount}`, deposit: `${deposit}`, net: `${net}`, reason }
  })
  return { case: settlement.case, stage: settlement.stage, pool: `${settlement.pool}`, payouts }
}

export type Share = readonly [amount: bigint, reason: string]

export interface Shares {
  user: Share
  generator: Share
  verifier: (id: string) => Share
}

export const SLASHED: Share = [0n, 'slashed: its result was refuted']

/** Checks the stages and gives the id of V_k. */
export function checkStages(terms: Terms, stages: DisputeStages, least: number): string {
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

export function failedStakes(terms: Terms, { failed = [] }: DisputeStages): bigint {
  return BigInt(failed.length) * termsDeposits(terms).verifier
}

export function settle(kind: SettlementCase, terms: Terms, stages: DisputeStages, shares: Shares): Settlement {
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

export function payout(party: string, deposit: bigint, [amount, reason]: Share): Payout {
  return { party, amount, deposit, net: amount - deposit, reason }
}

export function emptied(kind: SettlementCase, stage: number, payouts: Payout[]): Settlement {
  const pool = payouts.reduce((sum, { deposit }) => sum + deposit, 0n)
  const paid = payouts.reduce((sum, { amount }) => sum + amount, 0n)
  const owed = payouts.some(({ amount }) => amount < 0n)
  if (paid === pool && !owed) return { case: kind, stage, pool, payouts }
  throw new PocError('INTERNAL', `the settlement "${kind}" pays ${paid} out of a pool of ${pool}`)
}
