// SHA-256 with one domain tag per use, so that no digest of one kind can be passed off as another.
import { createHash, type Hash, hash } from 'node:crypto'
import { wrongValue } from './errors'
import type { LayerSamples } from './kv'

/** What a digest is for; part of every hash input. */
export type HashUse =
  | 'binding'
  | 'context-start'
  | 'context'
  | 'token-sampler'
  | 'layer-sampler'
  | 'depth'
  | 'proof'
  | 'samples'
  | 'seed'
  | 'leaf'
  | 'node'
  | 'commitment'
  | 'challenge'
  | 'challenge-context'
  | 'depth'
  | 'sketch'
  | 'replay'
  | 'blind'
  | 'seal'
  | 'sealed-result'
  | 'refusal'
  | 'canary'

/** Bytes of every digest in the formats. */
export const DIGEST_BYTES = 32

/** The bytes that every hash input of one use begins with: ASCII "proof-of-cache/v1/<use>" and a zero byte. */
export function domainTag(use: HashUse): Uint8Array {
  return new Uint8Array(Buffer.from(`proof-of-cache/v1/${use}\0`, 'latin1'))
}

/**
 * SHA-256 over bytes that already begin with a domain tag. Samplers call it for every token: a string of Latin-1 and
 * an array of 32 bytes cost a quarter of a Buffer, whose memory is not on the heap.
 */
export function sha256(tagged: Uint8Array): Uint8Array {
  const text = hash('sha256', tagged, 'binary')
  const digest = new Uint8Array(DIGEST_BYTES)
  for (let i = 0; i < DIGEST_BYTES; i++) digest[i] = text.charCodeAt(i)
  return digest
}

/** SHA-256 over the tag of `use` and then `parts`. */
export function taggedHash(use: HashUse, ...parts: Uint8Array[]): Uint8Array {
  const running = createHash('sha256').update(domainTag(use))
  for (const part of parts) running.update(part)
  return plainBytes(running.digest())
}

/** H(context) or H(context, le32(counter)) for one use, with its input laid out once: samplers call it per token. */
export function contextHash(use: HashUse): (context: Uint8Array, counter?: number) => Uint8Array {
  const tag = domainTag(use)
  const end = tag.length + DIGEST_BYTES
  const input = new Uint8Array(end + 4)
  const uncounted = input.subarray(0, end)
  const view = new DataView(input.buffer)
  input.set(tag)
  return (context, counter) => {
    input.set(checkDigest(context, 'context'), tag.length)
    if (counter === undefined) return sha256(uncounted)
    view.setUint32(end, counter, true)
    return sha256(input)
  }
}

/** `bytes` if they are as long as a digest. */
export function checkDigest(bytes: unknown, where: string): Uint8Array {
  if (bytes instanceof Uint8Array && bytes.length === DIGEST_BYTES) return bytes
  throw wrongValue('INVALID_ARGUMENT', where, `a Uint8Array of ${DIGEST_BYTES} bytes`, bytes)
}

/** Numbers as consecutive unsigned 32-bit little-endian words, on any machine. */
export function le32(values: ArrayLike<number>): Uint8Array {
  const bytes = new Uint8Array(values.length * 4)
  const view = new DataView(bytes.buffer)
  for (let i = 0; i < values.length; i++) view.setUint32(i * 4, values[i], true)
  return bytes
}

/** The unsigned 32-bit little-endian word at a byte of a digest; a DataView would take its memory off the heap. */
export function wordAt(digest: Uint8Array, byte: number): number {
  return (digest[byte] | (digest[byte + 1] << 8) | (digest[byte + 2] << 16) | (digest[byte + 3] << 24)) >>> 0
}

/** The words that {@link le32} wrote; `bytes` holds a whole number of them. */
export function fromLe32(bytes: Uint8Array): Uint32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const values = new Uint32Array(bytes.length >>> 2)
  for (let i = 0; i < values.length; i++) values[i] = view.getUint32(i * 4, true)
  return values
}

/** Collects layers into the digest of a set of samples. */
export interface SamplesHash {
  /** The next layer, in ascending order; a layer without positions is left out of the digest. */
  push(layer: LayerSamples): void
  /** The digest so far, as hex; `push` may go on afterwards. */
  digest(): string
}

/** The digest over recomputed samples that a verdict states, fed layer by layer. */
export function createSamplesHash(): SamplesHash {
  const running: Hash = createHash('sha256').update(domainTag('samples'))
  return {
    push({ layer, positions, k, v }) {
      if (positions.length === 0) return
      running
        .update(le32([layer, positions.length]))
        .update(le32(positions))
        .update(k)
        .update(v)
    },
    digest: () => running.copy().digest('hex'),
  }
}

// Node's digests are Buffers, whose `slice` and JSON differ from those of the Uint8Array promised in the API.
function plainBytes(buffer: Buffer): Uint8Array {
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength)
}
