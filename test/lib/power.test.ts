import fc from 'fast-check'
import type { ModelConfig } from '../../lib/config'
import {
  leastBernoulli,
  MAX_POWER_LAYERS,
  planPower,
  type PowerAttack,
  type PowerPolicy,
  proofsNeeded,
} from '../../lib/power'
import { CONFIG, simulate } from './power-simulation'

const invalid = expect.objectContaining({ name: 'PocError', code: 'INVALID_ARGUMENT' })

const anyPolicy: fc.Arbitrary<PowerPolicy> = fc
  .record({
    depth: fc.constantFrom('kv', 'full', 'random:1', 'random:2', 'random:3'),
    numLayers: fc.integer({ min: 2, max: 6 }),
    numPositions: fc.integer({ min: 1, max: 6 }),
  })
  .chain(({ depth, numLayers, numPositions }) =>
    fc.record({
      tokenSampler: fc.constantFrom('bernoulli:1/3', 'bernoulli:1/8', 'bernoulli:2/3', 'every:2', 'every:3', 'all'),
      layerSampler: fc.oneof(
        {
          weight: 3,
          arbitrary: fc.constantFrom('uniform:1', 'uniform:2', 'stratified:1', 'stratified:2', 'stratified:3'),
        },
        // The least depth that the policy can draw must hold every fixed layer.
        {
          weight: 1,
          arbitrary: fc.constantFrom('fixed:1', depth.startsWith('random') ? 'fixed:0,1' : `fixed:0,${numLayers - 1}`),
        },
      ),
      depth: fc.constant(depth),
      numLayers: fc.constant(numLayers),
      numPositions: fc.constant(numPositions),
      promptLength: fc.integer({ min: 1, max: numPositions + 1 }),
      replay: fc.constantFrom('none', 'none', '1/8', '1/2', 'all'),
      challenge: fc.constant('beacon' as const),
    }),
  )

const anyAttack = (policy: PowerPolicy): fc.Arbitrary<PowerAttack> =>
  fc.record({
    wrongLayers: fc.oneof(
      fc.integer({ min: 1, max: policy.numLayers + 1 }),
      fc.uniqueArray(fc.nat(policy.numLayers), { minLength: 1, maxLength: 4 }),
    ),
    wrongPositions: fc.integer({ min: 1, max: policy.numPositions }),
    wrongTokens: fc.integer({ min: 0, max: policy.numPositions + 1 - policy.promptLength }),
    choice: fc.constantFrom('random', 'evasive'),
    sampleDetection: fc.constantFrom(1, 1, 0.6),
    tokenDetection: fc.constantFrom(1, 0.5),
  })

const anyCase = anyPolicy.chain((policy) => anyAttack(policy).map((attack) => ({ policy, attack })))
const configOf = (policy: PowerPolicy, slidingWindow: number | null = null): ModelConfig => ({
  ...CONFIG,
  numLayers: policy.numLayers,
  slidingWindow,
})

describe('simulation with the real samplers, 40000 proofs each', () => {
  const cases = fc.sample(anyCase, { numRuns: 20, seed: 5 }).map((drawn, seed) => ({ ...drawn, seed }))

  test('most of these attacks are neither hopeless nor certain to be caught', () => {
    const power = cases.map(({ policy, attack }) => planPower(policy, attack).detection)
    expect(power.filter((detection) => detection > 0.05 && detection < 0.95).length).toBeGreaterThan(12)
  })

  test.each(cases)('case $seed: $policy.tokenSampler $policy.layerSampler $policy.depth', (drawn) => {
    const { policy, attack, seed } = drawn
    const config = configOf(policy, seed % 2 === 0 ? null : 3)
    const simulated = simulate(policy, attack, config, 40_000, seed)
    const power = planPower(policy, attack, config)
    expect(Math.abs(power.detection - simulated.detection)).toBeLessThan(0.01)
    expect(power.samples / simulated.samples).toBeCloseTo(1, 1.7)
    expect(Math.abs(power.replayed - simulated.replayed)).toBeLessThan(0.02)
    for (const [cost, mean] of [
      [power.honest, simulated.honest],
      [power.attacked, simulated.attacked],
    ] as const) {
      expect(Math.abs(cost.share! - mean.share!)).toBeLessThan(0.01)
      expect(Math.abs(cost.flops! / mean.flops! - 1)).toBeLessThan(Math.max(0.02, 4 * mean.flopsError))
      expect(Math.abs(cost.layers - mean.layers)).toBeLessThan(0.01 * (policy.numLayers + 1))
    }
  })
})

