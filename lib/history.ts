// The events of a dispute: their fields, and their form in JSON. What each does: dispute.ts.

import { wrongValue } from './errors'
import { hexOf } from './hex'
import { MAX_SEED_BYTES } from './limits'
import { isVerifierId } from './payoff'
import { parseAmount } from './ratio'
import { REFUSAL_REASONS, type RefusalReason } from './refusal'
import { readOpening, type SealOpening } from './seal'
import type { VerdictStatus } from './verdict'

const DISPUTE_PHASES = [
  'deposits',
  'delivery',
  'challenge',
  'beacon',
  'opening',
  'verifier',
  'seal',
  'reveal',
  'verdict',
  'settled',
] as const

/** What a dispute waits for. */
export type DisputePhase = (typeof DISPUTE_PHASES)[number]

/** What happened. Digests are 64 lowercase hex digits, amounts are in the smallest unit. */
export type DisputeEvent =
  | { type: 'deposit'; party: 'user' | 'generator'; amount: bigint }
  | ({ type: 'delivery'; root?: string; modelDigest?: string } & Partial<DeliveredProof>) // a proof, or else a root
  | { type: 'acceptance' } // by the user, who waives the challenge
  | { type: 'challenge' } // by the user
  | { type: 'beacon'; beacon: string } // by the user; hex, what the challenge to a root is drawn with
  | ({ type: 'opening' } & DeliveredProof) // by the generator, which opens its root where the beacon asks for it
  | { type: 'join'; verifier: string; stake: bigint }
  | { type: 'seal'; verifier: string; seal: string } // before the claimed samples are shown to the verifier
  | { type: 'reveal'; verifier: string; opening: SealOpening } // afterwards; stands for the verdict
  | { type: 'canary'; verifier: string; proofDigest: string; passed: boolean } // its answer to a task with a known one
  | {
      type: 'verdict'
      verifier: string
      status: VerdictStatus
      samplesDigest: string
      proofDigest: string
      modelDigest?: string
      /** An earlier verifier whose vectors are like these within the tolerance, where digests cannot agree. */
      agreesWith?: string
    }
  | {
      type: 'refusal' // in place of a verdict: nobody can judge this proof
      verifier: string
      reason: RefusalReason
      proofDigest?: string
      /** In place of `proofDigest`, where the verifier is blind. */
      subject?: string
      modelDigest?: string
    }
  | { type: 'withdrawal'; verifier: string } // in place of a verdict
  | { type: 'timeout'; phase: DisputePhase } // the time for what this phase waits for is over

/** What is known of a proof that the generator has handed over. */
export interface DeliveredProof {
  proofDigest: string
  /** `claimedResult` of the proof; blind verifiers are compared with it, and it tells them nothing. */
  resultDigest?: string
  /** `sealSubject` of its blind proof: what blind verifiers must have recomputed. */
  subject?: string
}

export type DisputeEventType = DisputeEvent['type']

/** The events of one type. */
export type EventOf<T extends DisputeEventType> = Extract<DisputeEvent, { type: T }>

type JsonOf<T> = T extends unknown ? { [K in keyof T]: T[K] extends bigint ? string : T[K] } : never

/** {@link DisputeEvent} with amounts as decimal strings. */
export type DisputeEventJson = JsonOf<DisputeEvent>

/**
 * Reads a history: an array of events, amounts as decimal strings or safe integers. Unknown keys are dropped.
 * @throws {PocError} DISPUTE_INVALID: no array, or an event of a wrong form. Whether one fits is for `replay()`.
 */
export function parseHistory(json: unknown): DisputeEvent[] {
  if (!Array.isArray(json)) throw wrongValue('DISPUTE_INVALID', 'history', 'an array of events', json)
  return json.map((event, index) => readEvent(event, `history[${index}]`))
}

/** The JSON form of a history; {@link parseHistory} reads it back. */
export function historyToJson(events: readonly DisputeEvent[]): DisputeEventJson[] {
  const plain = (value: unknown) => (typeof value === 'bigint' ? `${value}` : value)
  return events.map((event) => {
    return Object.fromEntries(Object.entries(event).map(([key, value]) => [key, plain(value)])) as DisputeEventJson
  })
}

type Read<T> = (value: unknown, where: string) => T
type Fields<T> = { [K in keyof Omit<T, 'type'>]-?: Read<T[K & keyof T]> }

const amount: Read<bigint> = (value, where) => parseAmount(value, where, 'DISPUTE_INVALID')
const digest: Read<string> = (value, where) => hexOf(value, 32, 32, where, 'DISPUTE_INVALID')
const beacon: Read<string> = (value, where) => hexOf(value, 1, MAX_SEED_BYTES, where, 'DISPUTE_INVALID')
const passed = field('true or false', (value): value is boolean => typeof value === 'boolean')
const opening: Read<SealOpening> = (value, where) => readOpening(value, where, 'DISPUTE_INVALID')
const verifier = field("a verifier's id: visible ASCII, not user or generator", isVerifierId)
const EVENTS: { [T in DisputeEventType]: Fields<EventOf<T>> } = {
  deposit: { party: oneOf('user', 'generator'), amount },
  delivery: {
    proofDigest: optional(digest),
    root: optional(digest),
    resultDigest: optional(digest),
    subject: optional(digest),
    modelDigest: optional(digest),
  },
  acceptance: {},
  challenge: {},
  beacon: { beacon },
  opening: { proofDigest: digest, resultDigest: optional(digest), subject: optional(digest) },
  join: { verifier, stake: amount },
  seal: { verifier, seal: digest },
  reveal: { verifier, opening },
  canary: { verifier, proofDigest: digest, passed },
  verdict: {
    verifier,
    status: oneOf('accepted', 'rejected', 'inconclusive'),
    samplesDigest: digest,
    proofDigest: digest,
    modelDigest: optional(digest),
    agreesWith: optional(verifier),
  },
  refusal: {
    verifier,
    reason: oneOf(...REFUSAL_REASONS),
    proofDigest: optional(digest),
    subject: optional(digest),
    modelDigest: optional(digest),
  },
  withdrawal: { verifier },
  timeout: { phase: oneOf(...DISPUTE_PHASES) },
}

function field<T>(expected: string, valid: (value: unknown) => value is T): Read<T> {
  return (value, where) => {
    if (valid(value)) return value
    throw wrongValue('DISPUTE_INVALID', where, expected, value)
  }
}

function optional<T>(read: Read<T>): Read<T | undefined> {
  return (value, where) => (value === undefined ? undefined : read(value, where))
}

function oneOf<T extends string>(...values: T[]): Read<T> {
  return field(`one of ${values.join(', ')}`, (value): value is T => values.includes(value as T))
}

/** A clean copy of an event: exactly its fields, each of its form; throws DISPUTE_INVALID. */
export function readEvent(value: unknown, where: string): DisputeEvent {
  if (typeof value !== 'object' || value === null) throw wrongValue('DISPUTE_INVALID', where, 'an event', value)
  const given = value as Record<string, unknown>
  const type = oneOf(...(Object.keys(EVENTS) as DisputeEventType[]))(given.type, `${where}.type`)
  const fields = Object.entries(EVENTS[type] as Record<string, Read<unknown>>)
  const read = fields
    .map(([name, readField]) => [name, readField(given[name], `${where}.${name}`)])
    .filter(([, fieldValue]) => fieldValue !== undefined)
  return Object.freeze({ type, ...Object.fromEntries(read) }) as DisputeEvent
}
