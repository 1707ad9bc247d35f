// How far a claimed vector is from the recomputed one: as vectors, or by their sketches.

import { KV_DTYPE_BYTES, type KvDtype } from './kv'

/** The values of a stored vector, widened exactly. */
export function valuesOf(row: Uint8Array, dtype: KvDtype): Float64Array {
  const view = new DataView(row.buffer, row.byteOffset, row.byteLength)
  const size = KV_DTYPE_BYTES[dtype]
  const at = {
    f32: (offset: number) => view.getFloat32(offset, true),
    f16: (offset: number) => halfAt(view.getUint16(offset, true)),
    bf16: (offset: number) => {
      word.setUint32(0, view.getUint16(offset, true) << 16)
      return word.getFloat32(0)
    },
  }[dtype]
  return Float64Array.from({ length: row.byteLength / size }, (_, i) => at(i * size))
}

/** The values of one of `numRows` rows that lie one after another. */
export function rowValues(rows: Uint8Array, row: number, numRows: number, dtype: KvDtype): Float64Array {
  const bytes = rows.byteLength / numRows
  return valuesOf(rows.subarray(row * bytes, (row + 1) * bytes), dtype)
}

/**
 * |claimed - recomputed| / |recomputed|, the norms being Euclidean: 0 for equal vectors, 1 for a vector of zeros.
 * Infinity where a value is NaN or infinite, and for anything but zeros in the place of zeros; never NaN.
 */
export function relativeError(claimed: Float64Array, recomputed: Float64Array): number {
  let difference = 0
  let norm = 0
  for (let i = 0; i < recomputed.length; i++) {
    difference += (claimed[i] - recomputed[i]) ** 2
    norm += recomputed[i] ** 2
  }
  return ratio(difference, norm)
}

/**
 * The same from signed sums of both vectors: the mean square of the sums' differences is an unbiased estimate of
 * |claimed - recomputed|^2; the norm is that of the recomputed vector itself, which the claim cannot move.
 */
export function sketchedError(claimed: Float64Array, recomputed: Float64Array, recomputedValues: Float64Array): number {
  let difference = 0
  for (let j = 0; j < recomputed.length; j++) difference += (claimed[j] - recomputed[j]) ** 2
  return ratio(
    difference / recomputed.length,
    recomputedValues.reduce((sum, value) => sum + value * value, 0),
  )
}

function ratio(difference: number, norm: number): number {
  if (difference === 0 && norm === 0) return 0
  const error = Math.sqrt(difference / norm)
  return Number.isFinite(norm) && !Number.isNaN(error) ? error : Number.POSITIVE_INFINITY
}

function halfAt(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >> 10) & 31
  const fraction = bits & 0x3ff
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1024) * 2 ** (exponent - 15)
}

const word = new DataView(new ArrayBuffer(4))
