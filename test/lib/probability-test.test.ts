// The probability test on a real model: text that it may have written passes; text that it cannot have written, not.
import path from 'node:path'
import { checkVerdict } from '../../lib/check'
import { generate } from '../../lib/generate'
import { Model } from '../../lib/model'
import { prove } from '../../lib/prove'
import { verify } from '../../lib/verify'

const PROMPT = [1, 5, 9]
let model: Model

beforeAll(async () => {
  model = await Model.load(path.join(__dirname, '../../models/tiny-stories'))
})
afterAll(() => model.close())

/** A proof that says nothing of its sampler, and what the test makes of it. */
async function judged(tokens: Uint32Array) {
  const proof = await prove(model, tokens, { promptLength: PROMPT.length, layerSampler: 'fixed:1' })
  return await verify(model, proof, { probabilityTest: true })
}

const written = async (seed: number, maxNewTokens: number, options: { temperature: number; topK?: number }) => {
  return (await generate(model, PROMPT, { maxNewTokens, seed: `0${seed % 10}a${seed % 7}`, ...options })).tokens
}

test.each([
  [1, { temperature: 1 }],
  [4, { temperature: 1 }],
  [16, { temperature: 1 }],
  [16, { temperature: 0.6, topK: 20 }],
  [30, { temperature: 0 }],
])('%p honest tokens at %p pass', async (count, options) => {
  for (let seed = 0; seed < 40; seed++) {
    const { status, replay } = await judged(await written(seed, count, options))
    expect([status, replay?.positions]).toEqual(['accepted', count])
    expect(replay!.surprise).toBeLessThan(10)
  }
})

test('tokens of no model, and of one that is far too hot, do not', async () => {
  const statuses: string[] = []
  for (let seed = 0; seed < 10; seed++) {
    const any = Array.from({ length: 16 }, (_, i) => (seed * 7919 + i * 104729) % model.config.vocabSize)
    const improbable = await judged(Uint32Array.from([...PROMPT, ...any]))
    expect(improbable.reasons.map(({ code }) => code)).toEqual(['improbable_tokens'])
    statuses.push((await judged(await written(seed, 64, { temperature: 3 }))).status)
  }
  expect(statuses).toEqual(Array(10).fill('rejected'))
})

test('a replay that was asked for by name and cannot be leaves the verdict open', async () => {
  const proof = await prove(model, await written(3, 12, { temperature: 1 }), { promptLength: PROMPT.length })
  const [unasked, asked, tested] = await Promise.all(
    [{}, { replay: 'all' }, { replay: 'all', probabilityTest: true }].map((demands) => verify(model, proof, demands)),
  )
  expect([unasked.status, asked.status, tested.status]).toEqual(['accepted', 'inconclusive', 'accepted'])
  expect(asked.reasons.map(({ code }) => code)).toEqual(['not_replayable'])
  expect(tested.replay).toMatchObject({ positions: 12 })
  expect(checkVerdict(proof, asked, { replay: 'all' }).problems).toEqual([])
  expect(checkVerdict(proof, asked).problems).toMatchObject([{ code: 'reason_false' }]) // nobody asked
  const misspelt = { code: 'INVALID_ARGUMENT', where: 'options.replay' }
  await expect(verify(model, proof, { replay: 'al' })).rejects.toMatchObject(misspelt)
  expect(() => checkVerdict(proof, asked, { replay: '2/1' })).toThrow(expect.objectContaining(misspelt))
  const codes = checkVerdict(proof, unasked, { replay: 'all' }).problems.map(({ code }) => code)
  expect(codes).toEqual(['accepted_despite_structure'])
  const stated = await generate(model, PROMPT, { maxNewTokens: 12 })
  const replayed = await verify(model, stated.proof, { replay: 'all' })
  expect(replayed.status).toBe('accepted')
  const excuse = { ...replayed, status: asked.status, reasons: asked.reasons }
  expect(checkVerdict(stated.proof, excuse).problems.map(({ code }) => code)).toContain('reason_false')
})
