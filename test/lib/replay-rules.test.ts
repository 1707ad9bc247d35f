// Which tokens a verifier lets the sampler choose again, what it makes of the numbers, and the choice itself against a
// plain implementation of NUMERICS.md, section 9, on logits of a double-precision forward pass.
import { createHash } from 'node:crypto'
import fc from 'fast-check'
import type { ProofHeader, SamplingParams } from '../../lib/binding'
import { generate } from '../../lib/generate'
import { Model } from '../../lib/model'
import type { Proof } from '../../lib/proof'
import { prove } from '../../lib/prove'
import {
  MAX_GAP,
  MAX_SURPRISE,
  outcomeOfReplay,
  type ReplayDemands,
  replayFault,
  replayNumbers,
  replayPositions,
} from '../../lib/replay'
import { verify } from '../../lib/verify'
import { type MadeModel, makeModel } from '../models/make'
import { referenceForward } from '../models/reference-forward'
import { HEADER, handMadeProof } from './hand-made-proof'
import { bytes, H, join, le32 } from './second-implementation'

const SEED = H('a', le32(1))
const OTHER = H('a', le32(2))

const bare = (numTokens: number, changes: Partial<ProofHeader> = {}): Proof => {
  const tokens = Uint32Array.from({ length: numTokens }, (_, i) => i * 3)
  return { ...handMadeProof().proof, header: { ...HEADER, ...changes }, tokens }
}
const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i)
const positionsOf = (proof: Proof, seed: Uint8Array | null, demands: ReplayDemands = {}) => {
  const positions = replayPositions(proof, seed, demands)
  return positions && [...positions]
}
const refusal = (where: string) => expect.objectContaining({ code: 'INVALID_ARGUMENT', where })

