// How much of a run is not arithmetic: JS, hashing, comparing, waiting between ops?
import { generate, Model, prove, verify } from '../../dist/index.mjs'
import { modelFolder, promptOf } from '../method/models.mjs'
import { check, described, median, rounded, sample } from '../method/sample.mjs'

export default async function overhead({ rounds, threadCounts }) {
  const threads = threadCounts.at(-1)
  const model = await Model.load(modelFolder('deep-bf16'), { backend: 'cpu', threads, timeOps: true })
  const proof = await prove(model, promptOf(512), { promptLength: 256 })
  const verdict = await verify(model, proof)
  check(verdict.status === 'accepted', 'an honest proof was not accepted')
  const verifying = await around(model, rounds, threads, () => verify(model, proof))
  const decoding = await around(model, rounds, threads, () => generate(model, promptOf(1), { maxNewTokens: 32 }))
  await model.close()
  return { overhead: { value: verifying.percent, detail: { model: 'deep-bf16', threads, verifying, decoding } } }
}

async function around(model, rounds, threads, work) {
  const samples = []
  const percents = []
  const sums = new Map()
  for (let round = 0; round < rounds; round++) {
    const one = await sample(async () => {
      const before = model.opTimes()
      await work()
      return model.opTimes().map(({ op, seconds }, i) => [op, seconds - before[i].seconds])
    }, threads)
    const inOps = one.result.reduce((sum, [, seconds]) => sum + seconds, 0)
    for (const [op, seconds] of one.result) sums.set(op, (sums.get(op) ?? 0) + seconds)
    percents.push(100 * (one.seconds / inOps - 1))
    samples.push(one)
  }
  const total = [...sums.values()].reduce((a, b) => a + b)
  const shares = [...sums].filter(([, seconds]) => seconds > 0).map(([op, seconds]) => [op, rounded(seconds / total)])
  return { percent: rounded(median(percents)), ...described(samples), shareOfOps: Object.fromEntries(shares) }
}