describe('by hand', () => {
  const ALL: PowerPolicy = {
    tokenSampler: 'all',
    layerSampler: 'uniform:1',
    depth: 'kv',
    numLayers: 5,
    numPositions: 4,
    promptLength: 2,
    replay: 'none',
    challenge: 'beacon',
  }
  const ONE: PowerAttack = { wrongLayers: [4], wrongPositions: 1, wrongTokens: 0, choice: 'random' }
  const HALF = { ...ALL, tokenSampler: 'bernoulli:1/2', layerSampler: 'fixed:4', numPositions: 3 }
  const EVERY = { ...ALL, tokenSampler: 'every:2', layerSampler: 'fixed:4', numPositions: 5 } // positions 1, 3, 4
  const VIRTUAL = { ...ALL, numLayers: 2, numPositions: 1, promptLength: 1 }
  const evasive = { choice: 'evasive' } as const
  const inContext = { challenge: 'context' } as const
  const everything = { wrongLayers: 6 }
  const tokens = { wrongLayers: 0, wrongPositions: 0, wrongTokens: 2 }

  test.each<[string, number, PowerPolicy, Partial<PowerAttack>]>([
    ['one of 4 candidates, at each of 2 positions', 7 / 16, ALL, { wrongPositions: 2 }],
    ['layer 0, which is no candidate', 0, ALL, { wrongLayers: [0] }],
    ['two of 4 candidates drawn, one wrong', 1 / 2, { ...ALL, layerSampler: 'uniform:2' }, {}],
    ['two of 4 candidates drawn, two wrong', 5 / 6, { ...ALL, layerSampler: 'uniform:2' }, { wrongLayers: [3, 4] }],
    ['more layers asked for than there are', 1, { ...ALL, layerSampler: 'uniform:9' }, {}],
    ['one band of two', 1 / 2, { ...ALL, layerSampler: 'stratified:2' }, {}],
    ['a band of its own', 1, { ...ALL, numLayers: 4, layerSampler: 'stratified:2' }, { wrongLayers: [1] }],
    ['the greater of two bands', 1 / 2, { ...ALL, numLayers: 4, layerSampler: 'stratified:2' }, { wrongLayers: [2] }],
    ['one layer in each of two bands', 3 / 4, { ...ALL, layerSampler: 'stratified:2' }, { wrongLayers: [1, 4] }],
    ['a layer that is not fixed', 0, { ...ALL, layerSampler: 'fixed:1,3' }, {}],
    ['the last position with 1/3, another with 1/2', 2 / 3, HALF, {}],
    ['a position that may go unsampled', 1 / 2, HALF, evasive],
    ['both positions that may go unsampled', 3 / 4, HALF, { ...evasive, wrongPositions: 2 }],
    ['the last one too', 1, HALF, { ...evasive, wrongPositions: 3 }],
    ['a sample noticed half the time', 1 / 4, HALF, { ...evasive, sampleDetection: 0.5 }],
    ['every second position', 3 / 5, EVERY, {}],
    ['the two between', 0, EVERY, { ...evasive, wrongPositions: 2 }],
    ['more than those between', 1, EVERY, { ...evasive, wrongPositions: 3 }],
    ['a rate of 1, where nothing can be avoided', 1, { ...HALF, tokenSampler: 'bernoulli:1/1' }, evasive],
    ['a generator that knows the draw', 0, { ...HALF, ...inContext }, { ...evasive, wrongPositions: 2 }],
    ['one that cannot avoid the last position', 1, { ...HALF, ...inContext }, { ...evasive, wrongPositions: 3 }],
    ['one that tries until it is another layer', 0, { ...ALL, ...inContext }, { ...evasive, wrongPositions: 4 }],
    ['one with no right layer', 1, { ...ALL, ...inContext }, { ...evasive, ...everything }],
    ['3 of 4 layers, 2 wrong', 1, { ...ALL, ...inContext, layerSampler: 'uniform:3' }, { ...evasive, wrongLayers: 3 }],
    ['one that does not use what it knows', 1 / 4, { ...ALL, ...inContext }, {}],
    ['the virtual layer, out of reach', 0, VIRTUAL, { wrongLayers: 1 }],
    ['the virtual layer as one of two', 1 / 2, { ...VIRTUAL, depth: 'full' }, { wrongLayers: 1 }],
    ['the virtual layer if drawn as depth', 1 / 4, { ...VIRTUAL, depth: 'random:1' }, { wrongLayers: 1 }],
    ['the virtual layer if drawn twice', 1 / 8, { ...VIRTUAL, depth: 'random:2' }, { wrongLayers: 1 }],
    ['one layer, the only one', 1, { ...ALL, numLayers: 1 }, { wrongLayers: [0] }],
    ['one layer and the virtual one', 1, { ...ALL, numLayers: 1, depth: 'random:3' }, { wrongLayers: 1 }],
    ['two tokens, none replayed', 0, ALL, tokens],
    ['two tokens, half replayed', 3 / 4, { ...ALL, replay: '1/2' }, tokens],
    ['two tokens, half replayed, half noticed', 7 / 16, { ...ALL, replay: '0.5' }, { ...tokens, tokenDetection: 0.5 }],
    ['two tokens, half replayed and known', 0, { ...ALL, ...inContext, replay: '1/2' }, { ...tokens, ...evasive }],
    ['two tokens, all replayed and known', 1, { ...ALL, ...inContext, replay: 'all' }, { ...tokens, ...evasive }],
    ['samples and tokens', 5 / 8, { ...ALL, replay: '1/2' }, { wrongPositions: 1, wrongTokens: 1 }],
    ['nothing', 0, { ...ALL, replay: 'all' }, { wrongPositions: 0 }],
  ])('%s: %d', (_what, detection, policy, attack) => {
    expect(planPower(policy, { ...ONE, ...attack }).detection).toBeCloseTo(detection, 12)
  })

  // FLOPs of one position's K and V, of the rest of a position, of one pair of query and key.
  const KV = 2 * 2 * 12 * 12
  const REST = 2 * (2 * 12 * 24 + 3 * 12 * 20)
  const PAIR = 2 * 2 * 24
  const none = { ...ONE, wrongPositions: 0 }

  test('cost of one layer, with and without the virtual one and replay', () => {
    const policy = { ...ALL, numLayers: 1, numPositions: 2, promptLength: 1 }
    const cost = (some: Partial<PowerPolicy>) =>
      planPower({ ...policy, ...some }, { ...none, wrongLayers: 0 }, configOf(policy)).honest
    const full = 2 * (KV + REST) + 3 * PAIR
    expect(cost({})).toEqual({ layers: 1, flops: 2 * KV, share: (2 * KV) / full })
    expect(cost({ depth: 'full' })).toEqual({ layers: 2, flops: full, share: 1 })
    expect(cost({ replay: 'all' }).flops).toBe(full + 2 * 2 * 12 * 100)
  })

  test('cost of the last position alone, at the second layer or the virtual one', () => {
    const policy = { ...ALL, tokenSampler: 'every:1000', depth: 'full', numLayers: 2, numPositions: 2 }
    const last = REST + 2 * PAIR // what the block before has to do for the last position alone
    const { honest, attacked } = planPower(policy, { ...ONE, wrongLayers: [1], wrongPositions: 2 }, configOf(policy))
    expect(honest.layers).toBeCloseTo(2.5, 12)
    expect(honest.flops).toBeCloseTo((2 * KV + last + KV + (4 * KV + 2 * REST + 3 * PAIR + last)) / 2, 8)
    // Either layer 1 is sampled, which ends both proofs there, or the virtual layer, where nothing is wrong.
    expect(attacked.flops).toBeCloseTo(honest.flops!, 8)
  })

  test('cost of an attack at the first layer, and of pairs within a window', () => {
    const policy = { ...ALL, layerSampler: 'fixed:1,2', numLayers: 3, numPositions: 3 }
    const { attacked, honest } = planPower(policy, { ...ONE, wrongLayers: [1, 2] }, configOf(policy, 2))
    const layer = 3 * (KV + REST) + 5 * PAIR // 1 + 2 + 2 pairs
    expect(attacked.layers).toBeCloseTo(2, 12)
    expect(attacked.flops).toBeCloseTo(layer + 3 * KV, 8)
    expect(honest.flops).toBeCloseTo(2 * layer + 3 * KV, 8)
  })

  test('without a config there are layers but no FLOPs', () => {
    const { honest, samples, replayed } = planPower({ ...EVERY, replay: '1/4' }, ONE)
    expect({ samples, replayed }).toEqual({ samples: 3, replayed: 1 })
    expect(honest).toMatchObject({ flops: null, share: null })
    expect(honest.layers).toBeCloseTo(5 + (1 - 0.75 ** 4), 12) // layer 4, or the virtual one if any of 4 is replayed
  })

  test('proofs needed', () => {
    expect(proofsNeeded(0.5, 0.99)).toBe(7)
    expect(proofsNeeded(1, 0.99)).toBe(1)
    expect(proofsNeeded(0.3, 0)).toBe(0)
    expect(proofsNeeded(0, 0.5)).toBe(Number.POSITIVE_INFINITY)
  })

  test('the least rate', () => {
    const { tokenSampler: _, ...policy } = { ...ALL, layerSampler: 'fixed:4', numPositions: 100 }
    const attack: PowerAttack = { ...ONE, ...evasive, wrongPositions: 4 }
    const least = Math.ceil((1 - 0.1 ** (1 / 4)) * 65536)
    expect(leastBernoulli(policy, attack, 0.9)).toBe(`bernoulli:${least}/65536`)
    expect(leastBernoulli(policy, attack, 0)).toBe('bernoulli:1/65536')
    expect(leastBernoulli(policy, { ...attack, wrongLayers: [3] }, 0.1)).toBeNull()
  })
})