describe('positions', () => {
  test('all behind which a token was generated, unless something else is asked for', () => {
    expect(positionsOf(bare(40), null)).toEqual(range(2, 38))
    expect(positionsOf(bare(40), null, { replay: 'all' })).toEqual(range(2, 38))
    expect(positionsOf(bare(40, { promptLength: 1 }), null)).toEqual(range(0, 38))
    expect(positionsOf(bare(40, { promptLength: 39 }), null)).toEqual([38])
  })

  test('none where none is asked for, nothing was generated, or nobody says how', () => {
    expect(positionsOf(bare(40), null, { replay: 'none' })).toBeNull()
    expect(positionsOf(bare(40, { promptLength: 40 }), null)).toBeNull()
    expect(positionsOf(bare(40, { sampling: null }), null)).toBeNull()
    expect(positionsOf(bare(40, { sampling: null }), null, { replay: 'all' })).toBeNull()
    expect(positionsOf(bare(40, { sampling: null }), null, { probabilityTest: true })).toEqual(range(2, 38))
    expect(positionsOf(bare(40, { sampling: null }), null, { probabilityTest: true, replay: 'none' })).toBeNull()
  })

  test('a share is drawn as the text says, from the challenge or the verifier’s own seed', () => {
    const drawn = (seed: Uint8Array | null, own: string, bound: bigint) => {
      const source = H('replay', seed ?? new Uint8Array(32), bytes(own))
      const picked = range(2, 38).filter((position) => {
        const word = H('token-sampler', H('challenge-context', source, le32(position))).slice(0, 8)
        return Buffer.from(word).readBigUInt64LE() < bound
      })
      return picked.length > 0 ? picked : null
    }
    const sources: [Uint8Array | null, string][] = [
      [null, '00'],
      [null, 'ab'.repeat(64)],
      [SEED, ''],
      [SEED, 'c0de'],
      [OTHER, ''],
    ]
    for (const [seed, own] of sources) {
      const replaySeed = own === '' ? undefined : own
      for (const [replay, bound] of [
        ['1/8', 2n ** 61n],
        ['0.25', 2n ** 62n],
        ['1/1', 2n ** 64n],
        ['1/4294967295', 2n ** 64n / 4294967295n],
      ] as const) {
        expect(positionsOf(bare(40), seed, { replay, replaySeed })).toEqual(drawn(seed, own, bound))
      }
    }
  })

  test('a share needs a seed that the generator does not know, and must be one', () => {
    expect(() => positionsOf(bare(40), null, { replay: '1/8' })).toThrow(refusal('options.replaySeed'))
    for (const replaySeed of ['', 'x', '0', 'ab'.repeat(65)]) {
      expect(() => positionsOf(bare(40), SEED, { replay: '1/8', replaySeed })).toThrow(refusal('options.replaySeed'))
    }
    for (const replay of ['', '0', '2', '3/2', '1/0', 'some', 'ALL', '-1/2', '1e-3']) {
      expect(() => positionsOf(bare(40), SEED, { replay })).toThrow(refusal('options.replay'))
    }
    expect(positionsOf(bare(40), null, { replay: '1/1', replaySeed: 'AB' })).toEqual(range(2, 38))
  })

  test('a random depth that stops before the logits leaves them alone, unless they are asked for', () => {
    const proof = bare(40, { challenge: 'beacon', depth: 'random:1' })
    let [deep, shallow] = [0, 0]
    for (let i = 0; i < 60; i++) {
      const seed = H('a', le32(i))
      // draw(6) of NUMERICS' words: the least of one draw from 1..6 is 6, the virtual layer, in one of six.
      const words = new DataView(H('depth', seed, le32(0)).buffer)
      const isDeep = words.getUint32(0, true) % 6 === 5
      expect(positionsOf(proof, seed)).toEqual(isDeep ? range(2, 38) : null)
      expect(positionsOf(proof, seed, { replay: 'all' })).toEqual(range(2, 38))
      if (isDeep) deep++
      else shallow++
    }
    expect(deep).toBeGreaterThan(2)
    expect(shallow).toBeGreaterThan(20)
    expect(positionsOf(bare(40, { challenge: 'beacon', depth: 'kv' }), SEED)).toEqual(range(2, 38))
  })

  test('each position is drawn by itself: larger shares and longer texts have all of smaller ones', () => {
    const seeds = fc.uint8Array({ minLength: 1, maxLength: 64 }).map((data) => Buffer.from(data).toString('hex'))
    fc.assert(
      fc.property(seeds, fc.integer({ min: 4, max: 60 }), (replaySeed, numTokens) => {
        const share = (replay: string, length = numTokens) =>
          positionsOf(bare(length), null, { replay, replaySeed }) ?? []
        expect(share('1/2')).toEqual(expect.arrayContaining(share('1/16')))
        expect(share('1/1')).toEqual(range(2, numTokens - 2))
        expect(share('1/2', 60).filter((position) => position <= numTokens - 2)).toEqual(share('1/2'))
      }),
    )
  })
})

