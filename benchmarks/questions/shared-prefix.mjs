// What do proofs that share a prefix save when they are verified together?
import { isDeepStrictEqual } from 'node:util'
import * as poc from '../../dist/index.mjs'
import { modelFolder, promptOf } from '../method/models.mjs'
import { alternate, check, described, rounded, sample, timeRatio } from '../method/sample.mjs'

const PROOFS = 16
const PREFIX = 256
const TAIL = 256

export default async function sharedPrefix({ rounds, threadCounts }) {
  const { Model, prove, verify, verifyAll } = poc
  if (!verifyAll) return { 'shared-prefix': { skipped: 'this version does not export verifyAll' } }
  const threads = threadCounts.at(-1)
  const model = await Model.load(modelFolder('shallow-bf16'), { backend: 'cpu', threads })
  const prefix = promptOf(PREFIX)
  const proofs = []
  for (let i = 0; i < PROOFS; i++) {
    const tokens = Uint32Array.from([...prefix, ...promptOf(TAIL, i + 2)])
    proofs.push(await prove(model, tokens, { promptLength: PREFIX }))
  }
  const apart = async () => {
    const verdicts = []
    for (const proof of proofs) verdicts.push(await verify(model, proof))
    return verdicts
  }
  const together = async () => await verifyAll(model, proofs, {})
  check(isDeepStrictEqual(await apart(), [...(await together())]), 'verdicts differ')
  const taken = await alternate(
    { apart: () => sample(apart, threads), together: () => sample(together, threads) },
    rounds,
  )
  await model.close()
  return {
    'shared-prefix': {
      value: rounded(timeRatio(taken.apart, taken.together)),
      detail: {
        model: 'shallow-bf16',
        threads,
        proofs: PROOFS,
        prefix: PREFIX,
        tail: TAIL,
        most: rounded((PROOFS * (PREFIX + TAIL)) / (PREFIX + PROOFS * TAIL)),
        apart: described(taken.apart),
        together: described(taken.together),
      },
    },
  }
}
