// Proofs that a review got past earlier versions of verify(), each with what a careful user demands.
import path from 'node:path'
import { judge, recompute } from '../../lib/blind'
import { checkVerdict } from '../../lib/check'
import { commit } from '../../lib/commitment'
import { auditEvidence, createEvidence } from '../../lib/evidence'
import { generate } from '../../lib/generate'
import { Model } from '../../lib/model'
import { prove } from '../../lib/prove'
import { blindProof } from '../../lib/seal'
import { verify } from '../../lib/verify'
import { makeModel, setValues } from '../models/make'

const PROMPT = [0, 540, 539, 260]
const STOP = { maxNewTokens: 20, stopTokens: [1] }
let model: Model
beforeAll(async () => {
  model = await Model.load(path.join(__dirname, '../../models/tiny-stories'))
})
afterAll(() => model.close())

const codes = ({ reasons }: { reasons: { code: string }[] }) => reasons.map(({ code }) => code)

test('a token with the very logits of the chosen one is another token all the same', async () => {
  const { dir } = makeModel({
    edit(tensors) {
      const head = tensors.get('lm_head.weight')
      if (!head) throw new Error('the model has no head of its own')
      const [, width] = head.shape
      const values = head.values.slice()
      for (let id = 48; id < 96; id++) values.copyWithin(id * width, (id - 48) * width, (id - 47) * width)
      setValues(head, values)
    },
  })
  const twins = await Model.load(dir)
  const { tokens } = await generate(twins, [3, 5], { maxNewTokens: 12, ignoreEos: true })
  const changed = tokens.map((token, i) => (i === tokens.length - 1 ? (token + 48) % 96 : token))
  const proof = await prove(twins, changed, { promptLength: 2, temperature: 0 })
  const verdict = await verify(twins, proof)
  expect(codes(verdict)).toEqual(['token_mismatch'])
  expect(verdict.replay).toMatchObject({ mismatched: 1, meanScoreGap: 0 })
  expect(checkVerdict(proof, verdict)).toEqual({ valid: true, problems: [] })
  await twins.close()
})

test('an answer of nothing is one that stopped early', async () => {
  const empty = await commit(model, PROMPT, { promptLength: PROMPT.length, temperature: 0, stop: STOP })
  const proof = await empty.open('0b')
  const request = { prompt: PROMPT, stop: STOP, sampling: { temperature: 0, topK: 0, topP: 1, seed: '' } }
  expect(codes(await verify(model, proof, { beacon: '0b', root: empty.root, request }))).toEqual([
    'termination_mismatch',
  ])
})

test('a beacon or a root of nothing is refused, since every proof without one has it', async () => {
  const { proof } = await generate(model, PROMPT, { maxNewTokens: 4 })
  for (const options of [{ root: '' }, { beacon: '' }]) {
    await expect(verify(model, proof, options)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  }
})

test('what was recomputed under other demands is not judged', async () => {
  const { proof } = await generate(model, PROMPT, { maxNewTokens: 16, temperature: 1, seed: '07' })
  const changed = proof.tokens.map((token, i) => (i === proof.tokens.length - 1 ? token ^ 1 : token))
  const { sampling, stop } = proof.header
  const forged = await prove(model, changed, { promptLength: PROMPT.length, ...sampling, stop })
  for (const [done, asked] of [
    [{ replay: 'none' }, { replay: 'all' }],
    [{ replay: '1/2', replaySeed: '01' }, { replay: 'all' }],
    [{ replay: 'all' }, { replay: 'none' }],
    [{}, { probabilityTest: true }],
  ]) {
    const recomputed = await recompute(model, blindProof(forged), done)
    await expect(judge(model, recomputed, forged, asked)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    expect(await judge(model, recomputed, forged, done)).toEqual(await verify(model, forged, done))
  }
})

test('a proof longer than the context is refused before anything is made of it', async () => {
  const { proof } = await generate(model, PROMPT, { maxNewTokens: 4 })
  const tokens = new Uint32Array(2 ** 20)
  const huge = { ...proof, tokens, header: { ...proof.header, tokenSampler: 'all' } }
  await expect(verify(model, huge)).rejects.toMatchObject({ code: 'CONTEXT_OVERFLOW' })
})

test('a bundle whose verdict overlooks what was asked for is found without a model', async () => {
  const { proof } = await generate(model, PROMPT, { maxNewTokens: 6 })
  const lazy = await verify(model, proof, { replay: 'none' })
  const request = { sampling: { temperature: 1, topK: 0, topP: 1, seed: 'ff' } }
  const bundle = createEvidence(proof, lazy, { replay: 'all', request })
  const found = (await auditEvidence(JSON.parse(JSON.stringify(bundle)))).problems.map(({ code }) => code)
  expect(found.sort()).toEqual(['accepted_despite_structure', 'replay'])
})

test('nonce and request may be written in capitals, in a bundle too', async () => {
  const { proof } = await generate(model, PROMPT, { maxNewTokens: 4, nonce: 'AB', seed: 'CD', temperature: 1 })
  const sampling = { temperature: 1, topK: 0, topP: 1, seed: 'CD' }
  expect((await verify(model, proof, { nonce: 'AB', request: { nonce: 'AB', sampling } })).status).toBe('accepted')
  const other = { nonce: 'AA' }
  const bundle = createEvidence(proof, await verify(model, proof, other), other)
  expect(await auditEvidence(JSON.parse(JSON.stringify(bundle)), model)).toMatchObject({ valid: true })
})
