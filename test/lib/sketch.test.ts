import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { PocError } from '../../lib/errors'
import { relativeError, sketchedError, valuesOf } from '../../lib/relative-error'
import { samplesOf } from '../../lib/kv'
import {
  PROJECTIONS,
  projections,
  sketchBytes,
  sketchedSums,
  sketchLayer,
  sketchPartBytes,
  sketchSample,
  sketchVector,
} from '../../lib/sketch'

const seedOf = (n: number) => new Uint8Array(createHash('sha256').update(`seed ${n}`).digest())
const place = { seed: seedOf(0), layer: 3, position: 70000, part: 'v' as const }
const finite = fc.float({ noNaN: true, noDefaultInfinity: true })
const vectors = fc.array(finite, { minLength: 1, maxLength: 40 }).map((values) => Float64Array.from(values))

/** The sums as docs/CALIBRATION.md writes them, bit by bit. */
function plainSums(values: Float64Array, count: number, part: 'k' | 'v'): number[] {
  const bitAt = (index: number) => {
    const message = Buffer.alloc(16)
    ;[place.layer, place.position, part === 'k' ? 0 : 1, Math.floor(index / 256)].forEach((word, i) => {
      message.writeUInt32LE(word, 4 * i)
    })
    const hash = createHash('sha256').update('proof-of-cache/v1/sketch\0').update(place.seed).update(message).digest()
    return (hash[Math.floor((index % 256) / 8)] >> (index % 8)) & 1
  }
  return Array.from({ length: count }, (_, j) => {
    return values.reduce((sum, value, i) => sum + (bitAt(j * values.length + i) === 1 ? -value : value), 0)
  })
}

test('sums are those of the documented bits, K and V having their own', () => {
  fc.assert(
    fc.property(vectors, fc.integer({ min: 1, max: 20 }), fc.constantFrom('k' as const, 'v' as const), (x, m, part) => {
      expect(Array.from(projections({ ...place, part }, x, m))).toEqual(plainSums(x, m, part))
    }),
    { numRuns: 100 },
  )
})

test('the sketch of a fixed sample has not changed', () => {
  const row = (step: number) => new Uint8Array(Float32Array.from({ length: 8 }, (_, i) => (i - 3) * step).buffer)
  const sample = { layer: 2, position: 9, k: row(0.5), v: row(1 / 3) }
  const { k, v } = sketchSample({ numLayers: 4, kvDtype: 'f32' }, seedOf(1), sample)
  expect(Buffer.from(k).toString('hex')).toBe('f5ff001800e000e800080020000000e80000000000400018001800f0001000f00010')
  expect(Buffer.from(v).toString('hex')).toBe('f4ff5535ab0a002055b5abea55550020ab0aabea0040ab2a00e000000020abea0020')
})

test('a layer is sketched as its samples are, and a vector that is not finite as nothing', () => {
  const shape = { numLayers: 2, kvDtype: 'f16' } as const
  const positions = Uint32Array.of(4, 90)
  for (const layer of [1, 2]) {
    const size = layer === 2 ? 4 : 2
    const k = new Uint8Array(positions.length * 6 * size).map((_, i) => (i * 37) % 60)
    const v = layer === 2 ? new Uint8Array(0) : k.map((byte) => byte ^ 5)
    const sketched = sketchLayer(shape, seedOf(2), { layer, positions, k, v })
    const single = samplesOf({ layer, positions, k, v }).map((sample) => sketchSample(shape, seedOf(2), sample))
    expect(samplesOf(sketched)).toEqual(single)
    expect({ k: single[0].k.length, v: single[0].v.length }).toEqual(sketchBytes(shape, layer))
  }
  const bad = new Uint8Array(Uint16Array.of(0x3c00, 0x7c00).buffer)
  const { k } = sketchLayer(shape, seedOf(2), { layer: 1, positions: Uint32Array.of(0), k: bad, v: bad })
  expect(sketchedSums(k, PROJECTIONS)).toBeNull()
})

test('what is written is read back to within half a unit of its exponent, and is as long as stated', () => {
  fc.assert(
    fc.property(vectors, fc.integer({ min: 1, max: 20 }), (x, m) => {
      const bytes = sketchVector(place, x, m)
      expect(bytes.length).toBe(sketchPartBytes(m))
      const sums = projections(place, x, m)
      const read = sketchedSums(bytes, m) as Float64Array
      const unit = 2 ** new DataView(bytes.buffer).getInt16(0, true)
      sums.forEach((sum, j) => void expect(Math.abs(read[j] - sum)).toBeLessThanOrEqual(unit / 2))
      // The exponent is the least: twice the largest would not fit.
      const largest = Math.max(...sums.map(Math.abs))
      if (largest > 0) expect(Math.floor((2 * largest) / unit + 0.5)).toBeGreaterThan(32767)
    }),
  )
})

