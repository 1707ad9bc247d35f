// The proof that a generator hands over: header, tokens, sampled KV vectors, what opens them; and its bytes.
import type { ProofHeader } from './binding'
import { decodeCanonical, encodeCanonical } from './cbor'
import { type ErrorCode, PocError, wrongValue } from './errors'
import { DIGEST_BYTES, le32, taggedHash } from './hash'
import { checkHeader, fieldsOf, headerFields, headerOf } from './header'
import { bytesOf, hexFrom, hexOf } from './hex'
import { type KvSample, vectorBytes } from './kv'
import { DEFAULT_MAX_PROOF_BYTES, integerIn, MAX_PROOF_BYTES, MAX_SEED_BYTES, MAX_TOKENS, MIN_TOKENS } from './limits'
import { bytesIn, checkNumSamples, groupsOf, samplesOf, words } from './sample-groups'
import { sketchBytes } from './sketch'

/** What a generator claims to have computed. */
export interface Proof {
  header: ProofHeader
  /** Prompt, then generated tokens. */
  tokens: Uint32Array
  /** Hex of the context digest at the last token; binds that token, which has no KV. */
  contextDigest: string
  /** In strict (layer, position) order. In the form `sketch`, `k` and `v` are sketches; in `digest` there are none. */
  samples: KvSample[]
  /** Hex of the digest of all samples in the form `digest`; else ''. */
  samplesDigest: string
  /** Hex of the commitment's root where the positions come from a beacon, and the beacon; else ''. */
  root: string
  beacon: string
  /** The tree's nodes that lead from the samples to the root, 32 bytes each; empty without a root. */
  path: Uint8Array
}

/** What a proof is about: everything but samples and what opens them. */
export type ProofSubject = Pick<Proof, 'header' | 'tokens' | 'contextDigest' | 'root' | 'beacon'>

/** Bounds of one call. */
export interface ProofLimits {
  /** Most bytes of an encoded proof, at most 2^31; 256 MiB unless stated. */
  maxBytes?: number
}

const FORMAT = 'proof-of-cache'
// A map of eight, whose first key is its shortest: every proof begins with the same 20 bytes.
const MAGIC = new Uint8Array(Buffer.from(`\xa8\x63poc\x6e${FORMAT}`, 'latin1'))

/**
 * The bytes of a proof, as docs/FORMATS.md lays them out.
 *
 * Checks form only: whether the samples are those of the plan, and the context digest that of the tokens, is for
 * the verifier to say.
 * @throws {PocError} INVALID_ARGUMENT, PROOF_TOO_LARGE
 */
export function encodeProof(proof: Proof, limits: ProofLimits = {}): Uint8Array {
  const maxBytes = checkLimits(limits)
  const checked = checkProof(proof, 'INVALID_ARGUMENT')
  const vectors = checked.samples.reduce((sum, { k, v }) => sum + k.length + v.length, 0)
  checkSize(checked.tokens.length * 4 + vectors + checked.path.length, maxBytes) // before memory is taken
  const bytes = encodeChecked(checked)
  checkSize(bytes.length, maxBytes)
  return bytes
}

/**
 * Reads a proof; every byte sequence gives a well-formed proof or an error, at a cost bounded by its length.
 *
 * Strict: `encodeProof(decodeProof(bytes))` is `bytes`, so a proof has one encoding and one digest.
 * @throws {PocError} PROOF_MALFORMED, PROOF_TOO_LARGE, or INVALID_ARGUMENT when `bytes` is not a Uint8Array
 */
export function decodeProof(bytes: Uint8Array, limits: ProofLimits = {}): Proof {
  const maxBytes = checkLimits(limits)
  if (!(bytes instanceof Uint8Array)) throw wrongValue('INVALID_ARGUMENT', 'proof', 'a Uint8Array', bytes)
  checkSize(bytes.length, maxBytes)
  const plain = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength) // a Buffer's slices would alias it
  const magicEnd = firstDifference(MAGIC, plain)
  if (magicEnd < MAGIC.length) throw malformedAt(magicEnd, `the first ${MAGIC.length} bytes of every proof`)
  const proof = checkProof(proofOf(decodeCanonical(plain)), 'PROOF_MALFORMED')
  const canonical = encodeChecked(proof)
  if (Buffer.compare(canonical, plain) !== 0) {
    throw malformedAt(firstDifference(canonical, plain), 'deterministic CBOR with the keys of this format')
  }
  return proof
}

