// How long until a model is ready, its files being in the page cache? Beside it node-llama-cpp, which only maps them.
import { statSync } from 'node:fs'
import path from 'node:path'
import { Model } from '../../dist/index.mjs'
import { llamaMissing, openLlama } from '../method/llama.mjs'
import { modelFolder } from '../method/models.mjs'
import { alternate, byRound, check, described, rounded, sample } from '../method/sample.mjs'

export default async function load({ rounds, threadCounts }) {
  const threads = threadCounts.at(-1)
  const folder = modelFolder('tinyllama-bf16')
  const { size } = statSync(path.join(folder, 'model.safetensors'))
  const digests = new Set()
  const sides = {
    ours: () =>
      sample(async () => {
        const model = await Model.load(folder, { backend: 'cpu', threads })
        digests.add(model.digest)
        await model.close()
      }, threads),
  }
  const missing = llamaMissing()
  if (!missing) {
    const gguf = path.join(folder, 'model.gguf')
    sides.llama = () => sample(async () => await (await openLlama(gguf, { threads, length: 512 })).close(), threads)
  }
  const taken = await alternate(sides, rounds)
  check(digests.size === 1, 'one folder has several digests')
  const detail = { bytes: size, threads, ours: described(taken.ours), llama: missing ?? described(taken.llama) }
  return { load: { value: rounded(byRound((one) => size / one.seconds / 1e9, taken.ours)), detail } }
}
