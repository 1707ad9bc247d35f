// Deterministic CBOR (RFC 8949, section 4.2.1), and a guard that keeps hostile bytes away from the decoder.
import { decode, encode, Token, Type } from 'cborg'
import { PocError } from './errors'

// What a proof needs at most: 3 levels, 9 items for each of 4096 layers, sampler names of 1286 bytes.
const MAX_DEPTH = 3
const MAX_ITEMS = 2 ** 16
const MAX_TEXT_BYTES = 2048

const UINT = 0
const BYTES = 2
const TEXT = 3
const ARRAY = 4
const MAP = 5
const FLOAT64 = 0xfb

/** Marks a number that is written as a 64-bit float even where it is whole. */
export function float64(value: number): Float64Array {
  return Float64Array.of(value)
}

/** Shortest integers, definite lengths, keys in bytewise order of their encoding, every float in 64 bits. */
export function encodeCanonical(value: unknown): Uint8Array {
  const bytes = encode(value, {
    float64: true,
    typeEncoders: { Float64Array: ([number]: Float64Array) => new Token(Type.float, number) },
  })
  // A view into somebody's larger pool would carry that pool along when it is transferred.
  return bytes.byteLength === bytes.buffer.byteLength ? bytes : bytes.slice()
}

/**
 * Decodes bytes with maps as `Map`; cost and depth are bounded by the guard, whatever the bytes say.
 * Canonical form is not checked in full here: the caller encodes again and compares.
 *
 * @throws {PocError} PROOF_MALFORMED
 */
export function decodeCanonical(bytes: Uint8Array): unknown {
  scan(bytes)
  try {
    return decode(bytes, {
      strict: true,
      allowIndefinite: false,
      allowUndefined: false,
      allowBigInt: false,
      allowNaN: false,
      allowInfinity: false,
      rejectDuplicateMapKeys: true,
      useMaps: true,
    })
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new PocError('PROOF_MALFORMED', `proof is not deterministic CBOR: ${reason}`, { where: 'proof', cause })
  }
}

/** Walks the token structure without building anything: kinds, depth, counts and lengths. */
function scan(bytes: Uint8Array): void {
  const pending = [1] // items still to come at each level
  let pos = 0
  let items = 0
  while (pending.length > 0) {
    const level = pending.length - 1
    if (pending[level] === 0) {
      pending.pop()
      continue
    }
    pending[level]--
    if (++items > MAX_ITEMS) throw malformed(pos, `at most ${MAX_ITEMS} items`, 'more')
    const head = readHead(bytes, pos)
    pos += head.bytes
    if (head.major === ARRAY || head.major === MAP) {
      if (pending.length > MAX_DEPTH) throw malformed(pos, `at most ${MAX_DEPTH} levels`, 'more')
      // A count beyond the item limit fails there; it is never more than a number here.
      pending.push(head.major === MAP ? head.argument * 2 : head.argument)
    } else if (head.major === BYTES || head.major === TEXT) {
      const most = head.major === TEXT ? Math.min(MAX_TEXT_BYTES, bytes.length - pos) : bytes.length - pos
      if (head.argument > most) throw malformed(pos, `a string of at most ${most} bytes`, `${head.argument} bytes`)
      pos += head.argument
    }
  }
  if (pos !== bytes.length) throw malformed(pos, 'the end', `${bytes.length - pos} bytes more`)
}

function readHead(bytes: Uint8Array, pos: number): { major: number; argument: number; bytes: number } {
  if (pos >= bytes.length) throw malformed(pos, 'another item', 'the end')
  const major = bytes[pos] >>> 5
  const info = bytes[pos] & 31
  const wellKnown = major === UINT || (major >= BYTES && major <= MAP) || bytes[pos] === FLOAT64
  if (!wellKnown || info > 27) {
    const expected = 'an unsigned integer, string, array or map of definite length, or a 64-bit float'
    throw malformed(pos, expected, `initial byte 0x${bytes[pos].toString(16).padStart(2, '0')}`)
  }
  const extra = info < 24 ? 0 : 1 << (info - 24)
  if (pos + 1 + extra > bytes.length) throw malformed(pos, `${extra} bytes more in this item`, 'the end')
  let argument = info < 24 ? info : 0
  for (let i = 1; i <= extra; i++) argument = argument * 256 + bytes[pos + i]
  return { major, argument, bytes: 1 + extra }
}

function malformed(pos: number, expected: string, received: string): PocError {
  const where = `proof at byte ${pos}`
  return new PocError('PROOF_MALFORMED', `${where}: expected ${expected}, received ${received}`, {
    where,
    expected,
    received,
  })
}
