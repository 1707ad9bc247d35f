// Sketches: a sample's K and V as a few signed sums of their values each, drawn by a challenge. Two sketches of one
// challenge tell how far apart the vectors are, in a fraction of the vectors' bytes.

import { createHash } from 'node:crypto'
import { wrongValue } from './errors'
import { given, SAMPLE } from './given'
import { checkDigest, domainTag, le32 } from './hash'
import { fieldsOf } from './header'
import { KV_DTYPE_BYTES, type KvDtype, type KvSample, type LayerSamples } from './kv'
import { integerIn, MAX_LAYERS } from './limits'
import { rowValues, valuesOf } from './relative-error'

/**
 * Signed sums of a vector in a proof: 34 bytes for each of K and V. docs/CALIBRATION.md has what other numbers would
 * tell apart.
 */
export const PROJECTIONS = 16
/** Most signed sums of a vector, where they are tried out. */
export const MAX_PROJECTIONS = 256

const TAG = domainTag('sketch')
const INT16_MAX = 32767
/** Exponents of sums from 2^-149, the least binary32 number, to 2^144, which 2^16 values below 2^128 do not reach. */
const MIN_EXPONENT = -163
const MAX_EXPONENT = 130

/** Bytes of one vector's sketch: an exponent and the sums, 2 bytes each. */
export function sketchPartBytes(projections: number): number {
  return 2 + 2 * projections
}

/**
 * The signs of one vector: SHA-256 over tag, seed, le32(layer, position, part, counter) for counter 0, 1, ..., read as
 * bits from the lowest of each byte on; sum j takes bits j * size to j * size + size - 1, a 1 for a minus.
 */
function signBits(seed: Uint8Array, layer: number, position: number, part: 'k' | 'v', count: number): Uint8Array {
  checkDigest(seed, 'seed')
  const bits = new Uint8Array(Math.ceil(count / 256) * 32)
  for (let counter = 0; counter * 32 < bits.length; counter++) {
    const block = le32([layer, position, part === 'k' ? 0 : 1, counter])
    bits.set(createHash('sha256').update(TAG).update(seed).update(block).digest(), counter * 32)
  }
  return bits
}

/** Which sums of which vector. */
export interface SketchPlace {
  /** The challenge: 32 bytes. */
  seed: Uint8Array
  layer: number
  position: number
  part: 'k' | 'v'
}

/**
 * The signed sums of a vector, each added up in binary64 in ascending order of its values, from +0 on.
 *
 * For vectors x and y and random signs, the square of a sum of x - y is |x - y|^2 in expectation, whatever x and y
 * are; so is the mean over the sums, which varies by a factor of sqrt(2 / projections).
 * @see Alon, Matias and Szegedy 1999, section 2.2; Achlioptas 2003 for random signs.
 */
export function projections({ seed, layer, position, part }: SketchPlace, values: Float64Array, count: number) {
  const bits = signBits(seed, layer, position, part, values.length * count)
  const sums = new Float64Array(count)
  for (let j = 0, bit = 0; j < count; j++) {
    let sum = 0
    for (let i = 0; i < values.length; i++, bit++) {
      sum += (bits[bit >> 3] >> (bit & 7)) & 1 ? -values[i] : values[i]
    }
    sums[j] = sum
  }
  return sums
}

/** What a sketch is made by: a header. */
export interface SketchShape {
  numLayers: number
  kvDtype: KvDtype
}

/** Bytes of a sample's two sketches. */
export function sketchBytes({ numLayers }: Pick<SketchShape, 'numLayers'>, layer: number): { k: number; v: number } {
  const size = sketchPartBytes(PROJECTIONS)
  return { k: size, v: layer === numLayers ? 0 : size }
}

/**
 * A sample whose vectors gave way to their sketches.
 *
 * @param seed - The challenge, 32 bytes.
 * @throws {PocError} MODEL_NON_FINITE, INVALID_ARGUMENT
 */
export function sketchSample(shape: SketchShape, seed: Uint8Array, sample: KvSample): KvSample {
  checkShape(shape)
  checkDigest(seed, 'seed')
  const { layer, position, k, v } = given(SAMPLE, sample, 'sample')
  const sketch = (part: 'k' | 'v', row: Uint8Array) => {
    return sketchVector({ seed, layer, position, part }, valuesOf(row, dtypeAt(shape, layer)), PROJECTIONS)
  }
  return { layer, position, k: sketch('k', k), v: layer === shape.numLayers ? v : sketch('v', v) }
}

