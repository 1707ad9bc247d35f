// A deal from deposit to settlement as a pure state machine: events in, the next state out, a settlement at the end.
// What each event changes: transitions.ts.
// Source: Proof of Cache, section 3.3.2. The rules, their reasons and the JSON forms: docs/PAYOFFS.md.

import { wrongValue } from './errors'
import type { DisputeEvent, DisputeEventJson, DisputeEventType, DisputePhase } from './history'
import { historyToJson, parseHistory, readEvent } from './history'
import { type Settlement, type SettlementJson, settlementToJson } from './payoff'
import { createTerms, parseTerms, type Terms, type TermsInput, type TermsJson, termsToJson } from './terms'
import { changes } from './transitions'

export type { DeliveredProof, DisputeEvent, DisputeEventJson, DisputeEventType, DisputePhase } from './history'
export { historyToJson, parseHistory } from './history'
export { MAX_VERIFIERS } from './transitions'

/** One that has joined: `working`, its verdict, `released` since it decided nothing, or `failed` at a canary. */
export interface DisputeVerifier {
  readonly id: string
  readonly status: 'working' | 'accepted' | 'rejected' | 'released' | 'failed'
  /** If it accepted or rejected: of its verdict, of all that it had sealed, or of what it refused. */
  readonly samplesDigest: string | null
  /** What it sealed, where it was blind. */
  readonly seal?: string
}

/** Where a dispute stands; never changed in place. */
export interface DisputeState {
  readonly terms: Terms
  readonly phase: DisputePhase
  /** What the stakepool holds; 0 once settled. */
  readonly pool: bigint
  readonly deposited: { readonly user: boolean; readonly generator: boolean }
  /** Of the commitment in the delivery; `null` where a proof came instead, or nothing yet. */
  readonly root: string | null
  readonly beacon: string | null
  /** `null` until a proof is there. */
  readonly proofDigest: string | null
  /** Of the result that is claimed, where the generator's event has it. */
  readonly resultDigest: string | null
  /** What blind verifiers must have recomputed, where the generator's event has it. */
  readonly subject: string | null
  /** Of the model that was paid for, where the delivery names it; no verdict on another model counts then. */
  readonly modelDigest: string | null
  /** In the order in which they joined. */
  readonly verifiers: readonly DisputeVerifier[]
  /** The events that are allowed now. */
  readonly next: readonly DisputeEventType[]
  readonly settlement: Settlement | null
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
  settlement: SettlementJson | null
  history: DisputeEventJson[]
}

const WITH_CANARY: readonly DisputeEventType[] = Object.freeze([
  'verdict',
  'refusal',
  'canary',
  'withdrawal',
  'timeout',
] as const)

const NEXT: Readonly<Record<DisputePhase, readonly DisputeEventType[]>> = {
  deposits: Object.freeze(['deposit', 'timeout'] as const),
  delivery: Object.freeze(['delivery', 'timeout'] as const),
  challenge: Object.freeze(['acceptance', 'challenge', 'timeout'] as const),
  beacon: Object.freeze(['beacon', 'timeout'] as const),
  opening: Object.freeze(['opening', 'timeout'] as const),
  verifier: Object.freeze(['join', 'timeout'] as const),
  seal: Object.freeze(['seal', 'refusal', 'canary', 'withdrawal', 'timeout'] as const),
  reveal: Object.freeze(['reveal', 'canary', 'withdrawal', 'timeout'] as const),
  verdict: Object.freeze(['verdict', 'refusal', 'withdrawal', 'timeout'] as const),
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
    root: null,
    beacon: null,
    proofDigest: null,
    resultDigest: null,
    subject: null,
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
  const settlement = state.settlement && settlementToJson(state.settlement)
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
  const hasCanaries = changed.phase === 'verdict' && state.terms.honesty === 'canaries'
  return { ...changed, next: hasCanaries ? WITH_CANARY : NEXT[changed.phase] }
}
