// Full prefills by us and by node-llama-cpp in turn, for one dtype: TinyLlama-1.1B's widths.
import path from 'node:path'
import { Model } from '../../dist/index.mjs'
import { fullPrefill } from './full-prefill.mjs'
import { llamaMissing, openLlama } from './llama.mjs'
import { modelFolder, promptOf, sizesOf } from './models.mjs'
import { alternate, byRound, check, described, rounded, sample, timeRatio } from './sample.mjs'

const LENGTHS = [512, 2048]

/**
 * @param tolerance - How far logits may differ, in their own standard deviation.
 * @returns The lowest ratio over lengths and thread counts, with all of them in `detail`.
 */
export async function againstLlama(name, tolerance, { rounds, threadCounts, limits }) {
  const missing = llamaMissing()
  if (missing) return { skipped: missing }
  const folder = modelFolder(name)
  const cases = []
  for (const threads of threadCounts) {
    const model = await Model.load(folder, { backend: 'cpu', threads })
    for (const length of LENGTHS) {
      const llama = await openLlama(path.join(folder, 'model.gguf'), { threads, length })
      await checkLogits(model, llama, tolerance)
      const tokens = promptOf(length)
      const sides = {
        ours: () => sample(() => fullPrefill(model, tokens), threads),
        llama: () => sample(() => llama.prefill(tokens), threads),
      }
      const taken = await alternate(sides, rounds, length !== LENGTHS[0])
      cases.push(caseOf({ name, threads, length, taken, peak: limits[threads].fmaGflops }))
      await llama.close()
    }
    await model.close()
  }
  return { value: Math.min(...cases.map((one) => one.ratio)), detail: { llama: '3.22.1', cases } }
}

async function checkLogits(model, llama, tolerance) {
  const tokens = promptOf(64)
  const ours = await fullPrefill(model, tokens, true)
  const theirs = await llama.logits(tokens)
  const deviation = Math.hypot(...ours) / Math.sqrt(ours.length)
  const worst = Math.max(...[...theirs].map(([token, logit]) => Math.abs(logit - ours[token])))
  check(theirs.size === ours.length && worst <= tolerance * deviation, `logits differ from llama.cpp's by ${worst}`)
}

function caseOf({ name, threads, length, taken, peak }) {
  const { perLayer, ffn, queries, hidden, layers } = sizesOf(name)
  const oneLayer = perLayer + length * hidden // attention: on average length / 2 keys, for scores and for sums
  // Where no logits are asked for, llama.cpp leaves the last layer's MLP out, we all that comes after its K and V.
  const leftOut = { ours: ffn + queries + length * hidden, llama: ffn }
  const rates = Object.entries(taken).map(([side, samples]) => {
    const about = described(samples)
    const gflops = (2 * (oneLayer * layers - leftOut[side]) * length) / about.seconds / 1e9
    const tokensPerSecond = rounded(length / about.seconds)
    return [side, { tokensPerSecond, gflops: rounded(gflops), ofFp32Peak: rounded(gflops / peak), ...about }]
  })
  return {
    threads,
    length,
    ratio: rounded(timeRatio(taken.llama, taken.ours)),
    // What a busy machine still tells: the same ratio of CPU times.
    cpuTimeRatio: rounded(byRound((a, b) => cpuSeconds(a) / cpuSeconds(b), taken.llama, taken.ours)),
    ...Object.fromEntries(rates),
  }
}

const cpuSeconds = ({ seconds, share }) => seconds * share
