import fc from 'fast-check'
import { EMPTY_RUN, joined, onePosition, type PositionOdds, repeated, type Run } from '../../lib/sampling-runs'

const anyPosition: fc.Arbitrary<PositionOdds> = fc
  .tuple(...Array.from({ length: 5 }, () => fc.nat(16).map((n) => n / 16)))
  .map(([sampled, replayed, any, upTo, before]) => ({
    sampled,
    replayed,
    any,
    upTo: any * upTo,
    before: any * upTo * before,
  }))

const run = (positions: PositionOdds[]) => positions.map(onePosition).reduce(joined, EMPTY_RUN)

/** What may become of a position: its probability, and whether it needs the layer, a deeper one, and has a sample. */
function fates({ sampled, any, before, upTo, replayed }: PositionOdds): [number, boolean, boolean, boolean][] {
  return [
    [(1 - sampled) * (1 - replayed), false, false, false],
    [(1 - sampled) * replayed, true, true, false],
    [sampled * before * (1 - replayed), false, false, false],
    [sampled * (upTo - before) * (1 - replayed), true, false, true],
    [sampled * (any - upTo) * (1 - replayed), true, true, false],
    [sampled * any * replayed, true, true, false],
  ]
}

/** Every way that things can go, one by one. */
function enumerated(positions: PositionOdds[]): Run {
  const sum = { ...EMPTY_RUN, length: positions.length, missed: 0, none: 0, noneDeeper: 0 }
  const visit = (at: number, probability: number, last: number, isDeeper: boolean, samples: number) => {
    if (at < positions.length) {
      for (const [chance, needs, deeper, sample] of fates(positions[at])) {
        visit(at + 1, probability * chance, needs ? at + 1 : last, isDeeper || deeper, samples + Number(sample))
      }
      return
    }
    sum.missed += probability
    if (!isDeeper) sum.noneDeeper += probability
    if (last === 0) sum.none += probability
    else sum.some += probability
    sum.last += probability * last
    sum.lastSquared += probability * last * last
    if (last === 0 || isDeeper) return
    sum.deepest += probability
    sum.deepestLast += probability * last
    sum.deepestSamples += probability * samples
  }
  visit(0, 1, 0, false, 0)
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
