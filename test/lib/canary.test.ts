import fc from 'fast-check'
import { matchRecomputed } from '../../lib/blind'
import { type Canary, type CanaryOptions, plantCanaries, scoreCanaries } from '../../lib/canary'
import { PocError } from '../../lib/errors'
import type { KvDtype, KvSample, LayerSamples } from '../../lib/kv'
import { indicesOfPlan } from '../../lib/layer-walk'
import type { MatchResult } from '../../lib/matcher'
import type { Proof } from '../../lib/proof'
import type { SampleIndex } from '../../lib/verdict'
import { handMadeProof, layerOf } from './hand-made-proof'

const { proof, plan } = handMadeProof(60, { layerSampler: 'uniform:2' })
const layers = [...plan.layers.keys()].map((layer) => layerOf(plan, layer))
const seed = (n: number) => n.toString(16).padStart(32, '0')
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
const indexOf = ({ layer, position }: { layer: number; position: number }): SampleIndex => [layer, position]
const seeds = fc.nat().map(seed)
const options = fc.record<CanaryOptions>({
  seed: seeds,
  count: fc.integer({ min: 1, max: 5 }),
  kind: fc.constantFrom('bit' as const, 'swap' as const),
})
/** What an honest verifier reports. */
const honest = (planted: Proof): MatchResult => matchRecomputed(plan, layers, planted.samples)
const accepting = { matched: indicesOfPlan(plan), mismatched: [], unchecked: [], firstMismatch: null }

/** A stored value, by the definition of its format. */
function storedValue(bytes: Uint8Array, dtype: KvDtype): number {
  const raw = bytes.reduceRight((sum, byte) => sum * 256 + byte, 0)
  const [exponentBits, mantissaBits] = { f32: [8, 23], f16: [5, 10], bf16: [8, 7] }[dtype]
  const mantissa = raw % 2 ** mantissaBits
  const exponent = Math.floor(raw / 2 ** mantissaBits) % 2 ** exponentBits
  const bias = 2 ** (exponentBits - 1) - 1
  if (exponent === 2 ** exponentBits - 1) return mantissa === 0 ? Number.POSITIVE_INFINITY : Number.NaN
  if (exponent === 0) return mantissa * 2 ** (1 - bias - mantissaBits)
  return (1 + mantissa / 2 ** mantissaBits) * 2 ** (exponent - bias)
}

/** The values that differ between two samples: before and after. */
function changes(a: KvSample, b: KvSample, named: Canary['part'], dtype: KvDtype): [number, number][] {
  const part = named === 'hidden' ? 'k' : named
  const width = dtype === 'f32' ? 4 : 2
  const found: [number, number][] = []
  for (let at = 0; at < a[part].length; at += width) {
    const [before, after] = [a[part].slice(at, at + width), b[part].slice(at, at + width)]
    if (hex(before) !== hex(after)) found.push([storedValue(before, dtype), storedValue(after, dtype)])
  }
  return found
}

