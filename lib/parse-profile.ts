// Reads a tolerance profile from JSON: exactly its fields, each of its type and range, and in agreement.

import { wrongValue } from './errors'
import { KV_DTYPE_BYTES, type KvDtype } from './kv'
import { MAX_LAYERS, MAX_TOKENS } from './limits'
import { MAX_PROJECTIONS } from './sketch'
import { MAX_GAP } from './replay'
import type { PartLimits } from './strain'
import {
  type CheatEvidence,
  type ForgeryEvidence,
  type HonestEvidence,
  MAX_STATED_STRAIN,
  type ProfileForm,
  type StrainQuantiles,
  type TokenGapEvidence,
  type TokenGapOfCheat,
  type ToleranceProfile,
  TRIVIAL_FORGERIES,
} from './tolerance'

type Read<T> = (value: unknown, where: string) => T
type Fields<T> = { [K in keyof T]-?: Read<T[K]> }

const MAX_ITEMS = 4096
const MAX_TEXT = 500

const refuse = (where: string, expected: string, value: unknown) => {
  return wrongValue('INVALID_ARGUMENT', where, expected, value)
}

function objectOf<T extends object>(fields: Fields<T>): Read<T> {
  const names = Object.keys(fields) as (keyof T & string)[]
  return (value, where) => {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw refuse(where, 'an object', value)
    const extra = Object.keys(value).find((name) => !Object.hasOwn(fields, name))
    if (extra !== undefined) throw refuse(where, `an object of ${names.join(', ')}`, extra)
    const given = value as Record<string, unknown>
    const field = (name: keyof T & string) => (Object.hasOwn(given, name) ? given[name] : undefined)
    return Object.fromEntries(names.map((name) => [name, fields[name](field(name), `${where}.${name}`)])) as T
  }
}

function arrayOf<T>(item: Read<T>, max: number): Read<T[]> {
  return (value, where) => {
    if (!Array.isArray(value) || value.length > max) throw refuse(where, `an array of at most ${max}`, value)
    return Array.from(value, (each, i) => item(each, `${where}[${i}]`))
  }
}

function orNull<T>(read: Read<T>): Read<T | null> {
  return (value, where) => (value === null ? null : read(value, where))
}

function oneOf<T extends string | number>(values: readonly T[]): Read<T> {
  return (value, where) => {
    if (values.includes(value as T)) return value as T
    throw refuse(where, `one of ${values.join(', ')}`, value)
  }
}

function integer(min: number, max: number): Read<number> {
  return (value, where) => {
    if (Number.isInteger(value) && (value as number) >= min && (value as number) <= max) return value as number
    throw refuse(where, `an integer in ${min}..${max}`, value)
  }
}

function number(min: number, max: number): Read<number> {
  return (value, where) => {
    // Minus zero would be written as 0, and the profile's bytes would not be its own any more.
    if (typeof value === 'number' && value >= min && value <= max && !Object.is(value, -0)) return value
    throw refuse(where, `a number from ${min} to ${max}`, value)
  }
}

function text(pattern: RegExp, expected: string): Read<string> {
  return (value, where) => {
    if (typeof value === 'string' && value.length <= MAX_TEXT && pattern.test(value)) return value
    throw refuse(where, expected, value)
  }
}

const printable = text(/^[\x20-\x7e]+$/, `1 to ${MAX_TEXT} printable characters of ASCII`)
const name = text(/^[a-z0-9][a-z0-9:._/,+-]{0,63}$/, 'a name of a-z 0-9 : . _ / , + -')
const count = integer(0, 2 ** 32)
const share = number(0, 1)
const strain = number(0, MAX_STATED_STRAIN)
const positive = number(2 ** -1000, 2 ** 1000)

const quantiles = objectOf<StrainQuantiles>({
  min: strain,
  lowerQuartile: strain,
  median: strain,
  upperQuartile: strain,
  max: strain,
})
const part = objectOf<PartLimits>({
  typicalError: positive,
  maxMeanScore: positive,
  maxMedianScore: positive,
  maxSampleScore: positive,
})

