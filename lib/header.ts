// The proof's header: its rules, and its fields as CBOR has them.
import type { ProofHeader, SamplingParams } from './binding'
import { encodeCanonical, float64 } from './cbor'
import { type ErrorCode, PocError, wrongValue } from './errors'
import { bytesOf, hexFrom, hexOf } from './hex'
import { KV_DTYPE_BYTES, type KvDtype } from './kv'
import { integerIn, MAX_HEAD_DIM, MAX_KV_HEADS, MAX_LAYERS, MAX_SEED_BYTES, MAX_TOKENS, MAX_TOP_K } from './limits'
import { checkSamplerName, isBuiltInSampler, parseLayerSampler, parseTokenSampler } from './sampler'

type Fields = Record<string, unknown>

/**
 * Checks a header and returns a copy with its own fields only.
 *
 * @param code - What an error says: INVALID_ARGUMENT for a caller's object, PROOF_MALFORMED for decoded bytes.
 */
export function checkHeader(header: unknown, code: ErrorCode, where = 'header'): ProofHeader {
  const fields = fieldsOf(header, where, code)
  const integer = (name: string, max: number) => integerIn(fields[name], 1, max, `${where}.${name}`, code)
  if (fields.version !== 1) throw wrongValue(code, `${where}.version`, '1', fields.version)
  const numLayers = integer('numLayers', MAX_LAYERS)
  return {
    version: 1,
    modelDigest: hexOf(fields.modelDigest, 32, 32, `${where}.modelDigest`, code),
    numLayers,
    numKvHeads: integer('numKvHeads', MAX_KV_HEADS),
    headDim: integer('headDim', MAX_HEAD_DIM),
    numerics: oneOf(['ieee32'] as const, fields.numerics, `${where}.numerics`, code),
    kvDtype: oneOf(Object.keys(KV_DTYPE_BYTES) as KvDtype[], fields.kvDtype, `${where}.kvDtype`, code),
    promptLength: integer('promptLength', MAX_TOKENS),
    sampling: checkSampling(fields.sampling, `${where}.sampling`, code),
    tokenSampler: canonicalName(fields.tokenSampler, `${where}.tokenSampler`, code, (name) => parseTokenSampler(name)),
    layerSampler: canonicalName(fields.layerSampler, `${where}.layerSampler`, code, (name) => {
      const sampler = parseLayerSampler(name)
      sampler.layers(new Uint8Array(32), 0, numLayers) // refuses a fixed layer that the model does not have
      return sampler
    }),
    nonce: hexOf(fields.nonce, 0, MAX_SEED_BYTES, `${where}.nonce`, code),
  }
}

function checkSampling(sampling: unknown, where: string, code: ErrorCode): SamplingParams {
  const { temperature, topK, topP, seed } = fieldsOf(sampling, where, code)
  const finite = typeof temperature === 'number' && Number.isFinite(temperature)
  if (!finite || temperature < 0 || Object.is(temperature, -0)) {
    throw wrongValue(code, `${where}.temperature`, 'a finite number of at least 0', minusZero(temperature))
  }
  if (typeof topP !== 'number' || !(topP > 0 && topP <= 1)) {
    throw wrongValue(code, `${where}.topP`, 'a number over 0 and at most 1', minusZero(topP))
  }
  return {
    temperature,
    topK: integerIn(topK, 0, MAX_TOP_K, `${where}.topK`, code),
    topP,
    seed: hexOf(seed, 0, MAX_SEED_BYTES, `${where}.seed`, code),
  }
}

// Two spellings of one sampler would be two bindings of one meaning.
function canonicalName(
  name: unknown,
  where: string,
  code: ErrorCode,
  parse: (name: string) => { readonly name: string },
): string {
  if (!isBuiltInSampler(name)) return checkSamplerName(name, where, code)
  let canonical: string
  try {
    canonical = parse(name).name
  } catch (error) {
    if (!(error instanceof PocError)) throw error
    throw wrongValue(code, where, error.expected ?? 'the name of a sampler', name)
  }
  if (name !== canonical) throw wrongValue(code, where, `'${canonical}'`, name)
  return name
}

/** The header as it stands in a proof; the same bytes are what the binding hashes. */
export function headerFields(header: ProofHeader): Fields {
  const { temperature, topP, seed } = header.sampling
  return {
    ...header,
    modelDigest: bytesOf(header.modelDigest),
    sampling: { ...header.sampling, temperature: float64(temperature), topP: float64(topP), seed: bytesOf(seed) },
    nonce: bytesOf(header.nonce),
  }
}

/** Canonical CBOR of a header that {@link checkHeader} returned. */
export function encodeHeader(header: ProofHeader): Uint8Array {
  return encodeCanonical(headerFields(header))
}

/** Undoes {@link headerFields} on a decoded map; values of wrong types are left for {@link checkHeader}. */
export function headerOf(map: unknown): unknown {
  if (!(map instanceof Map)) return map
  const fields: Fields = Object.fromEntries(map)
  const sampling: unknown = fields.sampling
  if (sampling instanceof Map) fields.sampling = withHex(Object.fromEntries(sampling), ['seed'])
  return withHex(fields, ['modelDigest', 'nonce'])
}

function withHex(fields: Fields, names: string[]): Fields {
  for (const name of names) {
    const value = fields[name]
    if (value instanceof Uint8Array) fields[name] = hexFrom(value)
  }
  return fields
}

/** `value` as an object whose fields are still to be checked. */
export function fieldsOf(value: unknown, where: string, code: ErrorCode): Fields {
  if (typeof value !== 'object' || value === null) throw wrongValue(code, where, 'an object', value)
  return value as Fields
}

function oneOf<T extends string>(choices: readonly T[], value: unknown, where: string, code: ErrorCode): T {
  const choice = choices.find((known) => known === value)
  if (choice === undefined) throw wrongValue(code, where, choices.map((known) => `'${known}'`).join(' or '), value)
  return choice
}

// String(-0) is '0', which would make the message contradict itself.
function minusZero(value: unknown): unknown {
  return Object.is(value, -0) ? '-0' : value
}
