// A deal from deposit to settlement as a pure state machine: events in, the next state out, a settlement at the end.
// Source: Proof of Cache, section 3.3.2. The rules, their reasons and the JSON forms: docs/PAYOFFS.md.

import { wrongValue } from './errors'
import type { DisputeEvent, DisputeEventJson, DisputeEventType, DisputePhase, EventOf } from './history'
import { historyToJson, parseHistory, readEvent } from './history'
import * as payoff from './payoff'
import { createTerms, parseTerms, type Terms, type TermsInput } from './terms'
import { type TermsJson, termsDeposits, termsToJson } from './terms'

export type { DisputeEvent, DisputeEventJson, DisputeEventType, DisputePhase } from './history'
export { historyToJson, parseHistory } from './history'

/** One that has joined: still `working`, its verdict, or `released` because it decided nothing. */
export interface DisputeVerifier {
  readonly id: string
  readonly status: 'working' | 'accepted' | 'rejected' | 'released'
  /** Of its verdict, if it accepted or rejected. */
  readonly samplesDigest: string | null
}

/** Where a dispute stands; never changed in place. */
export interface DisputeState {
  readonly terms: Terms
  readonly phase: DisputePhase
  /** What the stakepool holds; 0 once settled. */
  readonly pool: bigint
  readonly deposited: { readonly user: boolean; readonly generator: boolean }
  readonly proofDigest: string | null
  /** Of the model that was paid for, where the delivery names it; no verdict on another model counts then. */
  readonly modelDigest: string | null
  /** In the order in which they joined. */
  readonly verifiers: readonly DisputeVerifier[]
  /** The events that are allowed now. */
  readonly next: readonly DisputeEventType[]
  readonly settlement: payoff.Settlement | null
  /** Every event so far: with the terms, all that a state is made of. */
  readonly history: readonly DisputeEvent[]
}

/** {@link DisputeState} in JSON. {@link parseDispute} reads `terms` and `history`, which give the rest again. */
export interface DisputeJson {
  terms: TermsJson
  phase: DisputePhase
  pool: string
  verifiers: readonly DisputeVerifier[]
  next: readonly DisputeEventType[]
  settlement: payoff.SettlementJson | null
  history: DisputeEventJson[]
}

/** The most verifiers that may join one dispute: those that leave cost nothing, so something else must end it. */
export const MAX_VERIFIERS = 1000

const NEXT: Readonly<Record<DisputePhase, readonly DisputeEventType[]>> = {
  deposits: Object.freeze(['deposit', 'timeout'] as const),
  delivery: Object.freeze(['delivery', 'timeout'] as const),
  challenge: Object.freeze(['acceptance', 'challenge', 'timeout'] as const),
  verifier: Object.freeze(['join', 'timeout'] as const),
  verdict: Object.freeze(['verdict', 'withdrawal', 'timeout'] as const),
  settled: Object.freeze([]),
}

/**
 * A dispute before the first deposit.
 * @throws {PocError} TERMS_INVALID.
 */
export function openDispute(terms: TermsInput): DisputeState {
  return {
    terms: createTerms(terms),
    phase: 'deposits',
    pool: 0n,
    deposited: { user: false, generator: false },
    proofDigest: null,
    modelDigest: null,
    verifiers: [],
    next: NEXT.deposits,
    settlement: null,
    history: [],
  }
}

/**
 * The state after one more event; `state` itself stays as it is.
 * @throws {PocError} DISPUTE_INVALID: an event that is malformed or that `state` does not allow.
 */
export function advance(state: DisputeState, event: DisputeEvent): DisputeState {
  return step(state, event, 'event')
}

/**
 * The state after a whole history, as {@link advance} event by event gives it.
 * @throws {PocError} TERMS_INVALID; DISPUTE_INVALID, naming the event by its index.
 */
export function replay(terms: TermsInput, events: readonly DisputeEvent[]): DisputeState {
  return parseHistory(events).reduce(
    (state, event, index) => step(state, event, `history[${index}]`),
    openDispute(terms),
  )
}

/** The JSON form of a dispute; {@link parseDispute} reads it back. */
export function disputeToJson(state: DisputeState): DisputeJson {
  const { phase, verifiers, next } = state
  const settlement = state.settlement && payoff.settlementToJson(state.settlement)
  const history = historyToJson(state.history)
  return { terms: termsToJson(state.terms), phase, pool: `${state.pool}`, verifiers, next, settlement, history }
}

/**
 * Reads a dispute by replaying its history, so that what the JSON says beside terms and history does not count.
 * @throws {PocError} TERMS_INVALID; DISPUTE_INVALID.
 */
export function parseDispute(json: unknown): DisputeState {
  if (typeof json !== 'object' || json === null) throw wrongValue('DISPUTE_INVALID', 'dispute', 'an object', json)
  const { terms, history } = json as Partial<DisputeJson>
  return replay(parseTerms(terms), parseHistory(history))
}