const honest = objectOf<HonestEvidence>({
  variants: arrayOf(printable, MAX_ITEMS),
  fittedSequences: integer(1, 2 ** 32),
  heldOutSequences: integer(1, 2 ** 32),
  rejectedSequences: count,
  maxFalseRejection: share,
  confidence: share,
  strain: quantiles,
})

const cheat = objectOf<CheatEvidence>({
  name: printable,
  sequences: count,
  detectedSequences: count,
  minDetection: share,
  strain: quantiles,
  positionsNeeded: orNull(count),
  samplesNeeded: orNull(number(0, 2 ** 32)),
})

const gap = number(0, MAX_GAP)
const tokenGap = objectOf<TokenGapEvidence>({
  maxMeanGap: positive,
  fittedSequences: integer(1, 2 ** 32),
  heldOutSequences: integer(1, 2 ** 32),
  rejectedSequences: count,
  maxFalseRejection: share,
  greatestHonestGap: gap,
  cheats: arrayOf(
    objectOf<TokenGapOfCheat>({
      name: printable,
      sequences: count,
      detectedSequences: count,
      minDetection: share,
      leastGap: gap,
      medianGap: gap,
    }),
    MAX_ITEMS,
  ),
})

const forgery = objectOf<ForgeryEvidence>({
  name: (value, where) => oneOf(TRIVIAL_FORGERIES)(value, where),
  sequences: integer(1, 2 ** 32),
  passedSequences: oneOf([0] as const),
  minStrain: strain,
})

const profile = objectOf<ToleranceProfile>({
  version: oneOf([1] as const),
  modelDigest: text(/^[0-9a-f]{64}$/, '64 lowercase hex digits'),
  kvDtype: oneOf(Object.keys(KV_DTYPE_BYTES) as KvDtype[]),
  generator: name,
  verifier: name,
  form: oneOf<ProfileForm>(['rows', 'sketch']),
  projections: integer(0, MAX_PROJECTIONS),
  tokenSampler: name,
  layerSampler: name,
  minPositions: integer(1, MAX_TOKENS),
  maxPositions: integer(1, MAX_TOKENS),
  layers: arrayOf(objectOf({ k: orNull(part), v: orNull(part) }), MAX_LAYERS + 1),
  tokenGap: orNull(tokenGap),
  honest,
  cheats: arrayOf(cheat, MAX_ITEMS),
  forgeries: arrayOf(forgery, TRIVIAL_FORGERIES.length),
})

/**
 * Reads a profile from parsed JSON: every field present, of its type and in range, none beside them, and every trivial
 * forgery among those that it rejects.
 *
 * @throws {PocError} INVALID_ARGUMENT, naming the field.
 */
export function parseProfile(json: unknown): ToleranceProfile {
  const read = profile(json, 'profile')
  const { layers, forgeries, minPositions, maxPositions, form, projections, honest } = read
  const must = (holds: boolean, where: string, expected: string, value: unknown) => {
    if (!holds) throw wrongValue('INVALID_ARGUMENT', `profile.${where}`, expected, value)
  }
  must(minPositions <= maxPositions, 'minPositions', `at most maxPositions ${maxPositions}`, minPositions)
  must(projections > 0 === (form === 'sketch'), 'projections', `that of form ${form}`, projections)
  must(layers.length > 1, 'layers', 'at least one layer and the virtual one', layers)
  must(layers[layers.length - 1].v === null, 'layers', 'without v at the virtual layer', 'v')
  const { rejectedSequences, heldOutSequences } = honest
  must(
    rejectedSequences <= heldOutSequences,
    'honest.rejectedSequences',
    `at most ${heldOutSequences}`,
    rejectedSequences,
  )
  const names = forgeries.map(({ name }) => name)
  for (const name of TRIVIAL_FORGERIES) {
    must(names.filter((given) => given === name).length === 1, 'forgeries', `with '${name}' once`, names.join(', '))
  }
  forgeries.forEach(({ minStrain }, i) => void must(minStrain > 1, `forgeries[${i}].minStrain`, 'over 1', minStrain))
  return read
}
