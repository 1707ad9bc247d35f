// The proof's header: its rules, and its fields as CBOR has them.
import type { ProofHeader, SamplingParams, StopRule } from './binding'
import { encodeCanonical, float64 } from './cbor'
import { parseDepth } from './depth'
import { type ErrorCode, PocError, wrongValue } from './errors'
import { fromLe32, le32 } from './hash'
import { bytesOf, hexFrom, hexOf } from './hex'
import { KV_DTYPE_BYTES, type KvDtype } from './kv'
import {
  integerIn,
  MAX_HEAD_DIM,
  MAX_HIDDEN_SIZE,
  MAX_KV_HEADS,
  MAX_LAYERS,
  MAX_NUMERICS_NAME,
  MAX_SEED_BYTES,
  MAX_STOP_TOKENS,
  MAX_TOKENS,
  MAX_TOP_K,
} from './limits'
import { checkSamplerName, isBuiltInSampler, parseLayerSampler, parseTokenSampler } from './sampler'

type Fields = Record<string, unknown>

/**
 * Checks a header and returns a copy with its own fields only.
 *
 * @param code - What an error says: INVALID_ARGUMENT for a caller's object, PROOF_MALFORMED for decoded bytes.
 */
export function checkHeader(header: unknown, code: ErrorCode, where = 'header'): ProofHeader {
  const checked = checkFields(header, code, where)
  checkTogether(checked, where, code)
  return checked
}

/** As {@link checkHeader}, each field by itself. */
export function checkFields(header: unknown, code: ErrorCode, where: string): ProofHeader {
  const fields = fieldsOf(header, where, code)
  const integer = (name: string, max: number) => integerIn(fields[name], 1, max, `${where}.${name}`, code)
  if (fields.version !== 1) throw wrongValue(code, `${where}.version`, '1', fields.version)
  const text = <T extends string>(name: string, choices: readonly T[]) =>
    oneOf(choices, fields[name], `${where}.${name}`, code)
  const numLayers = integer('numLayers', MAX_LAYERS)
  return {
    version: 1,
    modelDigest: hexOf(fields.modelDigest, 32, 32, `${where}.modelDigest`, code),
    numLayers,
    numKvHeads: integer('numKvHeads', MAX_KV_HEADS),
    headDim: integer('headDim', MAX_HEAD_DIM),
    hiddenSize: integer('hiddenSize', MAX_HIDDEN_SIZE),
    numerics: numericsName(fields.numerics, `${where}.numerics`, code),
    kvDtype: text('kvDtype', Object.keys(KV_DTYPE_BYTES) as KvDtype[]),
    promptLength: integer('promptLength', MAX_TOKENS),
    sampling: fields.sampling === null ? null : checkSampling(fields.sampling, `${where}.sampling`, code),
    stop: fields.stop === null ? null : checkStop(fields.stop, `${where}.stop`, code),
    challenge: text('challenge', ['context', 'beacon'] as const),
    depth: canonicalName(fields.depth, `${where}.depth`, code, parseDepth),
    form: text('form', ['rows', 'digest', 'sketch'] as const),
    tokenSampler: samplerName(fields.tokenSampler, `${where}.tokenSampler`, code, parseTokenSampler),
    layerSampler: samplerName(fields.layerSampler, `${where}.layerSampler`, code, parseLayerSampler),
    nonce: hexOf(fields.nonce, 0, MAX_SEED_BYTES, `${where}.nonce`, code),
    previousRoot: rootOf(fields.previousRoot, `${where}.previousRoot`, code),
  }
}

/** Rules that hold between fields. */
function checkTogether(header: ProofHeader, where: string, code: ErrorCode): void {
  const { challenge, depth, form, layerSampler, numerics, numLayers } = header
  const { isRandom, deepest } = parseDepth(depth)
  if (isRandom && challenge !== 'beacon') {
    // Drawn from the tokens, it would be known to the generator while it works.
    throw wrongValue(code, `${where}.depth`, "'kv' or 'full' where positions come from the context", depth)
  }
  if (form === 'sketch' && challenge === 'beacon') {
    throw wrongValue(code, `${where}.form`, "'rows' or 'digest' where a commitment is opened", form)
  }
  if (form === 'digest' && numerics !== 'ieee32') {
    throw wrongValue(code, `${where}.form`, "'rows' or 'sketch' in numerics other than ieee32", form)
  }
  if (!layerSampler.startsWith('fixed:')) return
  if (isRandom) throw wrongValue(code, `${where}.layerSampler`, 'a sampler that draws layers', layerSampler)
  try {
    parseLayerSampler(layerSampler).layers(new Uint8Array(32), 0, deepest(null, numLayers) + 1)
  } catch (error) {
    throw retold(error, `${where}.layerSampler`, layerSampler, code)
  }
}

