import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { PocError } from '../../lib/errors'
import { samplesOf, type KvSample, type LayerSamples } from '../../lib/kv'
import { createMatcher } from '../../lib/matcher'
import type { Plan } from '../../lib/plan'
import { sketchSample } from '../../lib/sketch'
import { createTolerantMatcher, type TolerantResult } from '../../lib/tolerant-matcher'
import type { ToleranceProfile } from '../../lib/tolerance'
import { handMadeProfile } from './hand-made-profile'

const NUM_LAYERS = 4
const WIDTH = 24
const SEED = new Uint8Array(32).fill(7)
const PLAN: Plan = {
  numPositions: 30,
  layers: new Map([
    [1, Uint32Array.of(3, 9, 20)],
    [2, Uint32Array.of(0, 9)],
    [4, Uint32Array.of(5, 29)],
  ]),
  deepestLayer: 4,
  contextDigest: new Uint8Array(32),
  numSamples: 7,
}
const PROFILE = handMadeProfile(NUM_LAYERS)
const SKETCHED = handMadeProfile(NUM_LAYERS, undefined, { form: 'sketch', projections: 16 })

const drawn = new Map<string, number>()
function noise(name: string, i: number): number {
  const key = `${name} ${i}`
  const value = drawn.get(key) ?? createHash('sha256').update(key).digest().readInt32LE(0) / 2 ** 31
  drawn.set(key, value)
  return value
}
const rowOf = (name: string) => Float32Array.from({ length: WIDTH }, (_, i) => noise(name, i))
const bytesOf = (row: Float32Array) => new Uint8Array(row.slice().buffer)

function layerOf(layer: number): LayerSamples {
  const positions = PLAN.layers.get(layer) ?? new Uint32Array(0)
  const rows = (part: string) => {
    return new Uint8Array(Buffer.concat([...positions].map((p) => bytesOf(rowOf(`${layer} ${p} ${part}`)))))
  }
  return { layer, positions, k: rows('k'), v: layer === NUM_LAYERS ? new Uint8Array(0) : rows('v') }
}

const HONEST: KvSample[] = [1, 2, 4].flatMap((layer) => {
  const { positions, k, v } = layerOf(layer)
  return samplesOf({ layer, positions, k, v })
})

/** Every vector moved by a stated relative error: by that much of its own norm, in a direction of its own. */
function moved(errors: readonly { k: number; v: number }[]): KvSample[] {
  const move = (bytes: Uint8Array, error: number, name: string) => {
    const row = new Float32Array(bytes.slice().buffer)
    const direction = Float64Array.from(row, (_, i) => noise(`direction ${name}`, i))
    const norm = (x: ArrayLike<number>) => Math.sqrt(Array.from(x).reduce((sum, value) => sum + value * value, 0))
    const scale = row.length > 0 ? (error * norm(row)) / norm(direction) : 0
    return bytesOf(row.map((value, i) => value + scale * direction[i]))
  }
  return HONEST.map((sample, i) => ({
    ...sample,
    k: move(sample.k, errors[i].k, `${i} k`),
    v: move(sample.v, errors[i].v, `${i} v`),
  }))
}

function run(samples: readonly KvSample[], profile: ToleranceProfile = PROFILE): TolerantResult {
  const matcher = createTolerantMatcher(PLAN, samples, profile, SEED)
  for (let layer = 0; layer <= PLAN.deepestLayer && !matcher.decided; layer++) matcher.push(layerOf(layer))
  expect(matcher.decided).toBe(true)
  const result = matcher.result()
  expect(matcher.failed).toBe(result.mismatched.length > 0)
  return result
}

const sketched = (samples: readonly KvSample[]) => {
  return samples.map((sample) => sketchSample({ numLayers: NUM_LAYERS, kvDtype: 'f32' }, SEED, sample))
}