describe('outcome', () => {
  const proof = bare(8)
  const positions = Uint32Array.of(2, 3, 5)
  const numbers = (...rows: number[][]) => Float64Array.from(rows.flat())

  test('what is asked of the pass are the tokens behind the positions', async () => {
    const asked: unknown[][] = []
    const pass = { replay: async (...args: unknown[]) => Float64Array.of(asked.push(args)) }
    expect([...(await replayNumbers(proof, positions, { probabilityTest: true }, pass, 3))]).toEqual([1])
    await replayNumbers(bare(8, { sampling: null }), positions, {}, pass, 0)
    const key = new Uint32Array(H('seed').slice(0, 8).buffer)
    const sampling = { temperature: 0, topK: 0, topP: 1, key }
    expect(asked).toEqual([
      [3, positions, Uint32Array.of(9, 12, 18), sampling, true],
      [0, positions, Uint32Array.of(9, 12, 18), null, false],
    ])
  })

  test('equal choices', () => {
    const none = Number.NaN
    const outcome = outcomeOfReplay(proof, positions, numbers([9, 0, none], [12, 0, none], [18, 0, none]))
    expect(outcome).toEqual({ positions: 3, mismatched: 0, first: null, meanScoreGap: 0, surprise: null })
    expect(replayFault(outcome, true)).toBeNull()
  })

  test('other choices: the first is named, gaps are bounded', () => {
    const none = Number.NaN
    const rows = numbers([9, 0, none], [13, 0.5, none], [7, Number.POSITIVE_INFINITY, none])
    const outcome = outcomeOfReplay(proof, positions, rows)
    expect(outcome).toMatchObject({ positions: 3, mismatched: 2, first: { position: 4, claimed: 12, chosen: 13 } })
    expect(outcome.meanScoreGap).toBeCloseTo((0.5 + MAX_GAP) / 3, 6)
    expect(JSON.parse(JSON.stringify(outcome))).toEqual(outcome)
    const fault = replayFault(outcome, true)
    expect(fault).toMatchObject({ code: 'token_mismatch' })
    expect(fault?.message).toMatch(/position 4 it chooses 13, not 12/)
  })

  test('improbable tokens, where the sampler is not known', () => {
    const silent = bare(8, { sampling: null })
    const outcomeOf = (...surprises: number[]) => {
      return outcomeOfReplay(silent, positions, numbers(...surprises.map((each) => [-1, Number.NaN, each])))
    }
    const likely = outcomeOf(-2, 3, -1)
    expect(likely).toEqual({ positions: 3, mismatched: 0, first: null, meanScoreGap: null, surprise: 0 })
    expect(replayFault(likely, false)).toBeNull()
    const odd = outcomeOf(5, 5, 4)
    expect(odd.surprise).toBe(14)
    expect(Math.exp(MAX_SURPRISE)).toBeCloseTo(1e6, 3)
    expect(replayFault(odd, false)).toMatchObject({ code: 'improbable_tokens' })
    expect(replayFault(odd, true)).toBeNull() // a sampler that is known has its own test
    expect(replayFault({ ...odd, surprise: MAX_SURPRISE }, false)).toBeNull()
    expect(outcomeOf(0, Number.POSITIVE_INFINITY, 0).surprise).toBe(MAX_GAP)
  })
})

/** Philox4x32-10 (Salmon et al. 2011) on a counter (id, position, 0, 0); the first two words. */
function philox(id: number, position: number, key: [number, number]): [bigint, bigint] {
  let [a, b, c, d] = [BigInt(id), BigInt(position), 0n, 0n]
  let [k0, k1] = key.map(BigInt)
  const low = (value: bigint) => value & 0xffffffffn
  for (let round = 0; round < 10; round++) {
    const [p, q] = [a * 0xd2511f53n, c * 0xcd9e8d57n]
    ;[a, b, c, d] = [(q >> 32n) ^ b ^ k0, low(q), (p >> 32n) ^ d ^ k1, low(p)]
    ;[k0, k1] = [low(k0 + 0x9e3779b9n), low(k1 + 0xbb67ae85n)]
  }
  return [a, b]
}

/** NUMERICS.md, section 9; `margin` is the best score less the next. */
function choose(logits: number[], position: number, { temperature, topK, topP, seed }: SamplingParams) {
  const ids = logits.map((_, id) => id).sort((a, b) => logits[b] - logits[a] || a - b)
  if (temperature === 0) return { chosen: ids[0], margin: logits[ids[0]] - logits[ids[1]] }
  let kept = topK > 0 ? ids.slice(0, topK) : ids
  if (topP < 1) {
    const weights = kept.map((id) => Math.exp((logits[id] - logits[kept[0]]) / temperature))
    const total = weights.reduce((sum, weight) => sum + weight, 0)
    let before = 0
    kept = kept.filter((_, i) => {
      const isIn = i === 0 || before < topP * total
      before += weights[i]
      return isIn
    })
  }
  const digest = createHash('sha256')
    .update(join(Buffer.from('proof-of-cache/v1/seed\0'), bytes(seed)))
    .digest()
  const key: [number, number] = [digest.readUInt32LE(0), digest.readUInt32LE(4)]
  const scored = kept.map((id) => {
    const [w0, w1] = philox(id, position, key)
    const u = (Number(w0 * 2n ** 20n + (w1 >> 12n)) + 0.5) * 2 ** -52
    return { id, score: logits[id] / temperature - Math.log(-Math.log(u)) }
  })
  scored.sort((a, b) => b.score - a.score)
  return { chosen: scored[0].id, margin: scored.length > 1 ? scored[0].score - scored[1].score : 1 }
}

