// Decoding reads all weights for each token: how near does it come to the rate at which memory can be read?
import { generate, Model } from '../../dist/index.mjs'
import { modelFolder, promptOf, sizesOf } from '../method/models.mjs'
import { native } from '../method/native.mjs'
import { byRound, check, described, median, rounded, sample } from '../method/sample.mjs'

const TOKENS = 24

export default async function decode({ rounds, threadCounts }) {
  const detail = []
  for (const name of ['tinyllama-bf16', 'tinyllama-f32']) {
    for (const threads of threadCounts) detail.push(await measured(name, threads, rounds))
  }
  // What a machine is bought for: all of its cores, and the weights as models come.
  const { value } = detail.find(({ name, threads }) => name === 'tinyllama-bf16' && threads === threadCounts.at(-1))
  return { decode: { value, detail } }
}

async function measured(name, threads, rounds) {
  const { decodedBytes } = sizesOf(name)
  const model = await Model.load(modelFolder(name), { backend: 'cpu', threads })
  const once = (maxNewTokens) => generate(model, promptOf(8), { maxNewTokens, ignoreEos: true })
  const [short, long] = [await once(2), await once(TOKENS + 2)]
  check(
    short.tokens.every((token, i) => token === long.tokens[i]),
    'a longer run begins otherwise',
  )
  const rates = []
  const samples = []
  for (let round = 0; round < rounds; round++) {
    const { readGBs } = await native('limits', [threads])
    // Prompt and first steps are in both runs.
    const [shortRun, longRun] = [await sample(() => once(2), threads), await sample(() => once(TOKENS + 2), threads)]
    rates.push(readGBs)
    const noisy = longRun.noisy || shortRun.noisy
    samples.push({ ...longRun, noisy, seconds: (longRun.seconds - shortRun.seconds) / TOKENS })
  }
  await model.close()
  const value = byRound(({ seconds }, read) => decodedBytes / seconds / 1e9 / read, samples, rates)
  return {
    name,
    threads,
    value: rounded(value),
    tokensPerSecond: rounded(1 / median(samples.map((one) => one.seconds))),
    weightBytes: decodedBytes,
    readGBs: rounded(median(rates)),
    perToken: described(samples),
  }
}
