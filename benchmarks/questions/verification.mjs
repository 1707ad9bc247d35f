// What does a verification cost beside a full prefill, when the proof is honest and when it is not?
import {
  createPlan,
  fullPrefillCost,
  generate,
  Model,
  planCost,
  prove,
  proveWithHeader,
  proofHeader,
  verify,
} from '../../dist/index.mjs'
import { fullPrefill } from '../method/full-prefill.mjs'
import { modelFolder, promptOf } from '../method/models.mjs'
import { alternate, byRound, check, described, median, rounded, sample, timeRatio } from '../method/sample.mjs'

const LENGTH = 512

export default async function verification({ rounds, threadCounts }) {
  const threads = threadCounts.at(-1)
  const model = await Model.load(modelFolder('deep-bf16'), { backend: 'cpu', threads })
  const honest = await honestProofs(model, rounds)
  const forged = await forgedProof(model, threads)
  const taken = await alternate(
    {
      full: (round) => sample(() => fullPrefill(model, honest[round].tokens, true), threads),
      verify: (round) => sample(() => verify(model, honest[round]), threads),
      reject: () => sample(() => verify(model, forged), threads),
    },
    rounds,
  )
  for (const { result } of taken.verify) check(result.status === 'accepted', 'an honest proof was not accepted')
  for (const { result } of taken.reject)
    check(result.firstMismatch?.layer === 1, 'other weights were not seen in layer 1')
  const { numLayers } = model.config
  const flopsShare = honest.map((proof) => {
    const plan = createPlan(proof.header, proof.tokens)
    return planCost(plan, model.config).flops / fullPrefillCost(plan, model.config)
  })
  await model.close()
  const about = { model: 'deep-bf16', length: LENGTH, threads, fullPrefill: described(taken.full) }
  const share = rounded(timeRatio(taken.verify, taken.full))
  const exit = rounded(byRound((reject, full) => (reject.seconds * numLayers) / full.seconds, taken.reject, taken.full))
  return {
    'verify-share': {
      value: share,
      detail: { ...about, verify: described(taken.verify), flopsShare: rounded(median(flopsShare)) },
    },
    'verify-replayed': await replayed(rounds, threads),
    'early-exit': { value: exit, detail: { ...about, numLayers, reject: described(taken.reject) } },
  }
}

/** As README recommends: committed, opened for a beacon, down to the final hidden states, every token chosen again. */
async function replayed(rounds, threads) {
  const name = 'deep-bf16-vocabulary'
  const model = await Model.load(modelFolder(name), { backend: 'cpu', threads })
  const asked = { maxNewTokens: LENGTH / 2, temperature: 1, seed: '0b', commit: true }
  const { commitment } = await generate(model, promptOf(LENGTH / 2), asked)
  const beacon = '0c'
  const proof = await commitment.open(beacon)
  check(proof.tokens.length === LENGTH, 'the answer ended early')
  const demands = { beacon, root: commitment.root, replay: 'all' }
  const taken = await alternate(
    {
      full: () => sample(() => fullPrefill(model, proof.tokens, true), threads),
      verify: () => sample(() => verify(model, proof, demands), threads),
    },
    rounds,
  )
  await model.close()
  for (const { result } of taken.verify) {
    check(result.status === 'accepted' && result.replay.positions === LENGTH / 2, 'an honest answer was not replayed')
  }
  const [{ result }] = taken.verify
  const about = { model: name, length: LENGTH, threads, fullPrefill: described(taken.full) }
  return {
    value: rounded(timeRatio(taken.verify, taken.full)),
    detail: { ...about, verify: described(taken.verify), flopsShare: rounded(result.computed.share) },
  }
}

// One for each round, so that the median is also one over plans.
async function honestProofs(model, count) {
  const proofs = []
  for (let i = 0; i < count; i++) {
    proofs.push(await prove(model, promptOf(LENGTH, i + 1), { promptLength: LENGTH / 2, nonce: `0${i % 10}` }))
  }
  return proofs
}

/** By other weights under this model's name; sampled in layer 1 and in the last one. */
async function forgedProof(model, threads) {
  const other = await Model.load(modelFolder('deep-bf16-other'), { backend: 'cpu', threads })
  const layerSampler = `fixed:1,${model.config.numLayers - 1}`
  const header = proofHeader(model, LENGTH / 2, { layerSampler })
  const proof = await proveWithHeader(other, header, promptOf(LENGTH))
  await other.close()
  return proof
}