/**
 * A recomputed layer as {@link sketchSample} would have it. A vector that is not finite, of which there is no sketch,
 * has bytes that no vector has.
 */
export function sketchLayer(shape: SketchShape, seed: Uint8Array, layer: LayerSamples): LayerSamples {
  const rows = (part: 'k' | 'v', bytes: Uint8Array) => {
    const size = sketchPartBytes(PROJECTIONS)
    const all = new Uint8Array(layer.positions.length * size)
    layer.positions.forEach((position, row) => {
      const values = rowValues(bytes, row, layer.positions.length, dtypeAt(shape, layer.layer))
      const sketch = values.every(Number.isFinite)
        ? sketchVector({ seed, layer: layer.layer, position, part }, values, PROJECTIONS)
        : new Uint8Array(size).fill(0xff)
      all.set(sketch, row * size)
    })
    return all
  }
  const v = layer.layer === shape.numLayers ? layer.v : rows('v', layer.v)
  return { ...layer, k: rows('k', layer.k), v }
}

function checkShape(shape: SketchShape): void {
  const { numLayers, kvDtype } = fieldsOf(shape, 'shape', 'INVALID_ARGUMENT')
  integerIn(numLayers, 1, MAX_LAYERS, 'shape.numLayers', 'INVALID_ARGUMENT')
  if (Object.hasOwn(KV_DTYPE_BYTES, String(kvDtype))) return
  throw wrongValue('INVALID_ARGUMENT', 'shape.kvDtype', "'f32', 'f16' or 'bf16'", kvDtype)
}

function dtypeAt({ numLayers, kvDtype }: SketchShape, layer: number): KvDtype {
  return layer === numLayers ? 'f32' : kvDtype
}

/**
 * Sketches one vector: its sums divided by 2^e and rounded to nearest, ties away from zero, where e is the least
 * exponent that keeps the largest within 32767; written as int16 e, then int16 sums, little-endian. Zeros have e = 0.
 *
 * @throws {PocError} MODEL_NON_FINITE, INVALID_ARGUMENT
 */
export function sketchVector(place: SketchPlace, values: Float64Array, count: number): Uint8Array {
  const sums = projections(place, values, count)
  if (!sums.every(Number.isFinite)) {
    const where = `${place.part.toUpperCase()} at layer ${place.layer}, position ${place.position}`
    throw wrongValue('MODEL_NON_FINITE', where, 'finite', 'a NaN or an infinity')
  }
  const largest = sums.reduce((max, sum) => Math.max(max, Math.abs(sum)), 0)
  const exponent = largest === 0 ? 0 : leastExponent(largest)
  const out = new DataView(new ArrayBuffer(sketchPartBytes(count)))
  out.setInt16(0, exponent, true)
  sums.forEach((sum, j) => void out.setInt16(2 + 2 * j, Math.sign(sum) * rounded(Math.abs(sum), exponent), true))
  return new Uint8Array(out.buffer)
}

function leastExponent(largest: number): number {
  let exponent = Math.ceil(Math.log2(largest / INT16_MAX)) // a guess: logarithms may differ between machines
  while (rounded(largest, exponent) > INT16_MAX) exponent++
  while (rounded(largest, exponent - 1) <= INT16_MAX) exponent--
  return exponent
}

/** Division by a power of two is exact here, so the result does not depend on the machine. */
function rounded(magnitude: number, exponent: number): number {
  return Math.floor(magnitude / 2 ** exponent + 0.5)
}

/**
 * The sums that one vector's sketch states; null where the bytes are none that {@link sketchSample} writes, such as
 * those with an exponent that is not the least.
 */
export function sketchedSums(part: Uint8Array, count: number): Float64Array | null {
  if (part.length !== sketchPartBytes(count)) return null
  const view = new DataView(part.buffer, part.byteOffset, part.byteLength)
  const exponent = view.getInt16(0, true)
  const whole = Array.from({ length: count }, (_, j) => view.getInt16(2 + 2 * j, true))
  const largest = whole.reduce((max, sum) => Math.max(max, Math.abs(sum)), 0)
  if (largest === 0 ? exponent !== 0 : exponent < MIN_EXPONENT || exponent > MAX_EXPONENT) return null
  // With the exponent below it, the largest of honest sums would not have fitted.
  if (largest > INT16_MAX || (largest > 0 && 2 * largest <= INT16_MAX)) return null
  return Float64Array.from(whole, (sum) => sum * 2 ** exponent)
}