function numericsName(value: unknown, where: string, code: ErrorCode): string {
  if (typeof value === 'string' && value.length <= MAX_NUMERICS_NAME && /^[a-z0-9][a-z0-9:._/,+-]*$/.test(value)) {
    return value
  }
  const expected = `'ieee32', or an engine's name: 1 to ${MAX_NUMERICS_NAME} of a-z 0-9 : . _ / , + -`
  throw wrongValue(code, where, expected, value)
}

/** '' or 32 bytes in hex. */
export function rootOf(value: unknown, where: string, code: ErrorCode): string {
  return value === '' ? '' : hexOf(value, 32, 32, where, code)
}

function checkStop(stop: unknown, where: string, code: ErrorCode): StopRule {
  const { maxNewTokens, stopTokens } = fieldsOf(stop, where, code)
  if (!Array.isArray(stopTokens) || stopTokens.length > MAX_STOP_TOKENS) {
    throw wrongValue(code, `${where}.stopTokens`, `an array of at most ${MAX_STOP_TOKENS} token ids`, stopTokens)
  }
  const ids = Array.from(stopTokens, (token: unknown, i) => {
    const least = i === 0 ? 0 : Number(stopTokens[i - 1]) + 1
    return integerIn(token, least, 2 ** 32 - 1, `${where}.stopTokens[${i}]`, code)
  })
  return { maxNewTokens: integerIn(maxNewTokens, 1, MAX_TOKENS, `${where}.maxNewTokens`, code), stopTokens: ids }
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

type Parse = (name: string) => { readonly name: string }

function samplerName(name: unknown, where: string, code: ErrorCode, parse: Parse): string {
  return isBuiltInSampler(name) ? canonicalName(name, where, code, parse) : checkSamplerName(name, where, code)
}

// Two spellings of one sampler would be two bindings of one meaning.
function canonicalName(name: unknown, where: string, code: ErrorCode, parse: Parse): string {
  let canonical: string
  try {
    canonical = parse(name as string).name
  } catch (error) {
    throw retold(error, where, name, code)
  }
  if (name !== canonical) throw wrongValue(code, where, `'${canonical}'`, name)
  return canonical
}

function retold(error: unknown, where: string, value: unknown, code: ErrorCode): unknown {
  return error instanceof PocError ? wrongValue(code, where, error.expected ?? 'a known name', value) : error
}

/** The header as it stands in a proof; the same bytes are what the binding hashes. */
export function headerFields(header: ProofHeader): Fields {
  const { sampling, stop } = header
  return {
    ...header,
    modelDigest: bytesOf(header.modelDigest),
    sampling: sampling === null ? {} : samplingFields(sampling),
    stop: stop === null ? {} : { ...stop, stopTokens: le32(stop.stopTokens) },
    nonce: bytesOf(header.nonce),
    previousRoot: bytesOf(header.previousRoot),
  }
}

function samplingFields(sampling: SamplingParams): Fields {
  const { temperature, topP, seed } = sampling
  return { ...sampling, temperature: float64(temperature), topP: float64(topP), seed: bytesOf(seed) }
}

/** Canonical CBOR of a header that {@link checkHeader} returned. */
export function encodeHeader(header: ProofHeader): Uint8Array {
  return encodeCanonical(headerFields(header))
}

/** Undoes {@link headerFields} on a decoded map; values of wrong types are left for {@link checkHeader}. */
export function headerOf(map: unknown): unknown {
  if (!(map instanceof Map)) return map
  const fields: Fields = Object.fromEntries(map)
  const { sampling, stop } = fields
  if (sampling instanceof Map) {
    fields.sampling = sampling.size === 0 ? null : withHex(Object.fromEntries(sampling), ['seed'])
  }
  if (stop instanceof Map) fields.stop = stop.size === 0 ? null : stopOf(Object.fromEntries(stop))
  return withHex(fields, ['modelDigest', 'nonce', 'previousRoot'])
}

function stopOf(fields: Fields): Fields {
  const { stopTokens } = fields
  const isWords = stopTokens instanceof Uint8Array && stopTokens.length % 4 === 0
  return isWords ? { ...fields, stopTokens: [...fromLe32(stopTokens)] } : fields
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
