// Bytes as lowercase hex, the form that digests, seeds and nonces have in objects and JSON.
import { type ErrorCode, wrongValue } from './errors'

/** `value` as lowercase hex of `min` to `max` bytes. */
export function hexOf(value: unknown, min: number, max: number, where: string, code: ErrorCode): string {
  const isHex = typeof value === 'string' && value.length <= 2 * max && /^(?:[0-9a-f]{2})*$/.test(value)
  if (!isHex || value.length < 2 * min) {
    const expected = `lowercase hex of ${min === max ? min : `${min} to ${max}`} bytes`
    throw wrongValue(code, where, expected, value)
  }
  return value
}

/** The bytes that a checked hex string spells. */
export function bytesOf(hex: string): Uint8Array {
  return new Uint8Array(Buffer.from(hex, 'hex'))
}

/** Lowercase hex of bytes. */
export function hexFrom(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')
}