function step(state: DisputeState, given: DisputeEvent, where: string): DisputeState {
  const event = readEvent(given, where)
  if (!state.next.includes(event.type)) {
    const allowed = state.next.length > 0 ? `${state.next.join(' or ')}` : 'absent'
    throw wrongValue('DISPUTE_INVALID', `${where}.type`, `${allowed} in phase ${state.phase}`, event.type)
  }
  const changed = { ...state, ...changes(state, event, where), history: [...state.history, event] }
  return { ...changed, next: NEXT[changed.phase] }
}

function changes(state: DisputeState, event: DisputeEvent, where: string): Partial<DisputeState> {
  switch (event.type) {
    case 'deposit':
      return deposit(state, event, where)
    case 'delivery':
      return { phase: 'challenge', proofDigest: event.proofDigest, modelDigest: event.modelDigest ?? null }
    case 'acceptance':
      return settled(payoff.settleNoChallenge(state.terms))
    case 'challenge':
      return { phase: 'verifier' }
    case 'join':
      return join(state, event, where)
    case 'verdict':
      return verdict(state, event, where)
    case 'withdrawal':
      must(`${where}.verifier`, event.verifier, working(state).id)
      return release(state)
    case 'timeout':
      must(`${where}.phase`, event.phase, state.phase)
      return timeout(state)
  }
}

function deposit(state: DisputeState, event: EventOf<'deposit'>, where: string): Partial<DisputeState> {
  const { party, amount } = event
  if (state.deposited[party]) throw wrongValue('DISPUTE_INVALID', `${where}.party`, 'one that has not deposited', party)
  must(`${where}.amount`, amount, termsDeposits(state.terms)[party])
  const deposited = { ...state.deposited, [party]: true }
  const phase = deposited.user && deposited.generator ? 'delivery' : 'deposits'
  return { deposited, phase, pool: state.pool + amount }
}

function join(state: DisputeState, event: EventOf<'join'>, where: string): Partial<DisputeState> {
  const { verifier: id, stake } = event
  if (state.verifiers.some((verifier) => verifier.id === id)) {
    throw wrongValue('DISPUTE_INVALID', `${where}.verifier`, 'one that has not joined before', id)
  }
  must(`${where}.stake`, stake, termsDeposits(state.terms).verifier)
  const verifiers = [...state.verifiers, { id, status: 'working', samplesDigest: null } as const]
  return { verifiers, phase: 'verdict', pool: state.pool + stake }
}

function verdict(state: DisputeState, event: EventOf<'verdict'>, where: string): Partial<DisputeState> {
  must(`${where}.verifier`, event.verifier, working(state).id)
  must(`${where}.proofDigest`, event.proofDigest, state.proofDigest)
  if (state.modelDigest !== null) must(`${where}.modelDigest`, event.modelDigest, state.modelDigest)
  const { verifier: id, status, samplesDigest } = event
  if (status === 'inconclusive') return release(state)
  const earlier = state.verifiers.find((one) => one.status === 'rejected' && one.samplesDigest === samplesDigest)
  const verifiers = [...state.verifiers.slice(0, -1), { id, status, samplesDigest }]
  // Agreeing with the generator comes first, whichever earlier verifier the samples agree with as well.
  if (status === 'accepted') {
    return { verifiers, ...settled(payoff.settleGeneratorConfirmed(state.terms, stages(verifiers))) }
  }
  if (earlier) {
    return { verifiers, ...settled(payoff.settleVerifierConfirmed(state.terms, stages(verifiers), earlier.id)) }
  }
  return undecided(state.terms, verifiers)
}

/** The one that works decided nothing: its stake waits in the pool for the settlement, and another may join. */
function release(state: DisputeState): Partial<DisputeState> {
  const { id } = working(state)
  return undecided(state.terms, [...state.verifiers.slice(0, -1), { id, status: 'released', samplesDigest: null }])
}

function undecided(terms: Terms, verifiers: readonly DisputeVerifier[]): Partial<DisputeState> {
  const parties = stages(verifiers)
  const isLast = parties.verifiers.length === terms.maxStages || verifiers.length === MAX_VERIFIERS
  return { verifiers, phase: 'verifier', ...(isLast ? settled(payoff.settleDeadlock(terms, parties)) : {}) }
}

function timeout(state: DisputeState): Partial<DisputeState> {
  if (state.phase === 'verdict') return release(state)
  if (state.phase === 'verifier') return settled(payoff.settleDeadlock(state.terms, stages(state.verifiers)))
  if (state.phase === 'challenge') return settled(payoff.settleNoChallenge(state.terms))
  return settled(payoff.settleRefund(state.terms, state.deposited))
}

function settled(settlement: payoff.Settlement): Partial<DisputeState> {
  return { phase: 'settled', pool: 0n, settlement }
}

function working(state: DisputeState): DisputeVerifier {
  return state.verifiers[state.verifiers.length - 1]
}

function stages(all: readonly DisputeVerifier[]): payoff.DisputeStages {
  const ids = (released: boolean) => all.filter((one) => (one.status === 'released') === released).map(({ id }) => id)
  return { verifiers: ids(false), released: ids(true) }
}

function must(where: string, value: bigint | string | undefined, expected: bigint | string | null): void {
  if (value !== expected) throw wrongValue('DISPUTE_INVALID', where, `${expected}`, value)
}
