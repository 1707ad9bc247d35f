// The root that was published before the beacon: a commitment that was made anew afterwards is not it.
import path from 'node:path'
import { checkVerdict } from '../../lib/check'
import { generate } from '../../lib/generate'
import { Model } from '../../lib/model'
import { verify } from '../../lib/verify'
import { verifyAll } from '../../lib/verify-all'

const beacon = '0b5e55ed'

let model: Model
beforeAll(async () => {
  model = await Model.load(path.join(__dirname, '../../models/tiny-stories'))
})
afterAll(() => model.close())

test.each(['rows', 'digest'] as const)('%s: only a proof that opens the published root is accepted', async (form) => {
  const commitOf = async (nonce: string) => {
    return (await generate(model, [0, 5], { maxNewTokens: 12, nonce, form, commit: true })).commitment
  }
  const [published, anew] = [await commitOf('01'), await commitOf('02')]
  const proofs = [await published.open(beacon), await anew.open(beacon)]
  const root = published.root.toUpperCase()
  const verdicts = [await verify(model, proofs[0], { beacon, root }), await verify(model, proofs[1], { beacon, root })]
  expect(verdicts.map(({ status }) => status)).toEqual(['accepted', 'rejected'])
  expect(verdicts[1].reasons).toMatchObject([{ code: 'opening_mismatch' }])
  expect(verdicts[1].computed.layers).toBe(0)
  expect(await verifyAll(model, proofs, { beacon, root })).toEqual(verdicts)
  expect(await verifyAll(model, proofs, { beacon, root: [root, undefined] })).toMatchObject([
    { status: 'accepted' },
    { status: 'accepted' },
  ])
  expect(checkVerdict(proofs[1], verdicts[1], { beacon, root })).toEqual({ valid: true, problems: [] })
  expect(checkVerdict(proofs[1], verdicts[1], { beacon }).valid).toBe(form === 'digest')
  const blind = await verify(model, proofs[1], { beacon })
  expect(checkVerdict(proofs[1], blind, { beacon, root }).problems).toMatchObject([
    { code: 'accepted_despite_structure' },
  ])
})

test('a root that is no string is refused', async () => {
  const { commitment } = await generate(model, [0, 5], { maxNewTokens: 2, commit: true })
  const proof = await commitment.open(beacon)
  await expect(verify(model, proof, { root: 5 as never })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
})
