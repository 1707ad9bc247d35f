import fc from 'fast-check'
import { EMPTY_RUN, joined, onePosition, type PositionOdds, repeated, type Run } from '../../lib/sampling-runs'

const anyPosition: fc.Arbitrary<PositionOdds> = fc
  .tuple(fc.nat(16), fc.nat(16), fc.nat(16))
  .map(([nothing, sample, deeper]) => ({ nothing: nothing / 48, sample: sample / 48, deeper: deeper / 48 }))

const run = (positions: PositionOdds[]) => positions.map(onePosition).reduce(joined, EMPTY_RUN)

/** Every way that things can go, one by one. */
function enumerated(positions: PositionOdds[]): Run {
  const sum = { ...EMPTY_RUN, length: positions.length, missed: 0, none: 0, noneDeeper: 0 }
  const visit = (probability: number, fates: (keyof PositionOdds)[]) => {
    if (fates.length < positions.length) {
      for (const [fate, chance] of Object.entries(positions[fates.length])) {
        visit(probability * chance, [...fates, fate as keyof PositionOdds])
      }
      return
    }
    const keys = fates.lastIndexOf('deeper') + 1
    const beyond = fates.flatMap((fate, i) => (fate === 'sample' && i >= keys ? [i + 1] : []))
    const isNeeded = fates.some((fate) => fate !== 'nothing')
    sum.missed += probability
    sum[isNeeded ? 'some' : 'none'] += probability
    sum[keys > 0 ? 'someDeeper' : 'noneDeeper'] += probability
    sum.keys += probability * keys
    sum.keysSquared += probability * keys ** 2
    sum.beyond += probability * beyond.length
    sum.beyondPlaces += probability * beyond.reduce((places, place) => places + place, 0)
  }
  visit(1, [])
  return sum
}

const near = (expected: Run) =>
  Object.fromEntries(Object.entries(expected).map(([key, value]) => [key, expect.closeTo(value as number, 10)]))

test('runs have the expectations over every way that things can go', () => {
  fc.assert(
    fc.property(fc.array(anyPosition, { maxLength: 5 }), (positions) => {
      expect(run(positions)).toEqual(near(enumerated(positions)))
    }),
  )
})

test('runs are put together in any grouping', () => {
  const some = fc.array(anyPosition, { maxLength: 5 })
  fc.assert(
    fc.property(some, some, (low, high) => {
      expect(joined(run(low), run(high))).toEqual(near(run([...low, ...high])))
    }),
  )
})

test('a run is repeated as if written out', () => {
  fc.assert(
    fc.property(fc.array(anyPosition, { maxLength: 3 }), fc.nat(9), (positions, count) => {
      const all = Array.from({ length: count }, () => positions).flat()
      expect(repeated(run(positions), count)).toEqual(near(run(all)))
    }),
  )
})
