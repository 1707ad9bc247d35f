import { createHash } from 'node:crypto'
import fc from 'fast-check'
import type { KvSample, LayerSamples } from '../../lib/kv'
import { createMatcher, indicesOfPlan, type MatchResult, samplesFollowPlan } from '../../lib/matcher'
import type { Plan } from '../../lib/plan'
import { handMadeProof, layerOf, ROW_BYTES, vectorAt } from './hand-made-proof'

const { proof, plan } = handMadeProof()
const { samples } = proof
const layers = [...plan.layers.keys()]

/** Pushes recomputed layers until the matcher is decided. */
function run(claimed: readonly KvSample[], upTo = Number.POSITIVE_INFINITY): MatchResult {
  const matcher = createMatcher(plan, claimed)
  for (const layer of layers.slice(0, upTo)) {
    if (matcher.decided) break
    matcher.push(layerOf(plan, layer))
  }
  return matcher.result()
}

/** What a comparison of every sample gives, as plainly as it can be written. */
function compareAll(claimed: readonly KvSample[]) {
  return claimed.map(({ layer, position, k, v }) => {
    const kEqual = k.join() === vectorAt(layer, position, 'k').join()
    const vEqual = v.join() === vectorAt(layer, position, 'v').join()
    return { layer, position, part: kEqual ? (vEqual ? null : 'v') : 'k' }
  })
}

function forged(index: number, change: (sample: KvSample) => Partial<KvSample>): KvSample[] {
  return samples.map((sample, i) => (i === index ? { ...sample, ...change(sample) } : sample))
}

const anySample = fc.nat({ max: samples.length - 1 })
const anyPart = fc.constantFrom('k' as const, 'v' as const)

test('the plan of these tests has several layers and several samples in some of them', () => {
  expect(layers.length).toBeGreaterThan(3)
  expect(Math.max(...[...plan.layers.values()].map((positions) => positions.length))).toBeGreaterThan(2)
})

test('equal samples all match, and the digest is that of the documented bytes', () => {
  const result = run(samples)
  expect(result.matched).toEqual(indicesOfPlan(plan))
  expect(result.matched).toEqual(samples.map(({ layer, position }) => [layer, position]))
  expect(result).toMatchObject({ mismatched: [], unchecked: [], firstMismatch: null })
  expect(result.layersComputed).toBe(plan.deepestLayer + 1)

  const hash = createHash('sha256').update('proof-of-cache/v1/samples\0')
  for (const [layer, positions] of plan.layers) {
    const words = Buffer.alloc(8 + 4 * positions.length)
    ;[layer, positions.length, ...positions].forEach((word, i) => void words.writeUInt32LE(word, 4 * i))
    hash.update(words)
    for (const part of ['k', 'v'] as const) for (const p of positions) hash.update(vectorAt(layer, p, part))
  }
  expect(result.samplesDigest).toBe(hash.digest('hex'))
})

test('any flipped bits are found, in the first layer that has one, and nothing after it is looked at', () => {
  const flip = fc.record({ index: anySample, part: anyPart, bit: fc.nat({ max: ROW_BYTES * 8 - 1 }) })
  fc.assert(
    fc.property(fc.uniqueArray(flip, { minLength: 1, maxLength: 4, selector: (f) => f.index }), (flips) => {
      const claimed = [...samples]
      for (const { index, part, bit } of flips) {
        const row = claimed[index][part].slice()
        row[bit >> 3] ^= 1 << (bit & 7)
        claimed[index] = { ...claimed[index], [part]: row }
      }
      const all = compareAll(claimed)
      const first = all.find(({ part }) => part !== null)
      const result = run(claimed)
      expect(result.firstMismatch).toEqual(first)
      const stop = first?.layer as number
      const indices = (keep: (one: (typeof all)[number]) => boolean) =>
        all.filter(keep).map(({ layer, position }) => [layer, position])
      expect(result.matched).toEqual(indices(({ layer, part }) => layer <= stop && part === null))
      expect(result.mismatched).toEqual(indices(({ layer, part }) => layer === stop && part !== null))
      expect(result.unchecked).toEqual(indices(({ layer }) => layer > stop))
      expect(result.layersComputed).toBe(stop + 1)
    }),
  )
})

test('a matcher that is stopped early agrees with one fed in full on everything it decided', () => {
  fc.assert(
    fc.property(anySample, anyPart, fc.nat({ max: layers.length }), (index, part, upTo) => {
      const claimed = forged(index, () => ({ [part]: new Uint8Array(ROW_BYTES) }))
      const full = run(claimed)
      const early = run(claimed, upTo)
      expect(full.matched.slice(0, early.matched.length)).toEqual(early.matched)
      expect(full.mismatched.slice(0, early.mismatched.length)).toEqual(early.mismatched)
      if (early.firstMismatch) expect(early).toEqual(full)
      const parts = [...early.matched, ...early.mismatched, ...early.unchecked]
      expect(parts.sort(([a, b], [c, d]) => a - c || b - d)).toEqual(indicesOfPlan(plan))
    }),
  )
})

