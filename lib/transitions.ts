// What each event changes in a dispute, once its form is checked and its phase is right.
// Source: Proof of Cache, section 3.3.2. The rules and their reasons: docs/PAYOFFS.md.

import type { DisputeState, DisputeVerifier } from './dispute'
import { wrongValue } from './errors'
import type { DeliveredProof, DisputeEvent, EventOf } from './history'
import * as payoff from './payoff'
import { refusalDigest } from './refusal'
import { checkSeal, resultDigest } from './seal'
import { type Terms, termsDeposits } from './terms'

/** The most verifiers that may join one dispute: those that leave cost nothing, so something else must end it. */
export const MAX_VERIFIERS = 1000

type Changes = Partial<DisputeState>

/** What `event` changes in `state`; throws DISPUTE_INVALID where it does not fit. */
export function changes(state: DisputeState, event: DisputeEvent, where: string): Changes {
  switch (event.type) {
    case 'deposit':
      return deposit(state, event, where)
    case 'delivery':
      return delivery(state, event, where)
    case 'acceptance':
      return settled(payoff.settleNoChallenge(state.terms))
    case 'challenge':
      return { phase: state.proofDigest === null ? 'beacon' : 'verifier' }
    case 'beacon':
      return { phase: 'opening', beacon: event.beacon }
    case 'opening':
      return { phase: 'verifier', ...delivered(state, event, where) }
    case 'join':
      return join(state, event, where)
    case 'seal':
      must(`${where}.verifier`, event.verifier, working(state).id)
      return { phase: 'reveal', verifiers: [...state.verifiers.slice(0, -1), { ...working(state), seal: event.seal }] }
    case 'reveal':
      return reveal(state, event, where)
    case 'canary':
      return canary(state, event, where)
    case 'verdict':
      return verdict(state, event, where)
    case 'refusal':
      return refusal(state, event, where)
    case 'withdrawal':
      must(`${where}.verifier`, event.verifier, working(state).id)
      return release(state)
    case 'timeout':
      must(`${where}.phase`, event.phase, state.phase)
      return timeout(state)
  }
}

function deposit(state: DisputeState, event: EventOf<'deposit'>, where: string): Changes {
  const { party, amount } = event
  if (state.deposited[party]) throw wrongValue('DISPUTE_INVALID', `${where}.party`, 'one that has not deposited', party)
  must(`${where}.amount`, amount, termsDeposits(state.terms)[party])
  const deposited = { ...state.deposited, [party]: true }
  const phase = deposited.user && deposited.generator ? 'delivery' : 'deposits'
  return { deposited, phase, pool: state.pool + amount }
}

function delivery(state: DisputeState, event: EventOf<'delivery'>, where: string): Changes {
  const { proofDigest, resultDigest: claimed, subject, root = null, modelDigest = null } = event
  // A proof that opens the root already was opened for a beacon of the generator's own.
  if ((proofDigest === undefined) === (root === null)) {
    const expected = root === null ? 'given, or else the root' : 'left out beside a root'
    throw wrongValue('DISPUTE_INVALID', `${where}.proofDigest`, expected, proofDigest)
  }
  const given = { proofDigest: proofDigest as string, resultDigest: claimed, subject }
  const proof = proofDigest === undefined ? {} : delivered(state, given, where)
  return { phase: 'challenge', root, modelDigest, ...proof }
}

function delivered(state: DisputeState, given: DeliveredProof, where: string): Changes {
  for (const name of ['resultDigest', 'subject'] as const) {
    if (given[name] !== undefined || state.terms.honesty !== 'blind') continue
    throw wrongValue('DISPUTE_INVALID', `${where}.${name}`, 'given, for blind verifiers', undefined)
  }
  const { proofDigest, resultDigest: claimed = null, subject = null } = given
  return { proofDigest, resultDigest: claimed, subject }
}

function join(state: DisputeState, event: EventOf<'join'>, where: string): Changes {
  const { verifier: id, stake } = event
  if (state.verifiers.some((verifier) => verifier.id === id)) {
    throw wrongValue('DISPUTE_INVALID', `${where}.verifier`, 'one that has not joined before', id)
  }
  must(`${where}.stake`, stake, termsDeposits(state.terms).verifier)
  const verifiers = [...state.verifiers, { id, status: 'working', samplesDigest: null } as const]
  return { verifiers, phase: state.terms.honesty === 'blind' ? 'seal' : 'verdict', pool: state.pool + stake }
}

function verdict(state: DisputeState, event: EventOf<'verdict'>, where: string): Changes {
  must(`${where}.verifier`, event.verifier, working(state).id)
  must(`${where}.proofDigest`, event.proofDigest, state.proofDigest)
  if (state.modelDigest !== null) must(`${where}.modelDigest`, event.modelDigest, state.modelDigest)
  const { verifier: id, status, samplesDigest, agreesWith } = event
  const named = state.verifiers.find((one) => one.status === 'rejected' && one.id === agreesWith)
  if (agreesWith !== undefined && !named) {
    throw wrongValue('DISPUTE_INVALID', `${where}.agreesWith`, 'an earlier verifier that rejected', agreesWith)
  }
  if (status === 'inconclusive') return release(state)
  return decided(state, { id, status, samplesDigest }, named ?? rejectedWith(state, samplesDigest))
}

