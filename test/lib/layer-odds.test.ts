import fc from 'fast-check'
import { hypergeometricMean, layerOdds } from '../../lib/layer-odds'

/** Every choice of `take` of the items. */
function choices<T>(items: readonly T[], take: number): T[][] {
  if (take === 0) return [[]]
  return items.flatMap((item, i) => choices(items.slice(i + 1), take - 1).map((rest) => [item, ...rest]))
}

test('uniform draws are those of all subsets, counted one by one', () => {
  const anyDraw = fc.record({
    numLayers: fc.integer({ min: 2, max: 8 }),
    count: fc.integer({ min: 1, max: 8 }),
    wrong: fc.array(fc.boolean(), { minLength: 8, maxLength: 8 }),
    rate: fc.constantFrom(1, 0.5, 0),
    below: fc.integer({ min: 0, max: 8 }),
  })
  fc.assert(
    fc.property(anyDraw, ({ numLayers, count, wrong, rate, below }) => {
      const candidates = Array.from({ length: numLayers - 1 }, (_, i) => i + 1)
      const draws = choices(candidates, Math.min(count, candidates.length))
      const numWrong = (layers: number[]) => layers.filter((layer) => wrong[layer]).length
      const missed = draws.map((layers) => (layers.every((l) => l < below) ? (1 - rate) ** numWrong(layers) : 0))
      const odds = layerOdds(`uniform:${count}`, numLayers)
      expect(odds.missed(wrong, rate, below)).toBeCloseTo(missed.reduce((a, b) => a + b, 0) / draws.length, 12)
      expect(odds.leastWrong(wrong)).toBe(Math.min(...draws.map(numWrong)))
      expect(odds.count).toBe(draws[0].length)
    }),
  )
})

test('means stay right for numbers whose binomials no double holds', () => {
  const anyCase = fc.integer({ min: 2, max: 2 ** 20 }).chain((total) => {
    return fc.tuple(fc.constant(total), fc.nat(total), fc.integer({ min: 1, max: total }))
  })
  fc.assert(
    fc.property(anyCase, ([total, marked, take]) => {
      const mean = (take * marked) / total
      const variance = (mean * (1 - marked / total) * (total - take)) / (total - 1)
      const about = (f: (h: number) => number) => hypergeometricMean(total, marked, take, f)
      expect(Math.abs(about((h) => h) - mean)).toBeLessThanOrEqual(1e-9 * (1 + mean))
      expect(Math.abs(about((h) => (h - mean) ** 2) - variance)).toBeLessThanOrEqual(1e-8 * (1 + variance))
      expect(about(() => 1)).toBeCloseTo(1, 12)
    }),
  )
})