test('extremes of binary32 are within the range of exponents', () => {
  for (const value of [2 ** -149, 3.4028234663852886e38]) {
    for (const size of [1, 4096]) {
      const x = new Float64Array(size).fill(value)
      expect(sketchedSums(sketchVector(place, x, 16), 16)).not.toBeNull()
    }
  }
})

test('zeros are zeros, and vectors that are not finite have no sketch', () => {
  expect(sketchVector(place, new Float64Array(5), 3)).toEqual(new Uint8Array(8))
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
    const make = () => sketchVector(place, Float64Array.of(1, bad, 2), 3)
    expect(make).toThrow(PocError)
    expect(make).toThrow(expect.objectContaining({ code: 'MODEL_NON_FINITE' }))
  }
})

test('bytes are read only if some vector has them as its sketch', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: -32768, max: 32767 }),
      fc.array(fc.integer({ min: -32768, max: 32767 }), { minLength: 1, maxLength: 4 }),
      (e, q) => {
        const bytes = new Uint8Array(Int16Array.of(e, ...q).buffer)
        const sums = sketchedSums(bytes, q.length)
        const largest = Math.max(...q.map(Math.abs))
        const isCanonical = largest === 0 ? e === 0 : e >= -163 && e <= 130 && largest >= 16384 && largest <= 32767
        expect(sums !== null).toBe(isCanonical)
        if (sums) expect(Array.from(sums)).toEqual(q.map((value) => value * 2 ** e))
      },
    ),
    { numRuns: 2000 },
  )
  expect(sketchedSums(new Uint8Array(Int16Array.of(-3, 20000, 5).buffer), 2)).not.toBeNull()
  for (const length of [0, 1, 2, 5, 7, 8]) expect(sketchedSums(new Uint8Array(length), 2)).toBeNull()
})

test('the estimate of a squared error is right on average, whatever the vectors are', () => {
  // Two vectors in the same direction, and two at right angles.
  const x = Float64Array.from({ length: 32 }, (_, i) => Math.sin(i + 1))
  for (const y of [x.map((value) => value * 1.01), x.map((value, i) => (i % 2 === 0 ? -1 : 1) * value)]) {
    const exact = relativeError(y, x) ** 2
    const runs = 3000
    let sum = 0
    for (let n = 0; n < runs; n++) {
      const drawn = { ...place, seed: seedOf(n) }
      sum += sketchedError(projections(drawn, y, 8), projections(drawn, x, 8), x) ** 2
    }
    // One estimate varies by at most sqrt(2 / 8) of the value; five standard errors of the mean.
    expect(Math.abs(sum / runs / exact - 1)).toBeLessThan((5 * Math.sqrt(2 / 8)) / Math.sqrt(runs))
  }
})

test.each<[string, number[], number[], number]>([
  ['equal', [3, 4], [3, 4], 0],
  ['zeros for a vector', [0, 0], [3, 4], 1],
  ['zeros for zeros', [0, 0], [0, 0], 0],
  ['something for zeros', [1, 0], [0, 0], Number.POSITIVE_INFINITY],
  ['NaN', [Number.NaN, 0], [3, 4], Number.POSITIVE_INFINITY],
  ['infinity', [Number.POSITIVE_INFINITY, 0], [3, 4], Number.POSITIVE_INFINITY],
  ['one that the verifier finds infinite', [3, 4], [Number.POSITIVE_INFINITY, 4], Number.POSITIVE_INFINITY],
  ['a tenth off', [3.3, 4.4], [3, 4], 0.1],
])('relative error: %s', (_, claimed, recomputed, expected) => {
  expect(relativeError(Float64Array.from(claimed), Float64Array.from(recomputed))).toBeCloseTo(expected, 12)
})

test('every binary16 and bfloat16 number is widened to its value', () => {
  const bits = Uint16Array.from({ length: 65536 }, (_, i) => i)
  const halves = valuesOf(new Uint8Array(bits.buffer), 'f16')
  const expected = Float64Array.from(bits, (word) => {
    const [exponent, fraction] = [(word >> 10) & 31, word & 1023]
    const sign = word >> 15 ? -1 : 1
    if (exponent === 31) return fraction > 0 ? Number.NaN : sign * Number.POSITIVE_INFINITY
    return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25))
  })
  expect(halves).toEqual(expected)
  const words = Uint32Array.from(bits, (word) => word << 16)
  expect(valuesOf(new Uint8Array(bits.buffer), 'bf16')).toEqual(Float64Array.from(new Float32Array(words.buffer)))
})