/** The first layer at which a mean or median over all scores so far is over its limit, as plainly as it can be. */
function decidingLayer(errors: readonly { k: number; v: number }[]): number | null {
  const scores = { k: [] as number[], v: [] as number[] }
  for (const layer of PLAN.layers.keys()) {
    HONEST.forEach((sample, i) => {
      if (sample.layer !== layer) return
      scores.k.push(errors[i].k * 1024)
      if (layer < NUM_LAYERS) scores.v.push(errors[i].v * 1024)
    })
    for (const all of [scores.k, scores.v]) {
      const sorted = [...all].sort((a, b) => a - b)
      const mean = all.reduce((sum, score) => sum + score, 0) / all.length
      if (mean > 3 || sorted[Math.ceil(all.length / 2) - 1] > 2) return layer
    }
  }
  return null
}

// Errors at which a rounding of the rows to binary32 changes no decision.
const anyError = fc.integer({ min: 0, max: 60 }).map((tenths) => (tenths + 0.37) / 10 / 1024)
const anyErrors = fc.array(fc.record({ k: anyError, v: anyError }), { minLength: 7, maxLength: 7 })

test('the layer that decides is the first with a mean or a median of the scores so far over its limit', () => {
  let accepted = 0
  fc.assert(
    fc.property(anyErrors, (errors) => {
      const layer = decidingLayer(errors)
      const result = run(moved(errors))
      if (layer === null) accepted++
      expect(result.excesses[0]?.layer ?? null).toBe(layer)
      expect(result.strain > 1).toBe(layer !== null)
      expect(result.layersComputed).toBe((layer ?? PLAN.deepestLayer) + 1)
    }),
    { numRuns: 500, seed: 5 },
  )
  expect(accepted).toBeGreaterThan(10)
})

test('the lists hold every sample once; mismatched ones are of the deciding layer, and there is one of them', () => {
  fc.assert(
    fc.property(anyErrors, (errors) => {
      const { matched, mismatched, unchecked, excesses, firstMismatch } = run(moved(errors))
      expect([...matched, ...mismatched, ...unchecked].sort()).toEqual(HONEST.map((s) => [s.layer, s.position]).sort())
      if (excesses.length === 0) {
        expect([mismatched, unchecked, firstMismatch]).toEqual([[], [], null])
        return
      }
      const stop = excesses[0].layer
      expect(mismatched.every(([layer]) => layer === stop)).toBe(true)
      expect(matched.every(([layer]) => layer <= stop)).toBe(true)
      expect(unchecked.every(([layer]) => layer > stop)).toBe(true)
      expect(mismatched[0]).toEqual([firstMismatch?.layer, firstMismatch?.position])
      expect(firstMismatch?.part === 'hidden').toBe(stop === NUM_LAYERS)
    }),
    { numRuns: 300 },
  )
})

test('the digest is over recomputed rows, as in bit-equal numerics', () => {
  const exact = createMatcher(PLAN, HONEST)
  for (const layer of [1, 2, 4]) exact.push(layerOf(layer))
  const { samplesDigest, matched } = run(HONEST)
  expect(samplesDigest).toBe(exact.result().samplesDigest)
  expect(matched).toEqual(exact.result().matched)
  expect(run(sketched(HONEST), SKETCHED).samplesDigest).toBe(samplesDigest)
})

test('a single vector that is far off is named, with its part', () => {
  const errors = HONEST.map(() => ({ k: 0, v: 0 }))
  errors[1] = { k: 0, v: 0.02 }
  for (const result of [run(moved(errors)), run(sketched(moved(errors)), SKETCHED)]) {
    expect(result.mismatched).toEqual([[1, 9]])
    expect(result.firstMismatch).toEqual({ layer: 1, position: 9, part: 'v' })
    expect(result.excesses.map(({ part, statistic }) => [part, statistic])).toEqual([['v', 'mean']])
  }
})

test('where no sample of the deciding layer is over the limit by itself, the worst one is named', () => {
  const errors = HONEST.map(() => ({ k: 0, v: 0 }))
  // Scores 2.9 three times, then 3.4 and 3.5: with a limit of 3 at every layer, only the mean is over it in the end.
  const profile = handMadeProfile(NUM_LAYERS, {
    typicalError: 2 ** -10,
    maxMeanScore: 3,
    maxMedianScore: 100,
    maxSampleScore: 100,
  })
  profile.layers = profile.layers.map((limits, layer) => {
    return layer < 2
      ? limits
      : { ...limits, k: { typicalError: 2 ** -10, maxMeanScore: 2.5, maxMedianScore: 100, maxSampleScore: 100 } }
  })
  for (const i of [0, 1, 2]) errors[i].k = 2.9 / 1024
  errors[3].k = 2.2 / 1024
  errors[4].k = 2.4 / 1024
  const result = run(moved(errors), profile)
  expect(result.mismatched).toEqual([[2, 9]])
  expect(result.firstMismatch).toEqual({ layer: 2, position: 9, part: 'k' })
})

