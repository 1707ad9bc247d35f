// Samplers decide which positions and which layers go into a proof, from the context digest alone.
import { type ErrorCode, wrongValue } from './errors'
import { fixed, stratified, uniform } from './layer-sampler'
import { MAX_SAMPLER_NAME } from './limits'
import { all, bernoulli, every } from './token-sampler'

/** Decides which positions are sampled; a pure function of its arguments. */
export interface TokenSampler {
  /** Goes into the header and thereby into the binding. */
  readonly name: string
  /** Expected share of positions: integers with 0 <= num <= den. */
  readonly rate: { readonly num: number; readonly den: number }
  /** @param context - The context digest at `position`, 32 bytes. */
  samples(context: Uint8Array, position: number): boolean
}

/** Decides which layers of a sampled position are sampled; a pure function of its arguments. */
export interface LayerSampler {
  /** Goes into the header and thereby into the binding. */
  readonly name: string
  /** @returns At least one layer, strictly increasing, each in [0, numLayers). */
  layers(context: Uint8Array, position: number, numLayers: number): number[]
}

/** Makes a sampler of what follows the colon of its name; null where that is not well formed. */
export type SamplerParser<T> = (argument: string) => T | null

const TOKEN_SAMPLERS = new Map<string, SamplerParser<TokenSampler>>(Object.entries({ bernoulli, every, all }))
const LAYER_SAMPLERS = new Map<string, SamplerParser<LayerSampler>>(Object.entries({ uniform, stratified, fixed }))
const TOKEN_SAMPLER_FORMS = "'bernoulli:n/d' with 0 < n/d <= 1, 'every:n' or 'all'"
const LAYER_SAMPLER_FORMS = "'uniform:count', 'stratified:count' or 'fixed:layer,layer,...'"

// Objects made here may bear the names that custom samplers must not.
const made = new WeakSet<object>()

/** Whether this library made the object. */
export const isOwnSampler = (sampler: object): boolean => made.has(sampler)

/** Whether a name belongs to a built-in sampler by what stands before its colon. */
export function isBuiltInSampler(name: unknown): name is string {
  if (typeof name !== 'string') return false
  const [family] = split(name)
  return TOKEN_SAMPLERS.has(family) || LAYER_SAMPLERS.has(family)
}

/** `name` as a name that a custom sampler may have; `code` and `where` go into the error. */
export function checkSamplerName(name: unknown, where: string, code: ErrorCode): string {
  if (typeof name !== 'string' || name.length > MAX_SAMPLER_NAME || !/^[a-z0-9][a-z0-9:._/,+-]*$/.test(name)) {
    const expected = `1 to ${MAX_SAMPLER_NAME} of a-z 0-9 : . _ / , + - beginning with a letter or digit`
    throw wrongValue(code, where, expected, name)
  }
  return name
}

/**
 * The token sampler of a name: `bernoulli:n/d` (or a decimal: `bernoulli:0.03125`), `every:n` or `all`.
 *
 * @returns A sampler whose `name` is canonical: fractions are reduced, decimals become fractions.
 * @throws {PocError} INVALID_ARGUMENT
 * @see Proof of Cache, section 3.2, "token-sampler function".
 */
export function parseTokenSampler(name: string): TokenSampler {
  return parse(name, 'tokenSampler', TOKEN_SAMPLERS, TOKEN_SAMPLER_FORMS)
}

/**
 * The layer sampler of a name: `uniform:count`, `stratified:count` or `fixed:0,3,5`.
 *
 * The first two leave out layer 0, whose K and V depend on token and position alone, unless it is the only one;
 * a count over the number of candidates means all of them.
 * @throws {PocError} INVALID_ARGUMENT; also from `layers` when a fixed layer is not in the model
 * @see Proof of Cache, section 3.2, "layer-sampler function".
 */
export function parseLayerSampler(name: string): LayerSampler {
  return parse(name, 'layerSampler', LAYER_SAMPLERS, LAYER_SAMPLER_FORMS)
}

function parse<T extends object>(
  name: unknown,
  where: string,
  samplers: Map<string, SamplerParser<T>>,
  forms: string,
): T {
  const [family, argument] = typeof name === 'string' ? split(name) : ['', '']
  const sampler = samplers.get(family)?.(argument)
  if (!sampler) throw wrongValue('INVALID_ARGUMENT', where, forms, name)
  made.add(sampler)
  return Object.freeze(sampler)
}

function split(name: string): [family: string, argument: string] {
  const colon = name.indexOf(':')
  // 'all' and 'all:' must differ: two spellings of one sampler would be two bindings.
  return colon < 0 ? [name, ''] : [name.slice(0, colon), name.slice(colon + 1) || ':']
}
