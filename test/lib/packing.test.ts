// Which sequences share a pass, and what they share in it, held against counting prefixes.
import fc from 'fast-check'
import type { KvDtype } from '../../lib/kv'
import { type Packable, pack, type PackedPass } from '../../lib/packing'

const PAGE = 4
const rules = (maxPositions = 2 ** 20) => ({ maxPositions, pageSlots: () => PAGE })
const sequence = (tokens: number[], kvDtype: KvDtype = 'f32'): Packable => {
  return { tokens: Uint32Array.from(tokens), kvDtype }
}
const counting = (count: number, from = 0) => Array.from({ length: count }, (_, i) => from + i)
const computed = (passes: PackedPass[]) => passes.reduce((sum, { numPositions }) => sum + numPositions, 0)

/** Positions that remain when every whole page with the same tokens before and in it counts once. */
function leastPositions(sequences: readonly Packable[]): number {
  const pages = new Set<string>()
  let behindPages = 0
  for (const { tokens, kvDtype } of sequences) {
    for (let end = PAGE; end <= tokens.length; end += PAGE) pages.add(`${kvDtype} ${tokens.subarray(0, end)}`)
    behindPages += tokens.length % PAGE
  }
  return pages.size * PAGE + behindPages
}

function holdPasses(passes: PackedPass[], sequences: readonly Packable[], maxPositions: number): void {
  const placed = passes.flatMap(({ places }) => places.map(({ index }) => index))
  expect([...placed].sort((a, b) => a - b)).toEqual([...sequences.keys()])
  for (const { kvDtype, numPositions, places } of passes) {
    let positions = 0
    for (const [i, { index, parent, shared }] of places.entries()) {
      const { tokens } = sequences[index]
      expect(sequences[index].kvDtype).toBe(kvDtype)
      expect(shared % PAGE).toBe(0)
      expect(shared > 0).toBe(parent !== null)
      positions += tokens.length - shared
      let chain = 0
      for (let at = parent; at !== null; at = places[at].parent) chain++
      expect(chain).toBeLessThanOrEqual(32)
      if (parent === null) continue
      expect(parent).toBeLessThan(i)
      expect(places[parent].shared).toBeLessThan(shared)
      expect(sequences[places[parent].index].tokens.subarray(0, shared)).toEqual(tokens.subarray(0, shared))
    }
    expect(numPositions).toBe(positions)
    expect(positions <= maxPositions || places.length === 1).toBe(true)
  }
}

test('whatever the sequences, each has one place, and shares what is the same', () => {
  const tokens = fc.array(fc.nat(1), { minLength: 1, maxLength: 30 })
  const some = fc.array(fc.tuple(tokens, fc.constantFrom<KvDtype>('f32', 'bf16')), { maxLength: 12 })
  fc.assert(
    fc.property(some, fc.integer({ min: 1, max: 80 }), (given, maxPositions) => {
      const sequences = given.map(([ids, kvDtype]) => sequence(ids, kvDtype))
      holdPasses(pack(sequences, rules(maxPositions)), sequences, maxPositions)
      const unbounded = pack(sequences, rules())
      holdPasses(unbounded, sequences, 2 ** 20)
      expect(computed(unbounded)).toBe(leastPositions(sequences))
    }),
    { numRuns: 300 },
  )
})

test('sixteen with one prefix compute it once', () => {
  const sequences = counting(16).map((i) => sequence([...counting(40), 100 + i, 7, 7]))
  const passes = pack(sequences, rules())
  expect(passes).toHaveLength(1)
  expect(passes[0].numPositions).toBe(40 + 16 * 3)
})

test('two groups under one system prompt share more within their group', () => {
  const groups = [1000, 2000].flatMap((from) =>
    counting(3).map((i) => sequence([...counting(8), ...counting(20, from), i, i, i])),
  )
  expect(pack(groups, rules())[0].numPositions).toBe(8 + 2 * 20 + 6 * 3)
})

test('a sequence inside another, and one that is there twice, cost at most the rest of a page', () => {
  const long = counting(50)
  const sequences = [sequence(long.slice(0, 21)), sequence(long), sequence(long.slice(0, 40)), sequence(long)]
  expect(pack(sequences, rules())[0].numPositions).toBe(50 + 1 + 0 + 2)
})

test('beginnings shorter than a page, and other dtypes, are not shared', () => {
  expect(computed(pack([sequence([1, 2, 3, 4]), sequence([1, 2, 3, 5])], rules()))).toBe(8)
  expect(pack([sequence([1, 2, 3, 4]), sequence([1, 2, 3, 4], 'f16')], rules())).toHaveLength(2)
})

test('no chain of parts is longer than native code takes', () => {
  // Each branches off one page later than the one before it.
  const sequences = counting(100).map((i) => sequence([...new Array(i * PAGE).fill(1), ...new Array(PAGE).fill(0)]))
  const passes = pack(sequences, rules())
  holdPasses(passes, sequences, 2 ** 20)
  expect(computed(passes)).toBeLessThan(100 * 51 * PAGE * 0.2)
})

test('nothing packs into nothing', () => {
  expect(pack([], rules())).toEqual([])
})
