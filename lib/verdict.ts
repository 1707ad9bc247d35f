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
  | 'plan_mismatch' // the samples are not those that the samplers pick
  | 'context_mismatch' // the tokens are not those that the proof binds
  | 'nonce_mismatch' // the proof was not made for this request
  | 'parameters_mismatch' // shapes, numerics or limits that this model or verifier does not have
  | 'aborted'
  | 'limit_exceeded'
  | 'no_profile' // no tolerance profile for this pair of engines

/** Why a verdict has its status: a stable code, and words for people. */
export interface Reason {
  code: ReasonCode
  message: string
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
  numerics: Numerics
  /** With `mismatched` and `unchecked`: all samples of the plan, each list in strict (layer, position) order. */
  matched: SampleIndex[]
  mismatched: SampleIndex[]
  unchecked: SampleIndex[]
  /** The first mismatch in (layer, position) order; `part` is `k` where both vectors differ. */
  firstMismatch: null | { layer: number; position: number; part: 'k' | 'v' }
  /** What was spent; `share` is of the FLOPs of a full prefill of these tokens, 0 to 1. */
  computed: { layers: number; positions: number; share: number }
  /** SHA-256 over the samples that the verifier recomputed, layer by layer up to where it stopped, 64 hex digits. */
  samplesDigest: string
}

/** Which reasons go with which status. */
export const REASONS_OF_STATUS: Readonly<Record<VerdictStatus, readonly ReasonCode[]>> = {
  accepted: ['all_samples_match'],
  rejected: [
    'sample_mismatch',
    'model_mismatch',
    'plan_mismatch',
    'context_mismatch',
    'nonce_mismatch',
    'parameters_mismatch',
  ],
  inconclusive: ['aborted', 'limit_exceeded', 'no_profile'],
}

const STATUSES = Object.keys(REASONS_OF_STATUS) as VerdictStatus[]
const REASON_CODES = Object.values(REASONS_OF_STATUS).flat()
const NUMERICS: readonly Numerics[] = ['ieee32']
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

function share(value: unknown, where: string): number {
  if (typeof value === 'number' && value >= 0 && value <= 1) return value
  throw malformed(where, 'a number from 0 to 1', value)
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
  part: oneOf(['k', 'v'] as const),
})

const verdict = objectOf<Verdict>({
  version: oneOf([1] as const),
  status: oneOf(STATUSES),
  reasons: arrayOf(objectOf<Reason>({ code: oneOf(REASON_CODES), message: text })),
  proofDigest: digest,
  modelDigest: digest,
  numerics: oneOf(NUMERICS),
  matched: arrayOf(sampleIndex),
  mismatched: arrayOf(sampleIndex),
  unchecked: arrayOf(sampleIndex),
  firstMismatch: (value, where) => (value === null ? null : mismatch(value, where)),
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
