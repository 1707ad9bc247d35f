import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { parseDepth } from '../../lib/depth'
import { MAX_LAYERS } from '../../lib/limits'
import { parseLayerSampler } from '../../lib/sampler'
import { H, le32 } from './second-implementation'

const invalid = expect.objectContaining({ name: 'PocError', code: 'INVALID_ARGUMENT' })
const seedOf = (i: number) => Uint8Array.from(createHash('sha256').update(le32(i)).digest())
const anySeed = fc.uint8Array({ minLength: 32, maxLength: 32 })
const anyDraws = fc.integer({ min: 1, max: 16 })

/** The draws once more: 32-bit words of one digest after another, those at or over the last multiple left out. */
function drawsOf(seed: Uint8Array, count: number, numLayers: number): number[] {
  const draws: number[] = []
  for (let block = 0; draws.length < count; block++) {
    const digest = Buffer.from(H('depth', seed, le32(block)))
    for (let i = 0; i < 8; i++) {
      const word = digest.readUInt32LE(4 * i)
      if (word < Math.floor(2 ** 32 / numLayers) * numLayers) draws.push(1 + (word % numLayers))
    }
  }
  return draws.slice(0, count)
}

test('kv ends above the virtual layer, full with it; no seed is needed', () => {
  expect(parseDepth('kv').deepest(null, 6)).toBe(5)
  expect(parseDepth('kv').deepest(null, 1)).toBe(0)
  expect(parseDepth('full').deepest(null, 6)).toBe(6)
  expect(parseDepth('kv').probabilities(2)).toEqual([0, 1, 0])
  expect(parseDepth('full').probabilities(2)).toEqual([0, 0, 1])
  expect([parseDepth('kv').isRandom, parseDepth('full').isRandom, parseDepth('random:3').isRandom]).toEqual([
    false,
    false,
    true,
  ])
})

test('random is the least of the draws from the seed', () => {
  fc.assert(
    fc.property(anySeed, anyDraws, fc.integer({ min: 1, max: MAX_LAYERS }), (seed, draws, numLayers) => {
      const deepest = parseDepth(`random:${draws}`).deepest(seed, numLayers)
      expect(deepest).toBe(Math.min(...drawsOf(seed, draws, numLayers)))
    }),
  )
})

test('one seed after another gives the stated distribution', () => {
  const numLayers = 5
  const trials = 20_000
  for (const draws of [1, 2, 4]) {
    const depth = parseDepth(`random:${draws}`)
    const counts = new Array<number>(numLayers + 1).fill(0)
    for (let i = 0; i < trials; i++) counts[depth.deepest(seedOf(i), numLayers)]++
    depth.probabilities(numLayers).forEach((p, layer) => {
      expect(Math.abs(counts[layer] - trials * p)).toBeLessThanOrEqual(5 * Math.sqrt(trials * p * (1 - p)))
    })
  }
})

test('probabilities are the exact fractions', () => {
  fc.assert(
    fc.property(anyDraws, fc.integer({ min: 1, max: 300 }), (draws, numLayers) => {
      const probabilities = parseDepth(`random:${draws}`).probabilities(numLayers)
      expect(probabilities).toHaveLength(numLayers + 1)
      const all = BigInt(numLayers) ** BigInt(draws)
      const atLeast = (layer: number) => BigInt(numLayers - layer + 1) ** BigInt(draws)
      probabilities.forEach((p, layer) => {
        const exact = layer === 0 ? 0n : ((atLeast(layer) - atLeast(layer + 1)) << 1000n) / all
        expect(Math.abs(p - Number(exact) / 2 ** 1000)).toBeLessThanOrEqual(1e-14 * p)
      })
    }),
  )
  expect(parseDepth('random:2').probabilities(3)).toEqual([0, 5 / 9, 3 / 9, 1 / 9].map((p) => expect.closeTo(p, 15)))
  expect(parseDepth('random:16').probabilities(1)).toEqual([0, 1])
})

test('layer samplers take D + 1 as their number of layers, up to the virtual layer of the deepest model', () => {
  const sampler = parseLayerSampler('uniform:1')
  const seed = seedOf(1)
  expect(sampler.layers(seed, 0, parseDepth('kv').deepest(null, 1) + 1)).toEqual([0])
  expect(sampler.layers(seed, 0, parseDepth('full').deepest(null, 1) + 1)).toEqual([1])
  expect(sampler.layers(seed, 0, parseDepth('random:1').deepest(seed, 1) + 1)).toEqual([1])
  const deepest = parseDepth('full').deepest(null, MAX_LAYERS)
  const all = parseLayerSampler('stratified:4096').layers(seed, 0, deepest + 1)
  expect([all[0], all[all.length - 1], all.length]).toEqual([1, MAX_LAYERS, MAX_LAYERS])
  expect(() => sampler.layers(seed, 0, MAX_LAYERS + 2)).toThrow(invalid)
})

test.each(['kv', 'full', 'random:1', 'random:16'])('%s keeps its name', (name) => {
  expect(parseDepth(name).name).toBe(name)
})

test.each<unknown>([
  '',
  'kv:',
  'kv:1',
  'Full',
  'random',
  'random:',
  'random:0',
  'random:17',
  'random:02',
  'random:1:1',
  'random: 1',
  'random:1.5',
  undefined,
  null,
  7,
  ['kv'],
])('%p is refused', (name) => {
  expect(() => parseDepth(name as string)).toThrow(invalid)
})

test.each<[string, Uint8Array | null, number]>([
  ['no seed', null, 4],
  ['a short seed', new Uint8Array(31), 4],
  ['no layers', seedOf(0), 0],
  ['too many layers', seedOf(0), MAX_LAYERS + 1],
  ['half a layer', seedOf(0), 1.5],
])('a draw with %s is refused', (_what, seed, numLayers) => {
  expect(() => parseDepth('random:2').deepest(seed, numLayers)).toThrow(invalid)
})