describe('planting', () => {
  test('changes the canaries and nothing else, neither in the proof that was given', () => {
    const before = JSON.stringify(proof.samples.map(({ k, v }) => [hex(k), hex(v)]))
    fc.assert(
      fc.property(options, (given) => {
        const { proof: planted, canaries } = plantCanaries(proof, given)
        expect(canaries.length).toBe((given.count ?? 1) * (given.kind === 'swap' ? 2 : 1))
        const differing = proof.samples.filter((sample, i) => {
          return hex(sample.k) !== hex(planted.samples[i].k) || hex(sample.v) !== hex(planted.samples[i].v)
        })
        expect(canaries.map(indexOf)).toEqual(differing.map(indexOf))
        expect({ ...planted, samples: [] }).toEqual({ ...proof, samples: [] })
        expect(planted.samples.map(indexOf)).toEqual(proof.samples.map(indexOf))
      }),
    )
    expect(JSON.stringify(proof.samples.map(({ k, v }) => [hex(k), hex(v)]))).toBe(before)
  })

  test('depends on seed and proof alone, and reaches every sample and both vectors', () => {
    const other = { ...proof, contextDigest: '01'.repeat(32) } // the same samples
    expect(plantCanaries(proof, { seed: seed(1) })).toEqual(plantCanaries(proof, { seed: seed(1), count: 1 }))
    const drawn = Array.from({ length: 2000 }, (_, n) => plantCanaries(proof, { seed: seed(n) }).canaries[0])
    const keys = drawn.map(({ layer, position, part }) => `${layer}/${position}/${part}`)
    // 2000 draws of at most 80 places: one of them is missed with a probability under 1e-8.
    expect(proof.samples.length).toBeLessThan(40)
    expect(new Set(keys).size).toBe(proof.samples.length * 2)
    const inOther = Array.from({ length: 50 }, (_, n) => plantCanaries(other, { seed: seed(n) }).canaries[0])
    expect(inOther.map(indexOf)).not.toEqual(drawn.slice(0, 50).map(indexOf))
  })

  test.each<KvDtype>(['f32', 'f16', 'bf16'])('a flipped bit turns an ordinary %s into its neighbour', (kvDtype) => {
    const rows = handMadeProof(40, { kvDtype, headDim: kvDtype === 'f32' ? 2 : 4 }).proof
    const odd = kvDtype === 'f16' ? [0x7c, 0xfc, 0x00, 0x80] : [0x7f, 0xff, 0x00, 0x80]
    const samples = rows.samples.map((sample, i) => {
      // Zeros, denormals, infinities and NaNs among the values, which must all be left alone.
      const width = kvDtype === 'f32' ? 4 : 2
      const k = sample.k.map((byte, at) => {
        if (at % (2 * width) === width - 1) return odd[i % 4]
        return at % (2 * width) === width - 2 && odd[i % 4] % 128 === 0x7f ? byte | 0x80 : byte
      })
      return { ...sample, k }
    })
    fc.assert(
      fc.property(seeds, (one) => {
        const { proof: planted, canaries } = plantCanaries({ ...rows, samples }, { seed: one, count: 3 })
        for (const { layer, position, part } of canaries) {
          const at = samples.findIndex((sample) => sample.layer === layer && sample.position === position)
          const [[before, after], ...more] = changes(samples[at], planted.samples[at], part as 'k' | 'v', kvDtype)
          expect(more).toEqual([])
          expect(Number.isFinite(after) && after > 0).toBe(true)
          const bits = { f32: 23, f16: 10, bf16: 7 }[kvDtype]
          expect(Math.abs(after - before) / before).toBeLessThanOrEqual(2 ** -bits)
          expect(before).toBeGreaterThanOrEqual(kvDtype === 'f16' ? 2 ** -14 : 2 ** -126)
        }
      }),
    )
  })

  test('swapped neighbours are honest vectors of the same layer, and position 0 is left alone', () => {
    const always = handMadeProof(30, { tokenSampler: 'all' })
    fc.assert(
      fc.property(seeds, (one) => {
        const given = { seed: one, kind: 'swap', count: 4 } as const
        const { proof: planted, canaries } = plantCanaries(always.proof, given)
        expect(canaries.every(({ position, part }) => position > 0 && part === 'k')).toBe(true)
        const rows = (samples: KvSample[]) => samples.map(({ layer, k, v }) => `${layer} ${hex(k)} ${hex(v)}`).sort()
        expect(rows(planted.samples)).toEqual(rows(always.proof.samples))
      }),
    )
    expect(always.proof.samples.some(({ position }) => position === 0)).toBe(true)
  })

  test('a proof with a root is handed out without paths, which a changed sample has none of', () => {
    const root = 'ab'.repeat(32)
    const header = { ...proof.header, challenge: 'beacon' as const }
    const committed = { ...proof, header, root, beacon: '01', path: new Uint8Array(64) }
    expect(plantCanaries(committed, { seed: seed(3) }).proof).toMatchObject({
      root,
      beacon: '01',
      path: new Uint8Array(0),
    })
  })

  test('wrong options are refused, and proofs that have too few samples', () => {
    const refused = (given: unknown, of: Proof = proof) => {
      expect(() => plantCanaries(of, given as CanaryOptions)).toThrow(PocError)
      expect(() => plantCanaries(of, given as CanaryOptions)).toThrow(
        expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
      )
    }
    for (const wrong of [undefined, 'ab', 'zz'.repeat(16), 'ab'.repeat(65)]) refused({ seed: wrong })
    for (const count of [0, -1, 1.5, proof.samples.length + 1, '1']) refused({ seed: seed(1), count })
    refused({ seed: seed(1), kind: 'zero' })
    refused({ seed: seed(1), kind: 'swap', count: proof.samples.length })
    refused({ seed: seed(1) }, { ...proof, samples: [] })
    refused(null)
    const zeros = proof.samples.map((sample) => ({ ...sample, k: new Uint8Array(16), v: new Uint8Array(16) }))
    refused({ seed: seed(1) }, { ...proof, samples: zeros })
  })
})