/**
 * SHA-256 over a proof's bytes, 64 hex digits.
 *
 * @param proof - Or bytes as they came, which need be no proof.
 * @throws {PocError} INVALID_ARGUMENT, PROOF_TOO_LARGE
 */
export function proofDigest(proof: Proof | Uint8Array): string {
  const encoded = proof instanceof Uint8Array ? proof : encodeProof(proof, { maxBytes: MAX_PROOF_BYTES })
  return hexFrom(taggedHash('proof', encoded))
}

/**
 * A well-formed proof of our own, which no caller can change.
 *
 * @throws {PocError} INVALID_ARGUMENT, PROOF_TOO_LARGE
 */
export function copyProof(proof: Proof): Proof {
  const checked = checkProof(proof, 'INVALID_ARGUMENT')
  // Not slice(), which gives a view of the same memory where the caller has Buffers.
  const copyOf = ({ layer, position, k, v }: KvSample) => {
    return { layer, position, k: new Uint8Array(k), v: new Uint8Array(v) }
  }
  const { tokens, samples, path } = checked
  return { ...checked, tokens: new Uint32Array(tokens), samples: samples.map(copyOf), path: new Uint8Array(path) }
}

/** The rules of form that hold for a caller's object and for decoded bytes alike. */
export function checkProof(proof: Proof, code: ErrorCode): Proof {
  const { header, tokens, contextDigest, root, beacon } = checkSubject(proof, 'proof', code)
  const { samples, path } = proof
  const isDigest = header.form === 'digest'
  const samplesDigest = hexOrNone(proof.samplesDigest, isDigest, 32, 32, 'proof.samplesDigest', code)
  const isOpened = header.challenge === 'beacon'
  if (!(path instanceof Uint8Array) || path.length % DIGEST_BYTES !== 0 || (!isOpened && path.length > 0)) {
    throw wrongValue(code, 'proof.path', isOpened ? 'a Uint8Array of nodes of 32 bytes' : 'an empty Uint8Array', path)
  }
  if (!Array.isArray(samples)) throw wrongValue(code, 'proof.samples', 'an array', samples)
  checkNumSamples(samples.length)
  if (isDigest && samples.length > 0) throw wrongValue(code, 'proof.samples', 'empty in the form digest', samples)
  for (let i = 0; i < samples.length; i++) {
    checkSample(samples[i], `proof.samples[${i}]`, { header, numPositions: tokens.length - 1, code })
    if (i > 0 && !isBefore(samples[i - 1], samples[i])) {
      throw wrongValue(code, `proof.samples[${i}]`, 'after the one before it in (layer, position) order', samples[i])
    }
  }
  return { header, tokens, contextDigest, samples, samplesDigest, root, beacon, path }
}

/** The rules of form of what a proof is about, without its samples. */
export function checkSubject(given: ProofSubject, where: string, code: ErrorCode): ProofSubject {
  const { tokens, ...fields } = fieldsOf(given, where, code)
  const header = checkHeader(fields.header, code, `${where}.header`)
  if (!(tokens instanceof Uint32Array)) throw wrongValue(code, `${where}.tokens`, 'a Uint32Array', tokens)
  integerIn(tokens.length, MIN_TOKENS, MAX_TOKENS, `${where}.tokens.length`, code)
  integerIn(header.promptLength, 1, tokens.length, `${where}.header.promptLength`, code)
  const isOpened = header.challenge === 'beacon'
  return {
    header,
    tokens,
    contextDigest: hexOf(fields.contextDigest, 32, 32, `${where}.contextDigest`, code),
    root: hexOrNone(fields.root, isOpened, 32, 32, `${where}.root`, code),
    beacon: hexOrNone(fields.beacon, isOpened, 1, MAX_SEED_BYTES, `${where}.beacon`, code),
  }
}

