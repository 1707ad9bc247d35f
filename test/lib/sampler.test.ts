import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { checkedLayerSampler, checkedTokenSampler, resolveTokenSampler } from '../../lib/custom-sampler'
import { type LayerSampler, parseLayerSampler, parseTokenSampler, type TokenSampler } from '../../lib/sampler'
import { bytes, H, le32 } from './second-implementation'
import file from '../vectors/sampler.json'

const { contexts, token, layer, rejection } = file.vectors
const contextAt = (i: number) => Uint8Array.from(createHash('sha256').update(le32(i)).digest())
const anyContext = fc.uint8Array({ minLength: 32, maxLength: 32 })
const invalid = expect.objectContaining({ name: 'PocError', code: 'INVALID_ARGUMENT' })

test('the vectors say what made them', () => {
  expect(file.madeBy).toContain('test/vectors/formats.py')
})

describe('token samplers', () => {
  test.each(token)('$name picks the positions of the vectors', ({ name, canonical, positions }) => {
    const sampler = parseTokenSampler(name)
    expect(sampler.name).toBe(canonical)
    expect(contexts.flatMap((context, i) => (sampler.samples(bytes(context), i) ? [i] : []))).toEqual(positions)
    expect(parseTokenSampler(canonical).name).toBe(canonical)
  })

  test('bernoulli compares one word with floor(2^64 n / d)', () => {
    const rate = fc.nat(0xfffffffe).chain((den) => fc.tuple(fc.integer({ min: 1, max: den + 1 }), fc.constant(den + 1)))
    fc.assert(
      fc.property(anyContext, rate, (context, [num, den]) => {
        const word = Buffer.from(H('token-sampler', context)).readBigUInt64LE()
        const picked = word < (2n ** 64n * BigInt(num)) / BigInt(den)
        const sampler = parseTokenSampler(`bernoulli:${num}/${den}`)
        expect(sampler.samples(context, 0)).toBe(picked)
        expect(BigInt(sampler.rate.num) * BigInt(den)).toBe(BigInt(sampler.rate.den) * BigInt(num))
      }),
    )
  })

  test('bernoulli picks its share of 200000 contexts, within 5 standard deviations', () => {
    const trials = 200_000
    const rate = 1 / 32
    const sampler = parseTokenSampler('bernoulli:1/32')
    let picked = 0
    for (let i = 0; i < trials; i++) if (sampler.samples(contextAt(i), i)) picked++
    expect(Math.abs(picked - trials * rate)).toBeLessThan(5 * Math.sqrt(trials * rate * (1 - rate)))
  })

  test.each([
    ['bernoulli:4/128', 'bernoulli:1/32'],
    ['bernoulli:0.03125', 'bernoulli:1/32'],
    ['bernoulli:0.000000001', 'bernoulli:1/1000000000'],
    ['bernoulli:1', 'bernoulli:1/1'],
    ['bernoulli:4294967295/4294967295', 'bernoulli:1/1'],
    ['every:1048576', 'every:1048576'],
  ])('%s is %s', (name, canonical) => {
    expect(parseTokenSampler(name).name).toBe(canonical)
  })

  test.each([
    '',
    'all:',
    'all:1',
    'every',
    'every:',
    'every:0',
    'every:1048577',
    'every:07',
    'every:1e3',
    'every:-1',
    'every: 2',
    'bernoulli',
    'bernoulli:',
    'bernoulli:0',
    'bernoulli:0/4',
    'bernoulli:5/4',
    'bernoulli:1/0',
    'bernoulli:1/2/3',
    'bernoulli:1.5',
    'bernoulli:2',
    'bernoulli:.5',
    'bernoulli:0.0',
    'bernoulli:0.1234567890',
    'bernoulli:01/32',
    'bernoulli:1/4294967296',
    'bernoulli:NaN',
    'bernoulli:1/32\n',
    'Bernoulli:1/32',
    'constructor',
    'uniform:2',
  ])('%j is refused', (name) => {
    expect(() => parseTokenSampler(name)).toThrow(invalid)
  })
})

