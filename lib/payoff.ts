// Who gets what from the stakepool: each row of the paper's Table 1, and the cases it leaves open.
// Source: Proof of Cache, section 3.3.2 and Table 1; the open cases are argued in docs/PAYOFFS.md.

import { wrongValue } from './errors'
import { checkStages, emptied, failedStakes, payout, settle, SLASHED } from './settlement'
import type { DisputeStages, Settlement, Share, Shares } from './settlement'
import { createTerms, termsAmounts, termsDeposits } from './terms'
import type { DeadlockRule, TermsInput } from './terms'

export type { DisputeStages, Payout, Settlement, SettlementCase, SettlementJson } from './settlement'
export { isVerifierId, settlementToJson } from './settlement'

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
 * A challenge of which nothing came: the user gave no beacon, or no verifier a verdict. Nothing speaks against the
 * result, so it is paid for as without a challenge.
 * @param stages - Without any verdict.
 * @throws {PocError} TERMS_INVALID; INVALID_ARGUMENT: wrong ids, or a stage.
 */
export function settleLapsed(input: TermsInput, stages: DisputeStages = { verifiers: [] }): Settlement {
  const terms = createTerms(input)
  checkStages(terms, stages, 0)
  if (stages.verifiers.length > 0) throw wrongValue('INVALID_ARGUMENT', 'the stages', 'none', stages.verifiers.length)
  const { servicePayment, verificationPayment, generatorStake } = termsAmounts(terms)
  return settle('lapsed', terms, stages, {
    user: [verificationPayment + failedStakes(terms, stages), 'pays for the service; no verdict came of the challenge'],
    generator: [servicePayment + generatorStake, 'paid for the service: no verdict speaks against it'],
    verifier: () => SLASHED,
  })
}

/**
 * No two results agreed and no further verifier comes; the terms' `onDeadlock` says who is presumed right.
 *
 * Without any verdict there are no results that disagree: the challenge has lapsed, as {@link settleLapsed} has it,
 * unless the terms presume the user right.
 * @throws {PocError} TERMS_INVALID; INVALID_ARGUMENT: more stages than the terms allow, or wrong ids.
 */
export function settleDeadlock(input: TermsInput, stages: DisputeStages): Settlement {
  const terms = createTerms(input)
  checkStages(terms, stages, 0)
  if (stages.verifiers.length === 0 && terms.onDeadlock !== 'refund-user') return settleLapsed(terms, stages)
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
