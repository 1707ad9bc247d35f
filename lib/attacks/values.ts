// Stored values as numbers and back: what a forger needs to round or to make up vectors and weights.
import type { KvDtype } from '../kv'

/** Values of little-endian bytes. */
export function valuesOf(bytes: Uint8Array, dtype: KvDtype): Float32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (dtype === 'f32') return Float32Array.from({ length: bytes.length / 4 }, (_, i) => view.getFloat32(i * 4, true))
  const read = dtype === 'bf16' ? fromBf16 : fromF16
  return Float32Array.from({ length: bytes.length / 2 }, (_, i) => read(view.getUint16(i * 2, true)))
}

/** The bytes that hold finite values, each rounded to the nearest, ties to even. */
export function bytesOfValues(values: ArrayLike<number>, dtype: KvDtype): Uint8Array {
  const bytes = new Uint8Array(values.length * (dtype === 'f32' ? 4 : 2))
  const view = new DataView(bytes.buffer)
  for (let i = 0; i < values.length; i++) {
    if (dtype === 'f32') view.setFloat32(i * 4, values[i], true)
    else view.setUint16(i * 2, dtype === 'bf16' ? toBf16(values[i]) : toF16(values[i]), true)
  }
  return bytes
}

/** A value with so many bits of mantissa after the leading one, ties to even. */
export function withMantissa(value: number, bits: number): number {
  if (value === 0) return 0
  const step = 2 ** (Math.floor(Math.log2(Math.abs(value))) - bits)
  return roundTiesToEven(value / step) * step
}

const word = new DataView(new ArrayBuffer(4))

function fromBf16(bits: number): number {
  word.setUint32(0, bits << 16)
  return word.getFloat32(0)
}

function toBf16(value: number): number {
  word.setFloat32(0, value)
  const bits = word.getUint32(0)
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16
}

function fromF16(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >> 10) & 0x1f
  const fraction = bits & 0x3ff
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * 2 ** (exponent - 25)
}

function toF16(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0
  const size = Math.min(Math.abs(value), 65504)
  const exponent = Math.max(Math.floor(Math.log2(size || 2 ** -24)), -14)
  const fraction = roundTiesToEven(size * 2 ** (10 - exponent)) // 1024 to 2048, below it for a subnormal value
  return sign | (fraction < 1024 ? fraction : ((exponent + 14) << 10) + fraction)
}

function roundTiesToEven(value: number): number {
  const down = Math.floor(value)
  const rest = value - down
  return rest > 0.5 || (rest === 0.5 && down % 2 !== 0) ? down + 1 : down
}