function hexOrNone(value: unknown, isThere: boolean, min: number, max: number, where: string, code: ErrorCode): string {
  return isThere ? hexOf(value, min, max, where, code) : hexOf(value, 0, 0, where, code)
}

interface SampleRules {
  header: ProofHeader
  numPositions: number
  code: ErrorCode
}

function checkSample(sample: KvSample, where: string, { header, numPositions, code }: SampleRules): void {
  fieldsOf(sample, where, code)
  integerIn(sample.layer, 0, header.numLayers, `${where}.layer`, code)
  integerIn(sample.position, 0, numPositions - 1, `${where}.position`, code)
  const bytes = sampleBytes(header, sample.layer)
  for (const part of ['k', 'v'] as const) {
    const vector: unknown = sample[part]
    if (!(vector instanceof Uint8Array) || vector.length !== bytes[part]) {
      throw wrongValue(code, `${where}.${part}`, `a Uint8Array of ${bytes[part]} bytes`, vector)
    }
  }
}

/** Bytes of a sample's two vectors in a proof. */
function sampleBytes(header: ProofHeader, layer: number): { k: number; v: number } {
  return header.form === 'sketch' ? sketchBytes(header, layer) : vectorBytes(header, header.kvDtype, layer)
}

function isBefore(a: KvSample, b: KvSample): boolean {
  return a.layer < b.layer || (a.layer === b.layer && a.position < b.position)
}

function encodeChecked(proof: Proof): Uint8Array {
  const { header, tokens, contextDigest, samples, samplesDigest, root, beacon, path } = proof
  return encodeCanonical({
    poc: FORMAT,
    path,
    root: bytesOf(root),
    beacon: bytesOf(beacon),
    header: headerFields(header),
    tokens: le32(tokens),
    context: bytesOf(contextDigest),
    samples: header.form === 'digest' ? bytesOf(samplesDigest) : groupsOf(samples),
  })
}

/** A decoded map with the types of a proof; only what would cost memory is checked here, the rest by checkProof. */
function proofOf(map: unknown): Proof {
  if (!(map instanceof Map)) throw wrongValue('PROOF_MALFORMED', 'proof', 'a map', map)
  const header = checkHeader(headerOf(map.get('header')), 'PROOF_MALFORMED', 'proof.header')
  const bytes = (key: string) => bytesIn(map.get(key), `proof.${key}`)
  const isDigest = header.form === 'digest'
  return {
    header,
    tokens: words(map.get('tokens'), MAX_TOKENS, 'proof.tokens'),
    contextDigest: hexFrom(bytes('context')),
    samples: isDigest ? [] : samplesOf(map.get('samples'), (layer) => sampleBytes(header, layer)),
    samplesDigest: isDigest ? hexFrom(bytes('samples')) : '',
    root: hexFrom(bytes('root')),
    beacon: hexFrom(bytes('beacon')),
    path: bytes('path'),
  }
}

function malformedAt(byte: number, expected: string): PocError {
  const where = `proof at byte ${byte}`
  return new PocError('PROOF_MALFORMED', `${where}: expected ${expected}`, { where, expected })
}

function firstDifference(a: Uint8Array, b: Uint8Array): number {
  let i = 0
  while (i < a.length && i < b.length && a[i] === b[i]) i++
  return i
}

function checkLimits(limits: ProofLimits): number {
  const { maxBytes = DEFAULT_MAX_PROOF_BYTES } = fieldsOf(limits, 'limits', 'INVALID_ARGUMENT')
  return integerIn(maxBytes, 1, MAX_PROOF_BYTES, 'maxBytes', 'INVALID_ARGUMENT')
}

function checkSize(bytes: number, maxBytes: number): void {
  if (bytes > maxBytes) throw wrongValue('PROOF_TOO_LARGE', 'proof', `at most ${maxBytes} bytes`, bytes)
}