describe('scoring', () => {
  test('an honest verifier always passes', () => {
    fc.assert(
      fc.property(options, (given) => {
        const { proof: planted, canaries } = plantCanaries(proof, given)
        for (const knownHonest of [true, false]) {
          const score = scoreCanaries(canaries, honest(planted), { honest: knownHonest })
          expect(score).toEqual({ result: 'passed', missed: [], unexpected: [] })
        }
      }),
    )
  })

  test('a verifier that echoes, and so accepts, always fails', () => {
    fc.assert(
      fc.property(options, (given) => {
        const { canaries } = plantCanaries(proof, given)
        const score = scoreCanaries(canaries, accepting)
        expect(score).toEqual({ result: 'failed', missed: canaries.map(indexOf), unexpected: [] })
        expect(scoreCanaries(canaries, { ...accepting, matched: [], status: 'accepted' }).result).toBe('failed')
      }),
    )
  })

  test('one that computes some layers and trusts the rest fails if and only if no canary is in those', () => {
    const reached = new Set<string>()
    fc.assert(
      fc.property(options, fc.nat({ max: layers.length }), (given, depth) => {
        const { proof: planted, canaries } = plantCanaries(proof, given)
        const shallow = layers.map((layer, i) => (i < depth ? layer : claimedLayer(planted, layer)))
        const { result } = scoreCanaries(canaries, matchRecomputed(plan, shallow, planted.samples))
        const caught = canaries.every(({ layer }) => layer >= (layers[depth]?.layer ?? Number.POSITIVE_INFINITY))
        expect(result).toBe(caught ? 'failed' : 'passed')
        reached.add(result)
      }),
    )
    expect(reached.size).toBe(2)
  })

  test('one that guesses a single canary passes in one of 2 N cases, N being the samples', () => {
    const [guess] = plantCanaries(proof, { seed: seed(0) }).canaries
    const tries = 4000
    let passed = 0
    for (let n = 1; n <= tries; n++) {
      const { canaries } = plantCanaries(proof, { seed: seed(n) })
      if (scoreCanaries(canaries, blaming(guess), { honest: true }).result === 'passed') passed++
    }
    const expected = tries / (2 * proof.samples.length)
    // Binomial: five standard deviations either way.
    expect(Math.abs(passed - expected)).toBeLessThan(5 * Math.sqrt(expected))
    expect(passed).toBeGreaterThan(0)
  })

  test('is never held against a verifier that finds the proof wrong elsewhere, unless it is known to be right', () => {
    const nat = fc.nat({ max: proof.samples.length - 1 })
    const reached = new Set<string>()
    fc.assert(
      fc.property(seeds, nat, (one, at) => {
        const samples = proof.samples.map((sample, i) => (i === at ? { ...sample, v: new Uint8Array(16) } : sample))
        const { proof: planted, canaries } = plantCanaries({ ...proof, samples }, { seed: one, count: 2 })
        const { result, missed } = scoreCanaries(canaries, honest(planted))
        reached.add(result)
        expect([result === 'failed', missed]).toEqual([false, []])
        const wrong = proof.samples[at]
        if (wrong.layer < canaries[0].layer) expect(result).toBe('undecided')
      }),
    )
    expect([...reached].sort()).toEqual(['passed', 'undecided'])
    const elsewhere = blaming({ ...indexedAs(proof.samples[0]), part: 'k' })
    const last = proof.samples[proof.samples.length - 1]
    const canaries: Canary[] = [{ ...indexedAs(last), part: 'v' }]
    expect(scoreCanaries(canaries, elsewhere)).toMatchObject({
      result: 'undecided',
      unexpected: [indexOf(proof.samples[0])],
    })
    expect(scoreCanaries(canaries, elsewhere, { honest: true }).result).toBe('failed')
  })

  test('one that stopped without a result shows nothing; one that names V where K was changed does', () => {
    const { canaries } = plantCanaries(proof, { seed: seed(5) })
    const aborted = { matched: [], mismatched: [], unchecked: indicesOfPlan(plan), firstMismatch: null }
    for (const status of [undefined, 'inconclusive'] as const) {
      expect(scoreCanaries(canaries, { ...aborted, status }, { honest: true }).result).toBe('undecided')
    }
    expect(scoreCanaries(canaries, { ...aborted, status: 'rejected' }, { honest: true }).result).toBe('failed')
    const [{ layer, position }] = canaries
    const inK = [{ layer, position, part: 'k' as const }]
    expect(scoreCanaries(inK, blaming({ layer, position, part: 'v' })).result).toBe('failed')
    const inV = [{ layer, position, part: 'v' as const }]
    expect(scoreCanaries(inV, blaming({ layer, position, part: 'k' })).result).toBe('undecided')
    expect(() => scoreCanaries([], aborted)).toThrow(PocError)
  })

  test('a report that names the canaries, but looked at less than it had to, is not exact', () => {
    const { proof: planted, canaries } = plantCanaries(proof, { seed: seed(6) })
    const report = honest(planted)
    const [first, ...matched] = report.matched
    const partial = { ...report, matched, unchecked: [first, ...report.unchecked] }
    expect(scoreCanaries(canaries, partial, { honest: true }).result).toBe('failed')
    expect(scoreCanaries(canaries, partial).result).toBe('undecided')
  })
})

function indexedAs({ layer, position }: KvSample) {
  return { layer, position }
}

/** The claimed rows of one layer, as a verifier has them that copies instead of computing. */
function claimedLayer({ samples }: Proof, { layer, positions }: LayerSamples): LayerSamples {
  const own = samples.filter((sample) => sample.layer === layer)
  const rows = (part: 'k' | 'v') => Uint8Array.from(own.flatMap((sample) => [...sample[part]]))
  return { layer, positions, k: rows('k'), v: rows('v') }
}

/** The report of a verifier that blames one sample and has the rest as an honest one would. */
function blaming({ layer, position, part }: Canary) {
  const all = indicesOfPlan(plan)
  return {
    matched: all.filter(([l, p]) => l <= layer && !(l === layer && p === position)),
    mismatched: [[layer, position] as SampleIndex],
    unchecked: all.filter(([l]) => l > layer),
    firstMismatch: { layer, position, part },
  }
}
