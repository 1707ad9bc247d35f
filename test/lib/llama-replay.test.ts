// Greedy tokens of llama.cpp, through the adapter: what header states, and what a verdict under a profile makes of it.
import path from 'node:path'
import { llamaHeader, proveLlamaState } from '../../lib/adapters/prove-llama-state'
import { readLlamaState } from '../../lib/adapters/llama-state'
import { generate } from '../../lib/generate'
import { samplesOf } from '../../lib/kv'
import { Model } from '../../lib/model'
import { prefill } from '../../lib/prefill'
import { createPlan } from '../../lib/plan'
import { type HeaderOptions, proofHeader } from '../../lib/prove'
import { meanTokenGap } from '../../lib/token-gap'
import type { ToleranceProfile } from '../../lib/tolerance'
import { verify } from '../../lib/verify'
import { handMadeProfile, STRAIN } from './hand-made-profile'

const PROMPT = 8
const NUM_NEW = 24
const GREEDY = { temperature: 0, topK: 0, topP: 1, seed: '' }
let model: Model
let chosen: Uint32Array

beforeAll(async () => {
  model = await Model.load(path.join(__dirname, '../../models/tiny-stories'))
  const prompt = (await generate(model, [model.config.bosTokenId ?? 0], { maxNewTokens: PROMPT - 1, ignoreEos: true }))
    .tokens
  chosen = (await generate(model, prompt, { maxNewTokens: NUM_NEW, ignoreEos: true })).tokens
})
afterAll(() => model.close())

/** What llama.cpp would save after all but the last token: this model's K and V in F32, K with its dims interleaved. */
async function savedState(tokens: Uint32Array): Promise<Uint8Array> {
  const { numLayers, numKvHeads, headDim } = model.config
  const numCells = tokens.length - 1
  const layers = Array.from({ length: numLayers }, (_, layer) => layer)
  const everything = { tokenSampler: 'all', layerSampler: `fixed:${layers}` }
  const plan = createPlan(proofHeader(model, 1, everything), tokens)
  const rows = { k: [] as Buffer[], v: [] as Buffer[] }
  for await (const layer of prefill(model, tokens, plan)) {
    for (const { k, v } of samplesOf(layer)) {
      const halves = new Float32Array(k.slice().buffer)
      const pairs = halves.map((_, at) => {
        const [head, dim] = [Math.floor(at / headDim), at % headDim]
        return halves[head * headDim + (dim >> 1) + (dim % 2) * (headDim / 2)]
      })
      rows.k.push(Buffer.from(pairs.buffer))
      rows.v.push(Buffer.from(v))
    }
  }
  expect(rows.k).toHaveLength(numLayers * numCells)
  const u32 = (...values: number[]) => Buffer.from(Uint32Array.from(values).buffer)
  const cells = Array.from({ length: numCells }, (_, position) => [position, 1, 0]).flat()
  const parts: Uint8Array[] = [
    u32(0x67677371, 3, numCells, ...tokens.subarray(0, -1), 1, numCells, ...cells, 0, numLayers),
  ]
  for (const part of [rows.k, rows.v]) {
    for (let layer = 0; layer < numLayers; layer++) {
      parts.push(u32(0, numKvHeads * headDim * 4, 0), ...part.slice(layer * numCells, (layer + 1) * numCells))
    }
  }
  return new Uint8Array(Buffer.concat(parts))
}

function profileOf(maxMeanGap: number): ToleranceProfile {
  const counted = { fittedSequences: 50, heldOutSequences: 50, rejectedSequences: 0, maxFalseRejection: 0.06 }
  const tokenGap = { maxMeanGap, ...counted, greatestHonestGap: maxMeanGap / 2, cheats: [] }
  const honest = { variants: ['hand-made'], ...counted, confidence: 0.95, strain: STRAIN }
  return handMadeProfile(model.config.numLayers, undefined, { modelDigest: model.digest, tokenGap, honest })
}

async function proofOf(tokens: Uint32Array, options: HeaderOptions) {
  const state = readLlamaState(await savedState(tokens), model.config)
  return proveLlamaState(llamaHeader(proofHeader(model, PROMPT, options), state), tokens, state)
}

/** The tokens with another one at the end: its own vector is not computed, so that only replay can tell. */
const withLast = (token: number) => Uint32Array.from([...chosen.subarray(0, -1), token])

test('the header keeps greedy sampling and the stop rule, and nothing where nothing is stated', () => {
  const stop = { maxNewTokens: NUM_NEW, stopTokens: [2] }
  const stated = llamaHeader(proofHeader(model, PROMPT, { ...GREEDY, stop }), { kvDtype: 'bf16' })
  expect(stated).toMatchObject({ numerics: 'llama.cpp', kvDtype: 'bf16', sampling: GREEDY, stop })
  const silent = llamaHeader(proofHeader(model, PROMPT), { kvDtype: 'f16' })
  expect(silent).toMatchObject({ sampling: null, stop: null })
})

test('random sampling is refused: it cannot be made again, and is not dropped in silence', () => {
  const header = proofHeader(model, PROMPT, { temperature: 0.7, seed: 'ab' })
  const refused = expect.objectContaining({ code: 'INVALID_ARGUMENT', where: 'header.sampling.temperature' })
  expect(() => llamaHeader(header, { kvDtype: 'f16' })).toThrow(refused)
  expect(llamaHeader({ ...header, sampling: null }, { kvDtype: 'f16' }).sampling).toBeNull()
})

test("greedy tokens that are this model's own are replayed, all of them, and accepted", async () => {
  const proof = await proofOf(chosen, GREEDY)
  const verdict = await verify(model, proof, { profile: profileOf(1e-6) })
  expect(verdict).toMatchObject({ status: 'accepted' })
  expect(verdict.replay).toMatchObject({ positions: NUM_NEW, mismatched: 0, first: null, meanScoreGap: 0 })
  const unstated = await verify(model, await proofOf(chosen, {}), { profile: profileOf(1e-6) })
  expect(unstated).toMatchObject({ status: 'accepted', replay: null })
})

test("another token is accepted up to the profile's gap and rejected beyond, at its place", async () => {
  const other = withLast(chosen[chosen.length - 1] === 5 ? 6 : 5)
  const gap = await meanTokenGap(model, other, PROMPT, 'f32')
  expect(gap).toBeGreaterThan(0)
  const proof = await proofOf(other, GREEDY)
  const near = await verify(model, proof, { profile: profileOf(gap * 1.001) })
  expect(near).toMatchObject({ status: 'accepted', replay: { positions: NUM_NEW, mismatched: 1 } })
  expect(near.replay?.meanScoreGap).toBeCloseTo(gap, 6)
  const far = await verify(model, proof, { profile: profileOf(gap * 0.999) })
  expect(far).toMatchObject({ status: 'rejected', reasons: [{ code: 'token_mismatch' }] })
  expect(far.replay?.first).toMatchObject({
    position: other.length - 1,
    claimed: other[other.length - 1],
    chosen: chosen[chosen.length - 1],
  })
})

test('a stated stop rule is held to: output that ends early is rejected before any model work', async () => {
  const short = chosen.subarray(0, -2)
  const stop = { maxNewTokens: NUM_NEW, stopTokens: [] }
  const verdict = await verify(model, await proofOf(short, { ...GREEDY, stop }), { profile: profileOf(1e-6) })
  expect(verdict).toMatchObject({ status: 'rejected', reasons: [{ code: 'termination_mismatch' }] })
  const whole = await verify(model, await proofOf(chosen, { ...GREEDY, stop }), { profile: profileOf(1e-6) })
  expect(whole).toMatchObject({ status: 'accepted' })
})
