// Weights over a budget are read again by each pass: the same bytes, and an error when the files are other ones.
import { appendFileSync, copyFileSync, openSync, truncateSync, utimesSync, writeSync } from 'node:fs'
import path from 'node:path'
import { generate } from '../../lib/generate'
import { type LoadOptions, Model } from '../../lib/model'
import { encodeProof } from '../../lib/proof'
import { prove } from '../../lib/prove'
import { verify } from '../../lib/verify'
import { makeFolder, makeModel } from '../models/make'

const tiny = path.join(__dirname, '../../models/tiny-stories')
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
const prompt = [0, 540, 539, 260, 384]

/** Least budget that the model can be loaded with. */
async function least(dir: string): Promise<number> {
  const error = await Model.load(dir, { backend: 'cpu', weightBudgetBytes: 1 }).catch((e) => e)
  expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', where: 'weightBudgetBytes', received: '1' })
  return Number(/^at least (\d+)$/.exec(error.expected)?.[1])
}

async function proofOf(options: LoadOptions, dir = tiny): Promise<string> {
  const model = await Model.load(dir, { backend: 'cpu', ...options })
  const { proof } = await generate(model, prompt, { maxNewTokens: 12, ignoreEos: true, layerSampler: 'uniform:6' })
  expect((await verify(model, proof)).status).toBe('accepted')
  await model.close()
  return hex(encodeProof(proof))
}

test('streamed or not, the proof has the same bytes', async () => {
  const budget = await least(tiny)
  const whole = await proofOf({})
  expect(await proofOf({ weightBudgetBytes: budget })).toBe(whole)
  expect(await proofOf({ weightBudgetBytes: Number.MAX_SAFE_INTEGER })).toBe(whole)
  await expect(Model.load(tiny, { backend: 'cpu', weightBudgetBytes: budget - 1 })).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    expected: `at least ${budget}`,
  })
})

test('shards and several passes at once', async () => {
  const { dir } = makeModel({ shards: 3, config: { num_hidden_layers: 5 } })
  const model = await Model.load(dir, { backend: 'cpu', weightBudgetBytes: await least(dir) })
  const plain = await Model.load(dir, { backend: 'cpu' })
  const tokens = Uint32Array.from({ length: 40 }, (_, i) => i % 7)
  const options = { promptLength: 1, tokenSampler: 'all', layerSampler: 'uniform:4096' }
  const expected = hex(encodeProof(await prove(plain, tokens, options)))
  const proofs = await Promise.all([1, 2, 3, 4, 5].map(() => prove(model, tokens, options)))
  for (const proof of proofs) expect(hex(encodeProof(proof))).toBe(expected)
  await Promise.all([model.close(), plain.close()])
})

/** The bundled model in a folder of its own, and its weight file. */
function copied(): { dir: string; weights: string } {
  const dir = makeFolder()
  for (const name of ['config.json', 'model.safetensors']) copyFileSync(path.join(tiny, name), path.join(dir, name))
  return { dir, weights: path.join(dir, 'model.safetensors') }
}

function overwrite(file: string): void {
  writeSync(openSync(file, 'r+'), Buffer.alloc(64, 1), 0, 64, 100_000)
  utimesSync(file, new Date(), new Date(Date.now() + 5000)) // two writes may share a tick of the file system's clock
}

test.each([
  ['truncated', (file: string) => truncateSync(file, 5000), 'a file that ends early'],
  ['longer', (file: string) => appendFileSync(file, 'x'), 'a file that has changed'],
  ['written to', overwrite, 'a file that has changed'],
])('a weight file that is %s after loading is an error of the next pass', async (_, change, received) => {
  const { dir, weights } = copied()
  const model = await Model.load(dir, { backend: 'cpu', weightBudgetBytes: await least(dir) })
  const { proof } = await generate(model, prompt, { maxNewTokens: 3 })
  change(weights)
  const malformed = { name: 'PocError', code: 'MODEL_MALFORMED', where: weights, received }
  await expect(generate(model, prompt, { maxNewTokens: 3 })).rejects.toMatchObject(malformed)
  await expect(prove(model, proof.tokens, { promptLength: 5 })).rejects.toMatchObject(malformed)
  await expect(verify(model, proof)).rejects.toMatchObject(malformed)
  await model.close()
})

test('without a budget, and with one that holds all, the files are not needed after loading', async () => {
  for (const weightBudgetBytes of [undefined, 100_000_000]) {
    const { dir, weights } = copied()
    const model = await Model.load(dir, { backend: 'cpu', weightBudgetBytes })
    const { proof } = await generate(model, prompt, { maxNewTokens: 3 })
    truncateSync(weights, 0)
    expect((await verify(model, proof)).status).toBe('accepted')
    await model.close()
  }
})

test('close() stops streamed passes', async () => {
  const shape = { hidden_size: 128, intermediate_size: 256, num_hidden_layers: 6, head_dim: 32 }
  const { dir } = makeModel({ config: { ...shape, vocab_size: 128, max_position_embeddings: 4096 }, dtype: 'BF16' })
  const model = await Model.load(dir, { backend: 'cpu', weightBudgetBytes: await least(dir) })
  const tokens = Uint32Array.from({ length: 2000 }, (_, i) => (i * 31) % 128)
  const works = [1, 2, 3].map(() => prove(model, tokens, { promptLength: 1, layerSampler: 'fixed:5' }))
  const settled = Promise.allSettled(works)
  await new Promise((resolve) => setTimeout(resolve, 30))
  await model.close()
  for (const result of await settled) expect(result).toMatchObject({ status: 'rejected', reason: { code: 'CLOSED' } })
})
