// Generation against the ids that PyTorch chose, and the choice of tokens as a pure function.
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { generate } from '../../lib/generate'
import { Model } from '../../lib/model'

const tiny = path.join(__dirname, '../../models/tiny-stories')
const reference: { prompt: string; ids: number[]; continuation: number[] }[] = JSON.parse(
  readFileSync(path.join(tiny, 'training/reference.json'), 'utf8'),
)

let model: Model
beforeAll(async () => {
  model = await Model.load(tiny)
})
afterAll(() => model.close())

test.each(reference.map((r) => [r.prompt, r] as const))('greedy equals PyTorch: %s', async (_, {
  ids,
  continuation,
}) => {
  const { tokens } = await generate(model, ids, { maxNewTokens: continuation.length, ignoreEos: true })
  expect([...tokens.slice(ids.length)]).toEqual(continuation)
})

test('generation stops at the end of the sequence, which is the last token', async () => {
  const { tokens, finishReason } = await generate(model, reference[0].ids, { maxNewTokens: 400 })
  expect(finishReason).toBe('eos')
  expect(model.config.eosTokenIds).toContain(tokens[tokens.length - 1])
})

const sample = async (options: object) => [
  ...(await generate(model, [0], { maxNewTokens: 24, ignoreEos: true, temperature: 1, ...options })).tokens,
]

test('equal seeds give equal tokens, other seeds others', async () => {
  const first = await sample({ seed: '01' })
  expect(await sample({ seed: '01' })).toEqual(first)
  expect(await sample({ seed: '02' })).not.toEqual(first)
})

test('topK 1 and a vanishing topP or temperature are greedy', async () => {
  const greedy = await sample({ temperature: 0 })
  expect(await sample({ topK: 1, seed: '05' })).toEqual(greedy)
  expect(await sample({ topP: 1e-9, seed: '06' })).toEqual(greedy)
  expect(await sample({ temperature: 1e-4, seed: '07' })).toEqual(greedy)
})

test('filters that leave everything change nothing', async () => {
  const plain = await sample({ seed: '0a' })
  expect(await sample({ seed: '0a', topK: 1024 })).toEqual(plain)
  expect(await sample({ seed: '0a', topK: 4096, topP: 1 })).toEqual(plain)
})

test.each([
  ['an empty prompt', [], {}, 'EMPTY_PROMPT'],
  ['an id outside the vocabulary', [0, 1024], {}, 'TOKEN_OUT_OF_RANGE'],
  ['a fractional id', [0.5], {}, 'TOKEN_OUT_OF_RANGE'],
  ['a prompt over the context', new Array(513).fill(5), {}, 'CONTEXT_OVERFLOW'],
  ['too many new tokens', [0], { maxNewTokens: 513 }, 'CONTEXT_OVERFLOW'],
  ['no new tokens', [0], { maxNewTokens: 0 }, 'INVALID_ARGUMENT'],
  ['a negative temperature', [0], { temperature: -1 }, 'INVALID_ARGUMENT'],
  ['topP 0', [0], { topP: 0 }, 'INVALID_ARGUMENT'],
  ['a seed that is not hex', [0], { seed: 'xyz' }, 'INVALID_ARGUMENT'],
  ['an unknown sampler', [0], { tokenSampler: 'often' }, 'INVALID_ARGUMENT'],
])('%s is refused by code', async (_, prompt, options, code) => {
  await expect(generate(model, prompt, { maxNewTokens: 2, ...options })).rejects.toMatchObject({ code })
})