describe('layer samplers', () => {
  test.each(layer)('$name of $numLayers layers picks those of the vectors', ({ name, numLayers, layers }) => {
    const sampler = parseLayerSampler(name)
    expect(contexts.map((context, i) => sampler.layers(bytes(context), i, numLayers))).toEqual(layers)
  })

  test('a word that would bias the draw is thrown away', () => {
    const sampler = parseLayerSampler(rejection.name)
    expect(sampler.layers(bytes(rejection.context), 0, rejection.numLayers)).toEqual(rejection.layers)
  })

  test('drawn layers are distinct, ascending, in range, and leave out layer 0', () => {
    const family = fc.constantFrom('uniform', 'stratified')
    const count = fc.integer({ min: 1, max: 50 })
    fc.assert(
      fc.property(family, count, fc.integer({ min: 1, max: 60 }), anyContext, (name, wanted, numLayers, context) => {
        const layers = parseLayerSampler(`${name}:${wanted}`).layers(context, 0, numLayers)
        expect(layers).toHaveLength(Math.min(wanted, Math.max(1, numLayers - 1)))
        expect(layers.every((l, i) => i === 0 || l > layers[i - 1])).toBe(true)
        expect(layers[0]).toBeGreaterThanOrEqual(Math.min(1, numLayers - 1))
        expect(layers[layers.length - 1]).toBeLessThan(numLayers)
      }),
      { numRuns: 500 },
    )
  })

  test('stratified picks one layer in each band, and bands differ by at most one layer', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 21, max: 60 }), anyContext, (n, size, context) => {
        const layers = parseLayerSampler(`stratified:${n}`).layers(context, 0, size + 1)
        const edges = Array.from({ length: n + 1 }, (_, b) => 1 + Math.floor((b * size) / n))
        for (const [b, l] of layers.entries()) expect(l >= edges[b] && l < edges[b + 1]).toBe(true)
        const widths = edges.slice(1).map((edge, b) => edge - edges[b])
        expect(Math.max(...widths) - Math.min(...widths)).toBeLessThanOrEqual(1)
      }),
    )
  })

  // 5 standard deviations of a chi-square: sqrt(2 * freedom) each.
  const chiSquareLimit = (freedom: number) => freedom + 5 * Math.sqrt(2 * freedom)
  function chiSquare(sampler: LayerSampler, numLayers: number, outcomes: number, trials: number): number {
    const counts = new Map<string, number>()
    for (let i = 0; i < trials; i++) {
      const key = sampler.layers(contextAt(i), i, numLayers).join()
      counts.set(key, (counts.get(key) ?? 0) + 1)
    }
    expect(counts.size).toBe(outcomes)
    const expected = trials / outcomes
    return [...counts.values()].reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0)
  }

  test('uniform makes every subset equally likely', () => {
    expect(chiSquare(parseLayerSampler('uniform:2'), 9, 28, 28_000)).toBeLessThan(chiSquareLimit(27))
    expect(chiSquare(parseLayerSampler('uniform:3'), 7, 20, 20_000)).toBeLessThan(chiSquareLimit(19))
  })

  test('stratified makes every choice of one in each band equally likely', () => {
    expect(chiSquare(parseLayerSampler('stratified:2'), 11, 25, 25_000)).toBeLessThan(chiSquareLimit(24))
  })

  test('fixed puts its layers in order, and refuses a model without them', () => {
    const sampler = parseLayerSampler('fixed:5,0,3')
    expect(sampler.name).toBe('fixed:0,3,5')
    expect(sampler.layers(contextAt(0), 0, 6)).toEqual([0, 3, 5])
    expect(() => sampler.layers(contextAt(0), 0, 5)).toThrow(invalid)
  })

  test.each([
    '',
    'uniform',
    'uniform:',
    'uniform:0',
    'uniform:4097',
    'uniform:1,2',
    'stratified:-1',
    'stratified:02',
    'fixed',
    'fixed:',
    'fixed:1,',
    'fixed:1,1',
    'fixed:4097',
    'fixed:a',
    'every:2',
    '__proto__',
    `fixed:${Array.from({ length: 257 }, (_, i) => i).join()}`,
  ])('%j is refused', (name) => {
    expect(() => parseLayerSampler(name)).toThrow(invalid)
  })
})

describe('custom samplers', () => {
  const context = contextAt(1)
  const mine: TokenSampler = {
    name: 'acme/even:1',
    rate: { num: 1, den: 2 },
    samples: (_c, position) => position % 2 === 0,
  }
  const layersThat = (layers: unknown): LayerSampler => ({ name: 'acme/x', layers: () => layers as number[] })

  test('are called with their own this, and cannot change the context', () => {
    const sampler = {
      name: 'acme/state',
      own: [2, 3],
      layers(given: Uint8Array) {
        given.fill(0)
        return this.own
      },
    }
    const before = context.slice()
    expect(checkedLayerSampler(sampler).layers(context, 0, 4)).toEqual([2, 3])
    expect(context).toEqual(before)
    expect(checkedTokenSampler(mine).samples(context, 2)).toBe(true)
  })

  test('of the library itself pass as they are', () => {
    const own = parseTokenSampler('every:4')
    expect(resolveTokenSampler('every:4', own)).toBe(own)
    expect(() => resolveTokenSampler('every:5', own)).toThrow(invalid)
  })

  test.each([
    'all',
    'bernoulli:mine',
    'fixed',
    'every:4',
    'Mine',
    '-mine',
    '',
    'a b',
    'é',
    'x'.repeat(65),
  ])('must not be called %j', (name) => {
    expect(() => checkedTokenSampler({ ...mine, name })).toThrow(invalid)
    expect(() => checkedLayerSampler({ ...layersThat([1]), name })).toThrow(invalid)
  })

  test.each([
    [[]],
    [[1, 1]],
    [[2, 1]],
    [[4]],
    [[-1]],
    [[1.5]],
    [['1']],
    [new Array(2)],
    [null],
    ['12'],
    [{ length: 1 }],
  ])('must not return %j as layers', (layers) => {
    expect(() => checkedLayerSampler(layersThat(layers)).layers(context, 0, 4)).toThrow(invalid)
  })

  test('must be whole, return booleans and not throw', () => {
    const broken = [null, 7, {}, { name: 'acme' }, { ...mine, rate: undefined }, { ...mine, rate: { num: 2, den: 1 } }]
    for (const sampler of broken) expect(() => checkedTokenSampler(sampler as never)).toThrow(invalid)
    const one = checkedTokenSampler({ ...mine, samples: () => 1 as never })
    expect(() => one.samples(context, 0)).toThrow(invalid)
    const cause = new Error('mine')
    const thrower = {
      ...mine,
      samples: () => {
        throw cause
      },
    }
    expect(() => checkedTokenSampler(thrower).samples(context, 0)).toThrow(expect.objectContaining({ cause }))
  })
})
