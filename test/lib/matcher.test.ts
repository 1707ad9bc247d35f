import { createHash } from 'node:crypto'
import fc from 'fast-check'
import type { KvSample, LayerSamples } from '../../lib/kv'
import { indicesOfPlan } from '../../lib/layer-walk'
import { createDigestMatcher, createMatcher, type MatchResult, samplesFollowPlan } from '../../lib/matcher'
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

describe('the virtual layer', () => {
  const HIDDEN_BYTES = 20
  const { proof: full, plan: fullPlan } = handMadeProof(40, { depth: 'full', layerSampler: 'fixed:1,4,6' })
  const hiddenAt = (position: number) =>
    Uint8Array.from({ length: HIDDEN_BYTES }, (_, i) => (position * 31 + i * 7) & 255)
  const claimedSamples = full.samples.map((sample) =>
    sample.layer === 6 ? { ...sample, k: hiddenAt(sample.position), v: new Uint8Array(0) } : sample,
  )
  const recomputed = (layer: number): LayerSamples => {
    if (layer !== 6) return layerOf(fullPlan, layer)
    const positions = fullPlan.layers.get(6) as Uint32Array
    const k = Uint8Array.from([...positions].flatMap((position) => [...hiddenAt(position)]))
    return { layer, positions, k, v: new Uint8Array(0) }
  }
  const virtual = claimedSamples.flatMap(({ layer }, i) => (layer === 6 ? [i] : []))
  const digest = (samplesOfPlan: readonly KvSample[]) => {
    const hash = createHash('sha256').update('proof-of-cache/v1/samples\0')
    for (const [layer, positions] of fullPlan.layers) {
      const words = Buffer.alloc(8 + 4 * positions.length)
      ;[layer, positions.length, ...positions].forEach((word, i) => void words.writeUInt32LE(word, 4 * i))
      hash.update(words)
      const members = samplesOfPlan.filter((sample) => sample.layer === layer)
      for (const part of ['k', 'v'] as const) for (const sample of members) hash.update(sample[part])
    }
    return hash.digest('hex')
  }
  const matched = (matcher: ReturnType<typeof createMatcher>, upTo = 6) => {
    for (let layer = 0; layer <= upTo; layer++) if (!matcher.decided) matcher.push(recomputed(layer))
    return matcher.result()
  }

  test('hidden states are compared by their own size, after all layers', () => {
    const result = matched(createMatcher(fullPlan, claimedSamples))
    expect(result).toMatchObject({ mismatched: [], unchecked: [], firstMismatch: null, layersComputed: 7 })
    expect(result.matched).toEqual(indicesOfPlan(fullPlan))
    expect(result.samplesDigest).toBe(digest(claimedSamples))
    expect(virtual.length).toBeGreaterThan(3)
  })

  test('a changed bit of a hidden state is named as one', () => {
    for (const [n, index] of virtual.entries()) {
      const k = claimedSamples[index].k.slice()
      k[n % HIDDEN_BYTES] ^= 1 << (n & 7)
      const result = matched(
        createMatcher(
          fullPlan,
          claimedSamples.map((s, i) => (i === index ? { ...s, k } : s)),
        ),
      )
      expect(result.firstMismatch).toEqual({ layer: 6, position: claimedSamples[index].position, part: 'hidden' })
      expect(result.unchecked).toEqual([])
    }
  })

  test('sizes are those of each layer', () => {
    const refused = (change: (sample: KvSample, i: number) => KvSample) =>
      expect(() => createMatcher(fullPlan, claimedSamples.map(change))).toThrow(
        expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
      )
    refused((sample, i) => (i === virtual[1] ? { ...sample, k: sample.k.slice(1) } : sample))
    refused((sample, i) => (i === virtual[1] ? { ...sample, v: sample.k } : sample))
    refused((sample, i) => (i === 1 ? { ...sample, k: hiddenAt(1) } : sample))
    const matcher = createMatcher(fullPlan, claimedSamples)
    for (let layer = 0; layer < 6; layer++) matcher.push(recomputed(layer))
    expect(() => matcher.push({ ...recomputed(6), v: recomputed(6).k })).toThrow(
      expect.objectContaining({ where: 'layer.v', expected: '0 bytes' }),
    )
    expect(() => matcher.push({ ...recomputed(6), k: recomputed(6).k.slice(4) })).toThrow(
      expect.objectContaining({ where: 'layer.k' }),
    )
  })

  describe('one digest for all samples', () => {
    const matcherOf = (samplesDigest: string) => createDigestMatcher(fullPlan, full.header, 'f16', samplesDigest)
    const right = digest(claimedSamples)

    test('says nothing before the last layer, and then of all alike', () => {
      const matcher = matcherOf(right)
      for (let layer = 0; layer < 6; layer++) {
        matcher.push(recomputed(layer))
        expect(matcher).toMatchObject({ decided: false, failed: false })
        expect(matcher.result()).toMatchObject({ matched: [], mismatched: [], unchecked: indicesOfPlan(fullPlan) })
        expect(matcher.result()).not.toHaveProperty('digestMatches')
      }
      matcher.push(recomputed(6))
      expect(matcher).toMatchObject({ decided: true, failed: false })
      expect(matcher.result()).toEqual({
        matched: indicesOfPlan(fullPlan),
        mismatched: [],
        unchecked: [],
        firstMismatch: null,
        samplesDigest: right,
        layersComputed: 7,
        digestMatches: true,
      })
    })

    test('another digest rejects them all and blames none', () => {
      for (let digit = 0; digit < 64; digit++) {
        const other = right.slice(0, digit) + (right[digit] === '0' ? '1' : '0') + right.slice(digit + 1)
        const matcher = matcherOf(other)
        const result = matched(matcher)
        expect(matcher).toMatchObject({ decided: true, failed: true })
        expect(result).toMatchObject({ matched: [], mismatched: [], firstMismatch: null, digestMatches: false })
        expect(result).toMatchObject({ unchecked: indicesOfPlan(fullPlan), samplesDigest: right })
      }
    })

    test('any bit of any recomputed vector counts', () => {
      const anyBit = fc.record({
        sample: fc.nat(claimedSamples.length - 1),
        part: anyPart,
        bit: fc.nat(HIDDEN_BYTES * 8),
      })
      fc.assert(
        fc.property(anyBit, ({ sample, part, bit }) => {
          const row = claimedSamples[sample][part].slice()
          fc.pre(row.length > 0)
          row[(bit >> 3) % row.length] ^= 1 << (bit & 7)
          const changed = claimedSamples.map((one, i) => (i === sample ? { ...one, [part]: row } : one))
          expect(matched(matcherOf(digest(changed)))).toMatchObject({ digestMatches: false })
        }),
      )
    })

    test('layers out of order, of other sizes or after the decision are refused', () => {
      const refusal = expect.objectContaining({ code: 'INVALID_ARGUMENT' })
      expect(() => matcherOf(right).push(recomputed(4))).toThrow(refusal)
      expect(() => matcherOf(right).push({ ...recomputed(1), v: new Uint8Array(0) })).toThrow(refusal)
      const done = matcherOf(right)
      matched(done)
      expect(() => done.push(recomputed(6))).toThrow(refusal)
    })
  })
})