describe('properties', () => {
  test('probabilities and costs are in their ranges, and what is noticed ends a proof early', () => {
    fc.assert(
      fc.property(anyCase, ({ policy, attack }) => {
        const { detection, honest, attacked } = planPower(policy, attack, configOf(policy, 3))
        expect(detection).toBeGreaterThanOrEqual(0)
        expect(detection).toBeLessThanOrEqual(1)
        expect(attacked.flops).toBeLessThanOrEqual(honest.flops! * (1 + 1e-9))
        expect(attacked.layers).toBeLessThanOrEqual(honest.layers * (1 + 1e-9))
        expect(honest.layers).toBeLessThanOrEqual(policy.numLayers + 1 + 1e-9)
        const nothing = planPower(policy, { ...attack, wrongPositions: 0, wrongTokens: 0 }, configOf(policy, 3))
        expect(nothing.detection).toBeCloseTo(0, 12)
        for (const cost of [nothing.honest, nothing.attacked]) {
          expect(cost.layers / honest.layers).toBeCloseTo(1, 9)
          expect(cost.flops! / honest.flops!).toBeCloseTo(1, 9)
        }
      }),
    )
  })

  test('who knows more is noticed less, and who does more is noticed more', () => {
    fc.assert(
      fc.property(anyCase, ({ policy, attack }) => {
        const detection = (some: Partial<PowerAttack>, other: Partial<PowerPolicy> = {}) =>
          planPower({ ...policy, ...other }, { ...attack, ...some }).detection + 1e-12
        const known = policy.depth.startsWith('random') ? {} : { challenge: 'context' as const }
        expect(detection({ choice: 'evasive' })).toBeGreaterThanOrEqual(detection({ choice: 'evasive' }, known) - 1e-12)
        expect(detection({ choice: 'random' })).toBeGreaterThanOrEqual(detection({ choice: 'evasive' }) - 1e-12)
        const less = { wrongPositions: attack.wrongPositions - 1, wrongTokens: 0 }
        expect(detection({})).toBeGreaterThanOrEqual(detection(less) - 1e-12)
        expect(detection({ wrongLayers: policy.numLayers + 1 })).toBeGreaterThanOrEqual(detection({}) - 1e-12)
      }),
    )
  })

  test('the greatest sizes are computed, in bounded time', () => {
    const numPositions = 2 ** 20 - 1
    const policy: PowerPolicy = {
      tokenSampler: 'bernoulli:1/4294967295',
      layerSampler: 'uniform:3',
      depth: 'full',
      numLayers: MAX_POWER_LAYERS,
      numPositions,
      promptLength: 1,
      replay: '1/3',
      challenge: 'beacon',
    }
    const attack: PowerAttack = { wrongLayers: 9, wrongPositions: 2 ** 19, wrongTokens: 2 ** 20 - 1, choice: 'random' }
    for (const tokenSampler of [policy.tokenSampler, 'every:1024', 'bernoulli:1/64', 'all']) {
      const power = planPower({ ...policy, tokenSampler }, attack, configOf(policy, 4096))
      expect(power.detection).toBe(1)
      expect(power.honest.layers).toBeCloseTo(MAX_POWER_LAYERS + 1, 9)
      // All of a prefill but for the last block of two positions in three, and the output head of one in three.
      expect(power.honest.share).toBeGreaterThan(0.99)
      expect(power.honest.share).toBeLessThan(1.01)
      expect(power.attacked.share).toBeGreaterThan(0.9)
    }
  })
})

