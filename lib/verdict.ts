// The verifier's answer: its type, and reading one that came from outside. check.ts validates it without a model.

import type { Numerics } from './binding'
import { wrongValue } from './errors'

/** A sample's place: `[layer, position]`. */
export type SampleIndex = [layer: number, position: number]

export type VerdictStatus = 'accepted' | 'rejected' | 'inconclusive'

/** Stable codes saying why a verdict has its status. */
export type ReasonCode =
  | 'all_samples_match'
  | 'sample_mismatch'
  | 'model_mismatch' // the proof names another model than the verifier's
  | 'digest_mismatch' // the digest that stands for all samples is not that of the recomputed ones
  | 'token_mismatch' // the sampler, with its seed, chooses other tokens from the recomputed logits
  | 'improbable_tokens' // a sampler that is not stated, but the model does not give these tokens such a probability
  | 'plan_mismatch' // the samples are not those that the samplers pick
  | 'opening_mismatch' // samples and path do not lead to the root that was committed
  | 'context_mismatch' // the tokens are not those that the proof binds
  | 'nonce_mismatch' // the proof was not made for this request
  | 'beacon_mismatch' // nor opened for this beacon
  | 'request_mismatch' // header or prompt are not what was asked for
  | 'termination_mismatch' // generation did not end where its own rule says
  | 'replayed' // a proof with this binding was accepted before
  | 'parameters_mismatch' // shapes, numerics or limits that this model or verifier does not have
  | 'aborted'
  | 'limit_exceeded'
  | 'no_profile' // no tolerance profile for this pair of engines
  | 'not_replayable' // tokens were to be replayed, and cannot be

/** Why a verdict has its status: a stable code, and words for people. */
export interface Reason {
  code: ReasonCode
  message: string
}

/** What came of letting the sampler choose again, from recomputed logits. */
export interface TokenReplay {
  /** Generated tokens that were looked at. */
  positions: number
  /** Those that the sampler does not choose; 0 where it is not known. */
  mismatched: number
  /** The first of these: its position, the token there and the one chosen. */
  first: null | { position: number; claimed: number; chosen: number }
  /**
   * Mean over these tokens of the score of the chosen minus that of the claimed token, each at most {@link MAX_GAP};
   * null where the sampler is not known.
   */
  meanScoreGap: number | null
  /**
   * How improbable the model finds all these tokens, in nats, see {@link MAX_SURPRISE}; null where that was not asked
   * for.
   */
  surprise: number | null
}

/** Plain JSON; in `ieee32`, equal inputs give equal verdicts on every machine. */
export interface Verdict {
  version: 1
  status: VerdictStatus
  reasons: Reason[]
  /** SHA-256 of the encoded proof, 64 hex digits. */
  proofDigest: string
  /** The model that the verifier ran, 64 hex digits. */
  modelDigest: string
  /** The proof's. */
  numerics: Numerics
  /** Digest of the tolerance profile that it rests on, 64 hex digits; null where bits were compared. */
  profile: string | null
  /** With `mismatched` and `unchecked`: all samples of the plan, each list in strict (layer, position) order. */
  matched: SampleIndex[]
  mismatched: SampleIndex[]
  unchecked: SampleIndex[]
  /** The first mismatch in (layer, position) order; `part` is `k` where both vectors differ. */
  firstMismatch: null | { layer: number; position: number; part: 'k' | 'v' | 'hidden' }
  /** Null where tokens were not replayed, or it did not come to that. */
  replay: TokenReplay | null
  /** What was spent; `share` is of the FLOPs of a full prefill of these tokens without the output head. */
  computed: { layers: number; positions: number; share: number }
  /** SHA-256 over the samples that the verifier recomputed, layer by layer up to where it stopped, 64 hex digits. */
  samplesDigest: string
}

/** Which reasons go with which status. */
export const REASONS_OF_STATUS: Readonly<Record<VerdictStatus, readonly ReasonCode[]>> = {
  accepted: ['all_samples_match'],
  rejected: [
    'sample_mismatch',
    'digest_mismatch',
    'token_mismatch',
    'improbable_tokens',
    'model_mismatch',
    'plan_mismatch',
    'opening_mismatch',
    'context_mismatch',
    'nonce_mismatch',
    'beacon_mismatch',
    'request_mismatch',
    'termination_mismatch',
    'replayed',
    'parameters_mismatch',
  ],
  inconclusive: ['aborted', 'limit_exceeded', 'no_profile', 'not_replayable'],
}

