// The formats once more, from the text of docs/FORMATS.md: nothing here comes from lib/.

import { createHash } from 'node:crypto'
import fc from 'fast-check'
import type { ProofHeader } from '../../lib/binding'

export const bytes = (hex: string) => Uint8Array.from(Buffer.from(hex, 'hex'))
export const hex = (data: Uint8Array) => Buffer.from(data).toString('hex')
export const join = (...parts: Uint8Array[]) => Uint8Array.from(Buffer.concat(parts))

/** SHA-256 with its domain tag. */
export function H(use: string, ...parts: Uint8Array[]): Uint8Array {
  return Uint8Array.from(
    createHash('sha256')
      .update(join(Buffer.from(`proof-of-cache/v1/${use}\0`), ...parts))
      .digest(),
  )
}

export function le32(...words: number[]): Uint8Array {
  return Uint8Array.from(words.flatMap((word) => [word & 255, (word >>> 8) & 255, (word >>> 16) & 255, word >>> 24]))
}

/** A number that is written as a float. */
export class Float {
  constructor(readonly value: number) {}
}

export function cbor(value: unknown): Uint8Array {
  if (typeof value === 'number') return head(0, value)
  if (value instanceof Uint8Array) return join(head(2, value.length), value)
  if (typeof value === 'string') return join(head(3, value.length), Buffer.from(value))
  if (Array.isArray(value)) return join(head(4, value.length), ...value.map(cbor))
  if (value instanceof Float) {
    const data = Buffer.alloc(9, 0xfb)
    data.writeDoubleBE(value.value, 1)
    return data
  }
  const pairs = Object.entries(value as object).map(([key, item]) => [cbor(key), cbor(item)])
  pairs.sort(([a], [b]) => Buffer.compare(a, b))
  return join(head(5, pairs.length), ...pairs.flat())
}

export function head(major: number, n: number): Uint8Array {
  const size = n < 24 ? 0 : n < 256 ? 1 : n < 65536 ? 2 : 4
  const digits = Array.from({ length: size }, (_, i) => Math.floor(n / 256 ** (size - 1 - i)) % 256)
  return Uint8Array.of((major << 5) | (size === 0 ? n : 23 + [0, 1, 2, 0, 3][size]), ...digits)
}

/** The header's map as it stands in a proof. */
export function headerMap({ sampling, stop, ...header }: ProofHeader): Record<string, unknown> {
  return {
    ...header,
    modelDigest: bytes(header.modelDigest),
    nonce: bytes(header.nonce),
    previousRoot: bytes(header.previousRoot),
    stop: stop ? { maxNewTokens: stop.maxNewTokens, stopTokens: le32(...stop.stopTokens) } : {},
    sampling: sampling
      ? {
          temperature: new Float(sampling.temperature),
          topP: new Float(sampling.topP),
          topK: sampling.topK,
          seed: bytes(sampling.seed),
        }
      : {},
  }
}

/** The context digests at all positions. */
export function contexts(header: ProofHeader, tokens: ArrayLike<number>): Uint8Array[] {
  let digest = H('context-start', H('binding', cbor(headerMap(header))))
  return Array.from(tokens, (token) => {
    digest = H('context', digest, le32(token))
    return digest
  })
}

const hexString = (min: number, max: number) => fc.uint8Array({ minLength: min, maxLength: max }).map(hex)

/** Any small header, with samplers for any number of layers. */
export const anyHeader: fc.Arbitrary<ProofHeader> = fc.record({
  version: fc.constant(1 as const),
  modelDigest: hexString(32, 32),
  numLayers: fc.integer({ min: 1, max: 40 }),
  numKvHeads: fc.integer({ min: 1, max: 3 }),
  headDim: fc.integer({ min: 1, max: 9 }),
  hiddenSize: fc.integer({ min: 1, max: 20 }),
  numerics: fc.constantFrom('ieee32', 'llama.cpp'),
  kvDtype: fc.constantFrom('f32' as const, 'f16' as const, 'bf16' as const),
  promptLength: fc.constantFrom(1, 2),
  sampling: fc.option(
    fc.record({
      temperature: fc.double({ min: 0, noNaN: true, noDefaultInfinity: true }).map((value) => Math.abs(value)),
      topK: fc.nat(0xffffffff),
      topP: fc.double({ min: 0, max: 1, minExcluded: true, noNaN: true }),
      seed: hexString(0, 64),
    }),
  ),
  stop: fc.option(
    fc.record({
      maxNewTokens: fc.integer({ min: 1, max: 2 ** 20 }),
      stopTokens: fc.uniqueArray(fc.nat(0xffffffff), { maxLength: 4 }).map((ids) => ids.sort((a, b) => a - b)),
    }),
  ),
  challenge: fc.constant('context' as const),
  depth: fc.constantFrom('kv', 'full'),
  form: fc.constant('rows' as const),
  tokenSampler: fc.constantFrom('all', 'every:3', 'bernoulli:1/4', 'bernoulli:1/1'),
  layerSampler: fc.constantFrom('uniform:1', 'uniform:3', 'stratified:2', 'stratified:5', 'fixed:0'),
  nonce: hexString(0, 64),
  previousRoot: fc.oneof(fc.constant(''), hexString(32, 32)),
})

export const anyTokens = fc
  .array(fc.nat(0xffffffff), { minLength: 2, maxLength: 40 })
  .map((tokens) => Uint32Array.from(tokens))

export const SMALL_HEADER: ProofHeader = {
  version: 1,
  modelDigest: '5a'.repeat(32),
  numLayers: 6,
  numKvHeads: 1,
  headDim: 2,
  hiddenSize: 3,
  numerics: 'ieee32',
  kvDtype: 'bf16',
  promptLength: 2,
  sampling: { temperature: 1, topK: 0, topP: 1, seed: '07' },
  stop: null,
  challenge: 'context',
  depth: 'kv',
  form: 'rows',
  tokenSampler: 'every:2',
  layerSampler: 'fixed:1,4',
  nonce: 'beef',
  previousRoot: '',
}
