// What public functions check of values whose form they do not know, so that a wrong one is a typed error at the door.
import { wrongValue } from './errors'
import type { KvSample, LayerSamples } from './kv'

type Fields = Record<string, unknown>

/** The form of one item: in words, and as a test. */
export interface Form<T> {
  readonly words: string
  matches(value: unknown): value is T
}

function form<T>(words: string, matches: (value: Fields) => boolean): Form<T> {
  const isOne = (value: unknown): value is T => typeof value === 'object' && value !== null && matches(value as Fields)
  return { words, matches: isOne }
}

const isIndex = (value: unknown) => Number.isInteger(value) && (value as number) >= 0 && (value as number) < 2 ** 32
const isPair = (value: unknown): value is [unknown, unknown] => Array.isArray(value) && value.length === 2
const areBytes = ({ k, v }: Fields) => k instanceof Uint8Array && v instanceof Uint8Array

export const SAMPLE = form<KvSample>('a sample: layer, position, and k and v as Uint8Array', (value) => {
  return isIndex(value.layer) && isIndex(value.position) && areBytes(value)
})
export const LAYER = form<LayerSamples>(
  'a layer: its number, positions as Uint32Array, k and v as Uint8Array',
  (value) => {
    return isIndex(value.layer) && value.positions instanceof Uint32Array && areBytes(value)
  },
)
export const LAYER_DIGEST = form<readonly [number, string]>('[layer, digest]', (value) => {
  return isPair(value) && isIndex(value[0]) && typeof value[1] === 'string'
})
export const RECOMPUTATION = form<{ verifier: string; digests: readonly (readonly [number, string])[] }>(
  'a verifier and its digests, each [layer, digest]',
  ({ verifier, digests }) => {
    return typeof verifier === 'string' && Array.isArray(digests) && digests.every(LAYER_DIGEST.matches)
  },
)
export const SAMPLE_INDEX = form<[number, number]>('[layer, position]', (value) => {
  return isPair(value) && value.every(isIndex)
})
export const VECTOR_NAME = form<{ layer: number; position: number; part: 'k' | 'v' | 'hidden' }>(
  "layer, position, and part 'k', 'v' or 'hidden'",
  ({ layer, position, part }) => isIndex(layer) && isIndex(position) && ['k', 'v', 'hidden'].includes(part as string),
)
export const OP_DIGEST = form<{ op: string; digest: string }>('op and digest as strings', ({ op, digest }) => {
  return typeof op === 'string' && typeof digest === 'string'
})

/** `value` if it has a form; throws INVALID_ARGUMENT. */
export function given<T>({ words, matches }: Form<T>, value: unknown, where: string): T {
  if (matches(value)) return value
  throw wrongValue('INVALID_ARGUMENT', where, words, value)
}

/** `value` if it is an array of items of a form; throws INVALID_ARGUMENT. */
export function givenList<T>({ words, matches }: Form<T>, value: unknown, where: string): readonly T[] {
  if (!Array.isArray(value)) throw wrongValue('INVALID_ARGUMENT', where, `an array, each ${words}`, value)
  const wrong = value.findIndex((item) => !matches(item))
  if (wrong < 0) return value
  throw wrongValue('INVALID_ARGUMENT', `${where}[${wrong}]`, words, value[wrong])
}