describe('trivial forgeries are rejected, whichever sample they replace', () => {
  const meanOf = (part: 'k' | 'v') =>
    Uint8Array.from({ length: ROW_BYTES }, (_, i) => samples.reduce((sum, s) => sum + s[part][i], 0) / samples.length)
  const forgeries: [string, (sample: KvSample, part: 'k' | 'v') => Uint8Array][] = [
    ['zeros', () => new Uint8Array(ROW_BYTES)],
    ["the neighbour's vector", ({ layer, position }, part) => vectorAt(layer, position + 1, part)],
    ["the lower layer's vector", ({ layer, position }, part) => vectorAt(layer - 1, position, part)],
    ['the mean vector', (_, part) => meanOf(part)],
    ['the other part', (sample, part) => sample[part === 'k' ? 'v' : 'k']],
  ]
  test.each(forgeries)('%s', (_, forge) => {
    for (const [index, { layer, position }] of samples.entries()) {
      for (const part of ['k', 'v'] as const) {
        const result = run(forged(index, (sample) => ({ [part]: forge(sample, part) })))
        expect(result.firstMismatch).toEqual({ layer, position, part })
      }
    }
  })
})

test('K is named where both vectors differ', () => {
  const zeros = new Uint8Array(ROW_BYTES)
  expect(run(forged(2, () => ({ k: zeros, v: zeros }))).firstMismatch?.part).toBe('k')
})

test('layers without samples may be pushed and count as computed, but not into the digest', () => {
  const matcher = createMatcher(plan, samples)
  for (let layer = 0; layer < layers[0]; layer++) matcher.push(layerOf(plan, layer))
  expect(matcher.result()).toMatchObject({ matched: [], layersComputed: layers[0] })
  expect(matcher.result().samplesDigest).toBe(run(samples, 0).samplesDigest)
  for (const layer of layers) matcher.push(layerOf(plan, layer))
  expect(matcher.result()).toEqual(run(samples))
})

test('earlier results stay as they were', () => {
  const matcher = createMatcher(plan, samples)
  matcher.push(layerOf(plan, layers[0]))
  const before = matcher.result()
  const copy = structuredClone(before)
  matcher.push(layerOf(plan, layers[1]))
  expect(before).toEqual(copy)
})

describe('what does not fit the plan is refused', () => {
  const first = layerOf(plan, layers[0])
  const refusal = (code: string, where: RegExp) =>
    expect.objectContaining({ code, where: expect.stringMatching(where) })

  test.each<[string, LayerSamples[], RegExp]>([
    ['a sampled layer left out', [layerOf(plan, layers[1])], /layer$/],
    ['the same layer twice', [first, first], /layer$/],
    ['a layer that is no integer', [{ ...first, layer: 0.5 }], /layer$/],
    ['a position too few', [{ ...first, positions: first.positions.slice(1) }], /positions$/],
    ['another position', [{ ...first, positions: first.positions.map((p) => p + 1) }], /positions$/],
    ['K too short', [{ ...first, k: first.k.slice(1) }], /k$/],
    ['V too long', [{ ...first, v: Uint8Array.of(...first.v, 0) }], /v$/],
  ])('%s', (_, pushed, where) => {
    const matcher = createMatcher(plan, samples)
    const push = () => pushed.forEach((layer) => void matcher.push(layer))
    expect(push).toThrow(refusal('INVALID_ARGUMENT', where))
  })

  test('a layer after the decision', () => {
    const matcher = createMatcher(
      plan,
      forged(0, () => ({ k: new Uint8Array(ROW_BYTES) })),
    )
    matcher.push(first)
    expect(matcher.decided).toBe(true)
    expect(() => matcher.push(layerOf(plan, layers[1]))).toThrow(refusal('INVALID_ARGUMENT', /layer$/))
  })

  test.each<[string, readonly KvSample[]]>([
    ['a sample missing', samples.slice(1)],
    ['two samples swapped', [samples[1], samples[0], ...samples.slice(2)]],
    ['a sample elsewhere', forged(0, ({ position }) => ({ position: position + 1 }))],
  ])('samples with %s', (_, claimed) => {
    expect(samplesFollowPlan(plan as Plan, claimed)).toBe(false)
    expect(() => createMatcher(plan, claimed)).toThrow(refusal('INVALID_ARGUMENT', /^samples/))
  })

  test('samples of different sizes', () => {
    const claimed = forged(1, () => ({ v: new Uint8Array(ROW_BYTES + 1) }))
    expect(() => createMatcher(plan, claimed)).toThrow(refusal('INVALID_ARGUMENT', /^samples\[1\]\.v$/))
  })
})
