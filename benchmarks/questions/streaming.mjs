// What does a verification cost when the weights may not all be in memory?
import { statSync } from 'node:fs'
import path from 'node:path'
import { Model, prove, verify } from '../../dist/index.mjs'
import { modelFolder, promptOf } from '../method/models.mjs'
import { alternate, check, described, rounded, sample, timeRatio } from '../method/sample.mjs'

const MIB = 2 ** 20
const BUDGET = 96 * MIB

export default async function streaming({ rounds, threadCounts }) {
  const threads = threadCounts.at(-1)
  const folder = modelFolder('deep-bf16')
  const tokens = promptOf(512)
  const before = process.resourceUsage().maxRSS * 1024
  // First, so that the peak is that of the streamed passes alone.
  const streamed = await Model.load(folder, { backend: 'cpu', threads, weightBudgetBytes: BUDGET })
  const proof = await prove(streamed, tokens, { promptLength: 256 })
  const first = await verify(streamed, proof)
  const peak = process.resourceUsage().maxRSS * 1024 - before
  const resident = await Model.load(folder, { backend: 'cpu', threads })
  const second = await verify(resident, proof)
  check(first.status === 'accepted' && second.status === 'accepted', 'an honest proof was not accepted')
  const taken = await alternate(
    {
      resident: () => sample(() => verify(resident, proof), threads),
      streamed: () => sample(() => verify(streamed, proof), threads),
    },
    rounds,
  )
  await Promise.all([streamed.close(), resident.close()])
  const about = { model: 'deep-bf16', length: 512, threads, budgetMiB: BUDGET / MIB }
  const weightsMiB = rounded(statSync(path.join(folder, 'model.safetensors')).size / MIB)
  const times = { resident: described(taken.resident), streamed: described(taken.streamed) }
  return {
    streamed: { value: rounded(timeRatio(taken.streamed, taken.resident)), detail: { ...about, weightsMiB, ...times } },
    'streamed-memory': {
      value: rounded(peak / BUDGET),
      detail: { ...about, weightsMiB, peakMiB: rounded(peak / MIB) },
    },
  }
}
