// What do proofs save when they are verified together: with a prefix that they share, and with nothing in common?
import { isDeepStrictEqual } from 'node:util'
import { Model, prove, verify, verifyAll } from '../../dist/index.mjs'
import { modelFolder, promptOf } from '../method/models.mjs'
import { alternate, check, described, rounded, sample, timeRatio } from '../method/sample.mjs'

const PROOFS = 16
const MODEL = 'shallow-bf16'
const LENGTHS = { 'shared-prefix': { prefix: 256, tail: 256 }, packed: { prefix: 0, tail: 32 } }

export default async function together({ rounds, threadCounts }) {
  const threads = threadCounts.at(-1)
  const model = await Model.load(modelFolder(MODEL), { backend: 'cpu', threads })
  const rows = {}
  for (const [id, lengths] of Object.entries(LENGTHS)) rows[id] = await measured(model, lengths, rounds, threads)
  await model.close()
  return rows
}

async function measured(model, { prefix, tail }, rounds, threads) {
  const proofs = []
  for (let i = 0; i < PROOFS; i++) {
    const tokens = Uint32Array.from([...promptOf(prefix), ...promptOf(tail, i + 2)])
    proofs.push(await prove(model, tokens, { promptLength: prefix || 1 }))
  }
  const apart = async () => {
    const verdicts = []
    for (const proof of proofs) verdicts.push(await verify(model, proof))
    return verdicts
  }
  const together = () => verifyAll(model, proofs)
  check(isDeepStrictEqual(await apart(), await together()), 'verdicts differ')
  const sides = { apart: () => sample(apart, threads), together: () => sample(together, threads) }
  const taken = await alternate(sides, rounds)
  const detail = {
    model: MODEL,
    threads,
    proofs: PROOFS,
    prefix,
    tail,
    positionsSaved: rounded((PROOFS * (prefix + tail)) / (prefix + PROOFS * tail)),
    apart: described(taken.apart),
    together: described(taken.together),
  }
  return { value: rounded(timeRatio(taken.apart, taken.together)), detail }
}