test('philox gives the known answers of its authors', () => {
  // kat_vectors of Random123: philox4x32-10, all zeros.
  expect(philox(0, 0, [0, 0]).map((word) => word.toString(16))).toEqual(['6627e8d5', 'e169c58d'])
})

describe('the choice, independently', () => {
  const PROMPT = [1, 40, 7, 81]
  let made: MadeModel
  let model: Model
  beforeAll(async () => {
    made = makeModel({ seed: 5, config: { vocab_size: 90 } })
    model = await Model.load(made.dir)
  })
  afterAll(() => model.close())

  /** What a plain sampler chooses at each generated position of a sequence. */
  const chosenFor = (tokens: Uint32Array, sampling: SamplingParams) =>
    range(PROMPT.length, tokens.length - 1).map((position) => {
      return { position, ...choose(referenceForward(made, tokens.slice(0, position)).logits, position, sampling) }
    })

  const samplings: SamplingParams[] = [
    { temperature: 0, topK: 0, topP: 1, seed: '' },
    { temperature: 1, topK: 0, topP: 1, seed: '01' },
    { temperature: 0.6, topK: 12, topP: 1, seed: 'c0ffee' },
    { temperature: 1.7, topK: 0, topP: 0.6, seed: '' },
    { temperature: 0.9, topK: 30, topP: 0.8, seed: 'ff'.repeat(64) },
  ]

  test.each(samplings)('%j', async (sampling) => {
    const { tokens, proof } = await generate(model, PROMPT, { maxNewTokens: 14, ignoreEos: true, ...sampling })
    expect(proof.header.sampling).toEqual(sampling)
    for (const { position, chosen, margin } of chosenFor(tokens, sampling)) {
      if (margin > 1e-4) expect([position, chosen]).toEqual([position, tokens[position]])
    }
    const accepted = await verify(model, proof)
    expect(accepted).toMatchObject({ status: 'accepted', replay: { positions: 14, mismatched: 0, first: null } })
  })

  test.each<[string, Partial<SamplingParams>]>([
    ['another seed', { seed: '02' }],
    ['another temperature', { temperature: 0.2 }],
    ['greedy', { temperature: 0 }],
    ['another topK', { topK: 2 }],
    ['another topP', { topP: 0.05 }],
  ])('tokens under %s than stated: the first that differs is named', async (_, changes) => {
    const stated: SamplingParams = { temperature: 1, topK: 0, topP: 1, seed: '01' }
    const { tokens } = await generate(model, PROMPT, { maxNewTokens: 14, ignoreEos: true, ...stated, ...changes })
    const proof = await prove(model, tokens, { promptLength: PROMPT.length, ...stated })
    const expected = chosenFor(tokens, stated).filter(({ chosen, position }) => chosen !== tokens[position])
    expect(expected.length).toBeGreaterThan(0)
    const [{ position, chosen }] = expected
    const verdict = await verify(model, proof)
    expect(verdict.reasons.map(({ code }) => code)).toEqual(['token_mismatch'])
    expect(verdict).toMatchObject({ status: 'rejected', mismatched: [], unchecked: [] })
    expect(verdict.replay).toMatchObject({ positions: 14, mismatched: expected.length })
    expect(verdict.replay?.first).toEqual({ position, claimed: tokens[position], chosen })
  })

  test('a changed last token, which has no K and V, is found by the choice alone', async () => {
    for (const sampling of samplings) {
      const { tokens } = await generate(model, PROMPT, { maxNewTokens: 9, ignoreEos: true, ...sampling })
      const changed = tokens.slice()
      changed[12] = (tokens[12] + 1) % 90
      const proof = await prove(model, changed, { promptLength: PROMPT.length, ...sampling })
      const first = { position: 12, claimed: changed[12], chosen: tokens[12] }
      const verdict = await verify(model, proof)
      expect(verdict).toMatchObject({ status: 'rejected', replay: { mismatched: 1, first } })
      expect((await verify(model, proof, { replay: '1/1', replaySeed: '0a' })).replay).toMatchObject({ first })
      expect(await verify(model, proof, { replay: 'none' })).toMatchObject({ status: 'accepted', replay: null })
    }
  })
})
