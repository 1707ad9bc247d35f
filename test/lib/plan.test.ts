import fc from 'fast-check'
import type { ProofHeader } from '../../lib/binding'
import type { ModelConfig } from '../../lib/config'
import { costThroughLayer, fullPrefillCost, planCost } from '../../lib/cost'
import { drawChallenge } from '../../lib/challenge'
import { createPlan, type Plan } from '../../lib/plan'
import { anyHeader, anyTokens, contexts, hex, SMALL_HEADER } from './second-implementation'
import file from '../vectors/plan.json'

const vectors = file.vectors as unknown as {
  header: ProofHeader
  tokens: number[]
  contextDigest: string
  layers: [number, number[]][]
  root?: string
  beacon?: string
}[]
const invalid = expect.objectContaining({ name: 'PocError', code: 'INVALID_ARGUMENT' })
const entries = (plan: Plan) => [...plan.layers].map(([layer, positions]) => [layer, [...positions]])

describe('plans', () => {
  test('are those of the vectors', () => {
    expect(file.madeBy).toContain('test/vectors/formats.py')
    expect(vectors).toHaveLength(28)
    for (const { header, tokens, contextDigest, layers, root = '', beacon = '' } of vectors) {
      const ids = Uint32Array.from(tokens)
      const plan = beacon ? drawChallenge({ header, tokens: ids, root }, beacon).plan : createPlan(header, tokens)
      expect(entries(plan)).toEqual(layers)
      expect(hex(plan.contextDigest)).toBe(contextDigest)
      expect(plan.deepestLayer).toBe(layers[layers.length - 1][0])
      expect(plan.numSamples).toBe(layers.reduce((sum, [, positions]) => sum + positions.length, 0))
      expect(plan.numPositions).toBe(tokens.length - 1)
    }
  })

  test('are the same for the same input, ordered, and hold the last position', () => {
    fc.assert(
      fc.property(anyHeader, anyTokens, (header, tokens) => {
        const plan = createPlan(header, tokens)
        expect(createPlan({ ...header }, [...tokens])).toEqual(plan)
        const layers = [...plan.layers.keys()]
        expect(layers).toEqual([...layers].sort((a, b) => a - b))
        const lists = [...plan.layers.values()]
        expect(lists.every((list) => list.every((position, i) => i === 0 || position > list[i - 1]))).toBe(true)
        expect(Math.max(...lists.flatMap((list) => [...list]))).toBe(tokens.length - 2)
        expect(hex(plan.contextDigest)).toBe(hex(contexts(header, tokens)[tokens.length - 1]))
      }),
    )
  })

  test('of a longer sequence agree on earlier positions, but for the last one that is forced', () => {
    fc.assert(
      fc.property(anyHeader, anyTokens, fc.array(fc.nat(0xffffffff), { minLength: 1 }), (header, tokens, more) => {
        const before = (plan: Plan) =>
          entries(plan)
            .map(([layer, positions]) => [layer, (positions as number[]).filter((p) => p < tokens.length - 2)])
            .filter(([, positions]) => (positions as number[]).length > 0)
        expect(before(createPlan(header, [...tokens, ...more]))).toEqual(before(createPlan(header, tokens)))
      }),
    )
  })

  test('hold a last position that the token sampler leaves out', () => {
    const plan = createPlan({ ...SMALL_HEADER, tokenSampler: 'every:1000' }, [1, 2, 3, 4])
    expect(entries(plan)).toEqual([
      [1, [2]],
      [4, [2]],
    ])
  })

  test('do not depend on the last token but for the context digest', () => {
    const [a, b] = [createPlan(SMALL_HEADER, [1, 2, 3, 4]), createPlan(SMALL_HEADER, [1, 2, 3, 5])]
    expect(a.layers).toEqual(b.layers)
    expect(a.contextDigest).not.toEqual(b.contextDigest)
  })

  test('ask custom samplers, at every position', () => {
    const asked: [number, string][] = []
    const header = { ...SMALL_HEADER, tokenSampler: 'acme/none', layerSampler: 'acme/deep' }
    const tokenSampler = {
      name: 'acme/none',
      rate: { num: 0, den: 1 },
      samples(context: Uint8Array, position: number) {
        asked.push([position, hex(context)])
        return false
      },
    }
    const layerSampler = {
      name: 'acme/deep',
      layers: (_c: Uint8Array, _p: number, numLayers: number) => [numLayers - 1],
    }
    expect(entries(createPlan(header, [1, 2, 3], { tokenSampler, layerSampler }))).toEqual([[5, [1]]])
    expect(asked).toEqual(contexts(header, [1, 2]).map((context, i) => [i, hex(context)]))
    expect(() => createPlan(header, [1, 2, 3])).toThrow(invalid)
    expect(() => createPlan(SMALL_HEADER, [1, 2, 3], { tokenSampler })).toThrow(invalid)
    expect(entries(createPlan(SMALL_HEADER, [1, 2, 3], { layerSampler: 'fixed:4,1' }))).toEqual([
      [1, [1]],
      [4, [1]],
    ])
  })

  test('of more than 2^20 samples are refused, long before they are made', () => {
    const header = { ...SMALL_HEADER, numLayers: 4096, tokenSampler: 'all', layerSampler: 'uniform:4096' }
    const tooLarge = expect.objectContaining({ code: 'PROOF_TOO_LARGE' })
    expect(() => createPlan(header, new Uint32Array(2 ** 20))).toThrow(tooLarge)
  })

  test.each<[string, unknown[]]>([
    ['no header', [null, [1, 2]]],
    ['one token', [{ ...SMALL_HEADER, promptLength: 1 }, [1]]],
    ['too many tokens', [SMALL_HEADER, new Uint32Array(2 ** 20 + 1)]],
    ['a longer prompt than tokens', [{ ...SMALL_HEADER, promptLength: 4 }, [1, 2, 3]]],
    ['tokens that are no list', [SMALL_HEADER, '123']],
    ['no tokens', [SMALL_HEADER, undefined]],
    ['a negative token', [SMALL_HEADER, [1, -2, 3]]],
    ['a last token that is a fraction', [SMALL_HEADER, [1, 2, 0.5]]],
    ['no samplers', [SMALL_HEADER, [1, 2, 3], null]],
    ['a sampler of another name', [SMALL_HEADER, [1, 2, 3], { tokenSampler: 'all' }]],
  ])('refuse %s', (_what, args) => {
    expect(() => createPlan(...(args as Parameters<typeof createPlan>))).toThrow(invalid)
  })
})