test('one forged sample among many honest ones is over the limit of a single one, though no mean is', () => {
  const profile = handMadeProfile(NUM_LAYERS, {
    typicalError: 2 ** -10,
    maxMeanScore: 1e9,
    maxMedianScore: 1e9,
    maxSampleScore: 40,
  })
  const errors = HONEST.map(() => ({ k: 0.001, v: 0.001 }))
  errors[4] = { k: 0.001, v: 41 / 1024 }
  const result = run(moved(errors), profile)
  expect(result.mismatched).toEqual([[2, 9]])
  expect(result.excesses.map(({ part, statistic }) => [part, statistic])).toEqual([['v', 'max']])
  errors[4].v = 39 / 1024
  expect(run(moved(errors), profile).mismatched).toEqual([])
})

const HOSTILE: [string, (row: Uint8Array) => Uint8Array][] = [
  ['zeros', (row) => new Uint8Array(row.length)],
  ['NaN', (row) => bytesOf(new Float32Array(row.length / 4).fill(Number.NaN))],
  ['infinities', (row) => bytesOf(new Float32Array(row.length / 4).fill(Number.NEGATIVE_INFINITY))],
  ['a row that is too short', (row) => row.slice(4)],
  ['nothing', () => new Uint8Array(0)],
  ['the opposite', (row) => bytesOf(new Float32Array(row.slice().buffer).map((value) => -value))],
  ['twice as much', (row) => bytesOf(new Float32Array(row.slice().buffer).map((value) => 2 * value))],
]

test.each(HOSTILE)('%s in the place of vectors: rejected at the first layer', (_, change) => {
  for (const part of ['k', 'v'] as const) {
    const result = run(HONEST.map((sample) => ({ ...sample, [part]: change(sample[part]) })))
    expect(result.mismatched.map(([layer]) => layer)).toEqual([1, 1, 1])
    expect(result.firstMismatch?.part).toBe(part)
  }
})

test('any other bytes in the place of a sketch: rejected', () => {
  const honest = sketched(HONEST)
  expect(run(honest, SKETCHED).excesses).toEqual([])
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 0, maxLength: 40 }),
      fc.constantFrom('k' as const, 'v' as const),
      (bytes, part) => {
        const result = run(
          honest.map((sample, i) => (i === 0 ? { ...sample, [part]: bytes } : sample)),
          SKETCHED,
        )
        expect(result.mismatched).toEqual([[1, 3]])
      },
    ),
    { numRuns: 300 },
  )
})

test("a sketch drawn by another challenge, or of the sample beside it, is none of this sample's", () => {
  const other = HONEST.map((sample) =>
    sketchSample({ numLayers: NUM_LAYERS, kvDtype: 'f32' }, new Uint8Array(32), sample),
  )
  expect(run(other, SKETCHED).mismatched).toHaveLength(3)
  const honest = sketched(HONEST)
  const shifted = honest.map((sample, i) => ({ ...sample, k: honest[(i + 1) % 3].k }))
  expect(run(shifted, SKETCHED).mismatched).toHaveLength(3)
})

test('layers out of order, after the decision, or at other positions are wrong arguments', () => {
  const refused = (layers: LayerSamples[]) => {
    const matcher = createTolerantMatcher(PLAN, HONEST, PROFILE, SEED)
    const push = () => {
      for (const layer of layers) matcher.push(layer)
    }
    expect(push).toThrow(PocError)
    expect(push).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
  }
  refused([layerOf(2)])
  refused([layerOf(1), layerOf(1)])
  refused([layerOf(1), layerOf(2), layerOf(4), layerOf(4)])
  refused([{ ...layerOf(1), positions: Uint32Array.of(3, 9, 21) }])
  expect(() => createTolerantMatcher(PLAN, HONEST.slice(1), PROFILE, SEED)).toThrow(PocError)
})