const STATUSES = Object.keys(REASONS_OF_STATUS) as VerdictStatus[]
export const REASON_CODES = Object.values(REASONS_OF_STATUS).flat()
const MAX_UINT32 = 2 ** 32 - 1

type Fields<T> = { [K in keyof T]-?: (value: unknown, where: string) => T[K] }

// Exactly the named fields: a verdict says nothing that its reader ignores.
function objectOf<T extends object>(fields: Fields<T>): (value: unknown, where: string) => T {
  const names = Object.keys(fields) as (keyof T & string)[]
  return (value, where) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw malformed(where, 'an object', value)
    const source = value as Record<string, unknown>
    for (const name of Object.keys(source)) {
      if (!Object.hasOwn(fields, name)) throw malformed(where, `an object of ${names.join(', ')}`, name)
    }
    const result: Partial<T> = {}
    for (const name of names) {
      result[name] = fields[name](Object.hasOwn(source, name) ? source[name] : undefined, `${where}.${name}`)
    }
    return result as T
  }
}

function oneOf<T extends string | number>(values: readonly T[]): (value: unknown, where: string) => T {
  return (value, where) => {
    if (values.includes(value as T)) return value as T
    throw malformed(where, values.length === 1 ? String(values[0]) : `one of ${values.join(', ')}`, value)
  }
}

function arrayOf<T>(item: (value: unknown, where: string) => T): (value: unknown, where: string) => T[] {
  return (value, where) => {
    if (!Array.isArray(value)) throw malformed(where, 'an array', value)
    return value.map((each, i) => item(each, `${where}[${i}]`))
  }
}

function uint32(value: unknown, where: string): number {
  if (Number.isInteger(value) && (value as number) >= 0 && (value as number) <= MAX_UINT32) return value as number
  throw malformed(where, 'an integer from 0 to 4294967295', value)
}

function finite(value: unknown, where: string): number {
  if (typeof value === 'number' && Number.isFinite(value)) return value
  throw malformed(where, 'a finite number', value)
}

function share(value: unknown, where: string): number {
  if (finite(value, where) >= 0) return value as number
  throw malformed(where, 'a number that is not negative', value)
}

function orNull<T>(read: (value: unknown, where: string) => T): (value: unknown, where: string) => T | null {
  return (value, where) => (value === null ? null : read(value, where))
}

function digest(value: unknown, where: string): string {
  if (typeof value === 'string' && /^[0-9a-f]{64}$/.test(value)) return value
  throw malformed(where, '64 lowercase hex digits', value)
}

function text(value: unknown, where: string): string {
  if (typeof value === 'string') return value
  throw malformed(where, 'a string', value)
}

function sampleIndex(value: unknown, where: string): SampleIndex {
  if (!Array.isArray(value) || value.length !== 2) throw malformed(where, '[layer, position]', value)
  return [uint32(value[0], `${where}[0]`), uint32(value[1], `${where}[1]`)]
}

const mismatch = objectOf<NonNullable<Verdict['firstMismatch']>>({
  layer: uint32,
  position: uint32,
  part: oneOf(['k', 'v', 'hidden'] as const),
})

const replay = objectOf<TokenReplay>({
  positions: uint32,
  mismatched: uint32,
  first: orNull(objectOf<NonNullable<TokenReplay['first']>>({ position: uint32, claimed: uint32, chosen: uint32 })),
  meanScoreGap: orNull(finite),
  surprise: orNull(finite),
})

const verdict = objectOf<Verdict>({
  version: oneOf([1] as const),
  status: oneOf(STATUSES),
  reasons: arrayOf(objectOf<Reason>({ code: oneOf(REASON_CODES), message: text })),
  proofDigest: digest,
  modelDigest: digest,
  numerics: text,
  profile: orNull(digest),
  matched: arrayOf(sampleIndex),
  mismatched: arrayOf(sampleIndex),
  unchecked: arrayOf(sampleIndex),
  firstMismatch: orNull(mismatch),
  replay: orNull(replay),
  computed: objectOf<Verdict['computed']>({ layers: uint32, positions: uint32, share }),
  samplesDigest: digest,
})

function malformed(where: string, expected: string, value: unknown) {
  return wrongValue('VERDICT_MALFORMED', where, expected, value)
}

/**
 * Reads a verdict from parsed JSON: every field present and of its type, none beside them.
 * Whether it is right for a proof is {@link checkVerdict}'s question.
 * @throws {PocError} VERDICT_MALFORMED, naming the field.
 */
export function parseVerdict(json: unknown): Verdict {
  return verdict(json, 'verdict')
}