describe('costs', () => {
  const CONFIG: ModelConfig = {
    architecture: 'llama',
    vocabSize: 100,
    hiddenSize: 12,
    intermediateSize: 20,
    numLayers: 6,
    numHeads: 4,
    numKvHeads: 2,
    headDim: 6,
    maxPositions: 64,
    rmsNormEps: 1e-5,
    ropeTheta: 1e4,
    ropeScaling: null,
    slidingWindow: null,
    qkvBias: false,
    qkNorm: false,
    tiedHead: true,
    bosTokenId: null,
    eosTokenIds: [],
  }
  const planOf = (...layers: [number, number[]][]): Plan => ({
    numPositions: 1 + Math.max(...layers.flatMap(([, positions]) => positions)),
    layers: new Map(layers.map(([layer, positions]) => [layer, Uint32Array.from(positions)])),
    deepestLayer: layers[layers.length - 1][0],
    contextDigest: new Uint8Array(32),
    numSamples: layers.flatMap(([, positions]) => positions).length,
  })

  /** Counts multiply-adds one by one, from what each computed row needs of the layer before. */
  function countedFlops(plan: Plan, config: ModelConfig, lastLayer: number): number {
    let multiplyAdds = 0
    const positions = Array.from({ length: plan.numPositions }, (_, i) => i)
    const matmul = (inputs: number, outputs: number) => (multiplyAdds += inputs * outputs)
    const attended = (query: number, key: number) =>
      key <= query && (config.slidingWindow === null || key > query - config.slidingWindow)
    /** Whether the state of a position before a layer is needed: by a sample there, or by what attends to its keys. */
    const isNeeded = (layer: number, position: number): boolean => {
      if (plan.layers.get(layer)?.includes(position)) return true
      return layer < plan.deepestLayer && positions.some((query) => query >= position && isNeeded(layer + 1, query))
    }
    for (let layer = 0; layer <= lastLayer; layer++) {
      for (const position of positions.filter((one) => isNeeded(layer, one))) {
        const isVirtual = layer === config.numLayers
        if (!isVirtual) for (let i = 0; i < 2; i++) matmul(config.hiddenSize, config.numKvHeads * config.headDim)
        if (layer === 0) continue
        for (let i = 0; i < 2; i++) matmul(config.hiddenSize, config.numHeads * config.headDim)
        for (let i = 0; i < 3; i++) matmul(config.hiddenSize, config.intermediateSize)
        for (const key of positions) {
          if (attended(position, key)) for (let i = 0; i < 2; i++) matmul(config.numHeads, config.headDim)
        }
      }
    }
    return 2 * multiplyAdds
  }

  const anyPlan = fc
    .uniqueArray(fc.nat(CONFIG.numLayers), { minLength: 1, maxLength: 6 })
    .chain((layers) =>
      fc.tuple(
        ...[...layers]
          .sort()
          .map((layer) =>
            fc
              .uniqueArray(fc.nat(15), { minLength: 1, maxLength: 8 })
              .map((positions): [number, number[]] => [layer, [...positions].sort((a, b) => a - b)]),
          ),
      ),
    )
    .map((layers) => planOf(...layers))

  test('count what the dependency cone needs, layer by layer', () => {
    fc.assert(
      fc.property(anyPlan, fc.constantFrom(null, 1, 3, 100), (plan, slidingWindow) => {
        const config = { ...CONFIG, slidingWindow }
        for (let layer = -1; layer <= plan.deepestLayer; layer++) {
          expect(costThroughLayer(plan, config, layer)).toBe(countedFlops(plan, config, layer))
        }
        expect(planCost(plan, config).flops).toBe(countedFlops(plan, config, plan.deepestLayer))
      }),
      { numRuns: 60 },
    )
  })

  test('of a full prefill are those of a plan that samples everything at the virtual layer', () => {
    const everything = planOf([CONFIG.numLayers, [0, 1, 2, 3, 4, 5, 6]])
    expect(fullPrefillCost(everything, CONFIG)).toBe(planCost(everything, CONFIG).flops)
    expect(planCost(everything, CONFIG).share).toBe(1)
  })

  test('are summed up', () => {
    const cost = planCost(planOf([1, [0, 4]], [3, [2]]), CONFIG, 'bf16')
    expect(cost).toMatchObject({ layers: 4, positions: 5, samples: 3, bytes: 3 * 2 * 12 * 2 })
    expect(cost.share).toBe(cost.flops / fullPrefillCost(planOf([1, [4]]), CONFIG))
    expect(cost.share).toBeGreaterThan(0)
    expect(cost.share).toBeLessThan(1)
  })

  test('stay right beyond 2^53', () => {
    const huge = {
      ...CONFIG,
      hiddenSize: 16384,
      intermediateSize: 53248,
      numHeads: 128,
      numKvHeads: 8,
      headDim: 128,
      numLayers: 126,
    }
    const plan: Plan = { ...planOf([125, [2 ** 20 - 2]]) }
    const n = 2 ** 20 - 1
    const perToken = 2 * (2 * 16384 * 16384 + 2 * 16384 * 1024 + 3 * 16384 * 53248)
    const expected = 126 * (n * perToken + ((4 * 16384 * n) / 2) * (n + 1))
    expect(fullPrefillCost(plan, huge) / expected).toBeCloseTo(1, 12)
    expect(fullPrefillCost(plan, huge)).toBeGreaterThan(2 ** 53)
  })

  test('refuse a plan deeper than the model, a layer outside the plan and what is no plan', () => {
    const plan = planOf([5, [1]])
    expect(() => planCost(plan, { ...CONFIG, numLayers: 4 })).toThrow(invalid)
    expect(() => costThroughLayer(plan, CONFIG, 6)).toThrow(invalid)
    expect(() => costThroughLayer(plan, CONFIG, -2)).toThrow(invalid)
    expect(() => planCost(plan, CONFIG, 'f64' as never)).toThrow(invalid)
    expect(() => planCost(plan, { ...CONFIG, hiddenSize: undefined as never })).toThrow(invalid)
    for (const value of [null, undefined, 7]) {
      expect(() => planCost(value as never, CONFIG)).toThrow(invalid)
      expect(() => planCost(plan, value as never)).toThrow(invalid)
      expect(() => fullPrefillCost(value as never, CONFIG)).toThrow(invalid)
    }
  })
})