/** What a seal held, not what its verifier says of it, is compared: with the claimed samples and with the others'. */
function reveal(state: DisputeState, event: EventOf<'reveal'>, where: string): Changes {
  const { id, seal = '' } = working(state)
  const { opening } = event
  must(`${where}.verifier`, event.verifier, id)
  must(`${where}.opening.verifier`, opening.verifier, id)
  must(`${where}.opening.subject`, opening.subject, state.subject)
  if (!checkSeal(seal, opening)) {
    throw wrongValue('DISPUTE_INVALID', `${where}.opening`, `that of the seal ${seal}`, opening)
  }
  const samplesDigest = resultDigest(opening.digests)
  const status = samplesDigest === state.resultDigest && !opening.refuted ? 'accepted' : 'rejected'
  return decided(state, { id, status, samplesDigest, seal }, rejectedWith(state, samplesDigest))
}

/** That nobody can judge this proof counts as a rejection: all who say so have found the same. */
function refusal(state: DisputeState, event: EventOf<'refusal'>, where: string): Changes {
  const { id } = working(state)
  const bound = state.terms.honesty === 'blind' ? 'subject' : 'proofDigest'
  must(`${where}.verifier`, event.verifier, id)
  must(`${where}.${bound}`, event[bound], state[bound])
  if (state.modelDigest !== null) must(`${where}.modelDigest`, event.modelDigest, state.modelDigest)
  const samplesDigest = refusalDigest(state.proofDigest as string)
  return decided(state, { id, status: 'rejected', samplesDigest }, rejectedWith(state, samplesDigest))
}

function rejectedWith(state: DisputeState, samplesDigest: string): DisputeVerifier | undefined {
  return state.verifiers.find((one) => one.status === 'rejected' && one.samplesDigest === samplesDigest)
}

/** A canary that was seen leaves the verifier at work; one that was not takes its stake. */
function canary(state: DisputeState, event: EventOf<'canary'>, where: string): Changes {
  const { id } = working(state)
  must(`${where}.verifier`, event.verifier, id)
  if (event.proofDigest === state.proofDigest) {
    throw wrongValue('DISPUTE_INVALID', `${where}.proofDigest`, 'not that of the delivered proof', event.proofDigest)
  }
  if (event.passed) return {}
  return undecided(state.terms, [...state.verifiers.slice(0, -1), { id, status: 'failed', samplesDigest: null }])
}

function decided(state: DisputeState, result: DisputeVerifier, earlier: DisputeVerifier | undefined): Changes {
  const verifiers = [...state.verifiers.slice(0, -1), result]
  // Agreeing with the generator comes first, whichever earlier verifier the samples agree with as well.
  if (result.status === 'accepted') {
    return { verifiers, ...settled(payoff.settleGeneratorConfirmed(state.terms, stages(verifiers))) }
  }
  if (earlier) {
    return { verifiers, ...settled(payoff.settleVerifierConfirmed(state.terms, stages(verifiers), earlier.id)) }
  }
  return undecided(state.terms, verifiers)
}

/** The one that works decided nothing: its stake waits in the pool for the settlement, and another may join. */
function release(state: DisputeState): Changes {
  const { id } = working(state)
  return undecided(state.terms, [...state.verifiers.slice(0, -1), { id, status: 'released', samplesDigest: null }])
}

function undecided(terms: Terms, verifiers: readonly DisputeVerifier[]): Changes {
  const parties = stages(verifiers)
  const isLast = parties.verifiers.length === terms.maxStages || verifiers.length === MAX_VERIFIERS
  return { verifiers, phase: 'verifier', ...(isLast ? settled(payoff.settleDeadlock(terms, parties)) : {}) }
}

function timeout(state: DisputeState): Changes {
  if (state.phase === 'seal' || state.phase === 'reveal' || state.phase === 'verdict') return release(state)
  if (state.phase === 'verifier') return settled(payoff.settleDeadlock(state.terms, stages(state.verifiers)))
  if (state.phase === 'challenge') return settled(payoff.settleNoChallenge(state.terms))
  if (state.phase === 'beacon') return settled(payoff.settleLapsed(state.terms)) // the user owed it
  if (state.phase === 'opening') return settled(payoff.settleWithheld(state.terms))
  return settled(payoff.settleRefund(state.terms, state.deposited))
}

function settled(settlement: payoff.Settlement): Changes {
  return { phase: 'settled', pool: 0n, settlement }
}

function working(state: DisputeState): DisputeVerifier {
  return state.verifiers[state.verifiers.length - 1]
}

function stages(all: readonly DisputeVerifier[]): payoff.DisputeStages {
  const ids = (...statuses: DisputeVerifier['status'][]) => {
    return all.filter(({ status }) => statuses.includes(status)).map(({ id }) => id)
  }
  return { verifiers: ids('accepted', 'rejected'), released: ids('released'), failed: ids('failed') }
}

function must(where: string, value: bigint | string | undefined, expected: bigint | string | null): void {
  if (value !== expected) throw wrongValue('DISPUTE_INVALID', where, `${expected}`, value)
}