describe('arguments', () => {
  const policy: PowerPolicy = {
    tokenSampler: 'all',
    layerSampler: 'uniform:1',
    depth: 'kv',
    numLayers: 4,
    numPositions: 3,
    promptLength: 2,
    replay: 'none',
    challenge: 'context',
  }
  const attack: PowerAttack = { wrongLayers: 1, wrongPositions: 1, wrongTokens: 1, choice: 'random' }
  const refused = (some: object, other: object) =>
    expect(() => planPower({ ...policy, ...some }, { ...attack, ...other })).toThrow(invalid)

  test.each<[string, object, object]>([
    ['a custom token sampler', { tokenSampler: 'acme/none' }, {}],
    ['a custom layer sampler', { layerSampler: 'acme/deep' }, {}],
    ['a fixed layer that is not there', { layerSampler: 'fixed:4' }, {}],
    [
      'a fixed layer below which a depth may lie',
      { layerSampler: 'fixed:2', depth: 'random:1', challenge: 'beacon' },
      {},
    ],
    ['an unknown depth', { depth: 'deep' }, {}],
    ['a random depth that is known beforehand', { depth: 'random:2' }, {}],
    ['too many layers', { numLayers: MAX_POWER_LAYERS + 1 }, {}],
    ['no positions', { numPositions: 0 }, {}],
    ['too many positions', { numPositions: 2 ** 20 }, {}],
    ['a longer prompt than tokens', { promptLength: 5 }, {}],
    ['a replay of more than all', { replay: '3/2' }, {}],
    ['a replay as a number', { replay: 0.5 }, {}],
    ['an unknown challenge', { challenge: 'oracle' }, {}],
    ['more wrong layers than there are', {}, { wrongLayers: 6 }],
    ['a wrong layer past the virtual one', {}, { wrongLayers: [5] }],
    ['wrong layers of another type', {}, { wrongLayers: 'all' }],
    ['more wrong positions than there are', {}, { wrongPositions: 4 }],
    ['more wrong tokens than were generated', {}, { wrongTokens: 3 }],
    ['a missing count', {}, { wrongTokens: undefined }],
    ['an unknown choice', {}, { choice: 'clever' }],
    ['a detection over 1', {}, { sampleDetection: 1.5 }],
    ['a detection that is no number', {}, { tokenDetection: Number.NaN }],
  ])('%s is refused', (_what, some, other) => refused(some, other))

  test('no objects, and a config of another model', () => {
    expect(() => planPower(null as unknown as PowerPolicy, attack)).toThrow(invalid)
    expect(() => planPower(policy, undefined as unknown as PowerAttack)).toThrow(invalid)
    expect(() => planPower(policy, attack, { ...CONFIG, numLayers: 5 })).toThrow(invalid)
    expect(() => planPower(policy, attack, { ...configOf(policy), headDim: 0 })).toThrow(invalid)
    expect(() => proofsNeeded(2, 0.5)).toThrow(invalid)
    expect(() => proofsNeeded(0.5, 1)).toThrow(invalid)
    expect(() => leastBernoulli(policy, attack, -1)).toThrow(invalid)
  })
})
