// Op times of a model that takes them: they add up, they change nothing, and who did not ask for them gets none.
import path from 'node:path'
import { Model } from '../../lib/model'
import { encodeProof } from '../../lib/proof'
import { prove } from '../../lib/prove'
import { verify } from '../../lib/verify'

const tiny = path.join(__dirname, '../../models/tiny-stories')
const tokens = Uint32Array.from({ length: 200 }, (_, i) => (i * 37) % 1024)

test('what ops take fits into the time of the runs, and grows with them', async () => {
  const model = await Model.load(tiny, { timeOps: true })
  expect(model.backend).toBe('cpu')
  expect(model.opTimes().every(({ calls, seconds }) => calls === 0 && seconds === 0)).toBe(true)
  const start = process.hrtime.bigint()
  const proof = await prove(model, tokens, { promptLength: 1 })
  const first = model.opTimes()
  expect((await verify(model, proof)).status).toBe('accepted')
  const second = model.opTimes()
  const wall = Number(process.hrtime.bigint() - start) / 1e9
  const total = second.reduce((sum, { seconds }) => sum + seconds, 0)
  expect(total).toBeGreaterThan(0)
  expect(total).toBeLessThanOrEqual(wall)
  const names = second.map(({ op }) => op)
  expect(new Set(names).size).toBe(names.length)
  for (const name of ['embed', 'rmsnorm', 'matmul', 'rope_kv', 'attention', 'swiglu', 'add']) {
    const at = names.indexOf(name)
    // The verifier repeats what the prover did.
    expect(first[at].calls).toBeGreaterThan(0)
    expect(second[at].calls).toBe(2 * first[at].calls)
    expect(second[at].seconds).toBeGreaterThan(first[at].seconds)
  }
  await model.close()

  const plain = await Model.load(tiny)
  expect(encodeProof(await prove(plain, tokens, { promptLength: 1 }))).toEqual(encodeProof(proof))
  await plain.close()
})

test('a model that does not time its ops says so', async () => {
  const model = await Model.load(tiny, { timeOps: false })
  const error = { name: 'PocError', code: 'INVALID_ARGUMENT', where: 'timeOps', received: 'false' }
  expect(() => model.opTimes()).toThrow(expect.objectContaining(error))
  await model.close()
})
