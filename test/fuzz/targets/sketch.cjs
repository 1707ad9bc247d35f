'use strict'
// Sketches: any bytes as a sketch, and any values sketched.
const { attempt, dist, fuzzTarget, must } = require('../target.cjs')

const { sketchedError, valuesOf } = dist('relative-error')
const { PROJECTIONS, projections, sketchedSums, sketchPartBytes, sketchVector } = dist('sketch')

const place = { seed: new Uint8Array(32).fill(9), layer: 2, position: 5, part: 'k' }
const DTYPES = ['f32', 'f16', 'bf16']
const size = sketchPartBytes(PROJECTIONS)

/** Whatever is taken as a sketch is finite, and compares with any vector. */
function take(part, values) {
  const sums = sketchedSums(part, PROJECTIONS)
  if (!sums) return
  must(sums.length === PROJECTIONS && sums.every(Number.isFinite), 'the sums of a sketch are finite')
  const error = sketchedError(sums, projections(place, values, PROJECTIONS), values)
  must(error >= 0, 'an error is a number that is not negative')
}

/** A sketch that was made is taken, and its sums are those of the vector but for rounding. */
function make(values) {
  const part = attempt(['MODEL_NON_FINITE'], () => sketchVector(place, values, PROJECTIONS))
  must(part !== undefined || !values.every(Number.isFinite), 'finite vectors have a sketch')
  if (!part) return
  const sums = sketchedSums(part, PROJECTIONS)
  must(sums !== null, 'a sketch is taken for one')
  const exact = projections(place, values, PROJECTIONS)
  const largest = exact.reduce((max, sum) => Math.max(max, Math.abs(sum)), 0)
  must(
    exact.every((sum, j) => Math.abs(sum - sums[j]) <= largest / 32767),
    'its sums are those of the vector',
  )
  take(part, values)
}

module.exports = fuzzTarget({
  maxBytes: 256,
  seeds: () => [
    new Uint8Array(size + 1),
    Uint8Array.from({ length: 1 + size + 32 }, (_, i) => (i * 37) % 251),
    Uint8Array.from([0, 3, 0, ...Array(16).fill([0, 0x60]).flat(), 0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0]),
    Uint8Array.from([0, ...Array(size).fill(0), 0xff, 0xff, 0x7f, 0x7f, 1, 0, 0, 0]),
  ],
  run([which = 0, ...bytes]) {
    const rest = bytes.slice(size)
    const values = valuesOf(Uint8Array.from(rest.slice(0, rest.length & ~3)), DTYPES[which % DTYPES.length])
    make(values)
    if (values.every(Number.isFinite)) take(Uint8Array.from(bytes.slice(0, size)), values)
  },
})
