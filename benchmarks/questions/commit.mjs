// What does it cost a generator to commit to all layers and positions, and a verifier to run the sampler again?
import { createRequire } from 'node:module'
import { Model } from '../../dist/index.mjs'
import { fullPrefill } from '../method/full-prefill.mjs'
import { modelFolder, promptOf } from '../method/models.mjs'
import { alternate, check, described, rounded, sample, timeRatio } from '../method/sample.mjs'

// The native classes themselves: the public functions would add sampling or a proof.
const require = createRequire(import.meta.url)
const { addon } = require('../../dist/addon.js')
const { REPLAY_VALUES } = require('../../dist/native.js')
const nothing = new Uint8Array(0)
const CHUNK = 512
const LENGTH = 512
const MODEL = 'deep-bf16-vocabulary'
const SAMPLING = { temperature: 0.8, topK: 0, topP: 1, key: Uint32Array.of(1, 2) }

export default async function commit({ rounds, threadCounts }) {
  const threads = threadCounts.at(-1)
  const model = await Model.load(modelFolder(MODEL), { backend: 'cpu', threads })
  const tokens = promptOf(LENGTH)
  const run = await passOver(model, tokens)
  const replayed = (surprise) => () => replay(run, tokens, surprise)
  const taken = await alternate(
    {
      prompt: () => sample(() => fullPrefill(model, tokens), threads),
      full: () => sample(() => wholePass(model, tokens), threads),
      committed: () => sample(() => committed(model, tokens), threads),
      replayed: () => sample(replayed(false), threads),
      measured: () => sample(replayed(true), threads),
    },
    rounds,
  )
  run.cancel()
  await model.close()
  const detail = { model: MODEL, tokens: LENGTH, threads, full: described(taken.full) }
  const percent = 100 * (timeRatio(taken.committed, taken.full) - 1)
  const overPrompt = rounded(timeRatio(taken.committed, taken.prompt))
  const share = timeRatio(taken.replayed, taken.full)
  const withSurprise = timeRatio(taken.measured, taken.full)
  return {
    commit: { value: rounded(percent), detail: { ...detail, overPrompt, ...described(taken.committed) } },
    replay: {
      value: rounded(share),
      detail: { ...detail, withSurprise: rounded(withSurprise), ...described(taken.replayed) },
    },
  }
}

/**
 * One pass in which every position goes through all layers, as generated ones do: a prompt's need K and V alone of the
 * last one, all but the last.
 */
async function wholePass(model, tokens, leaves = null) {
  const { numLayers, hiddenSize } = model.config
  const sequence = new (addon().Sequence)(model.native, 'f32', tokens.length, CHUNK)
  const positions = Uint32Array.from(tokens, (_, i) => i)
  const layers = Uint32Array.of(numLayers)
  const hidden = new Uint8Array(tokens.length * hiddenSize * 4)
  const counts = Uint32Array.of(tokens.length)
  await sequence.append(tokens, layers, counts, positions, hidden, nothing, null, null, leaves)
  sequence.cancel()
}

/** The same with the leaf digests of all layers and positions, and the tree over them. */
async function committed(model, tokens) {
  const leaves = new Uint8Array(tokens.length * (model.config.numLayers + 1) * 32)
  await wholePass(model, tokens, leaves)
  const nodes = await addon().merkleTree(leaves)
  check(leaves.some((byte) => byte > 0) && nodes.slice(-32).some((byte) => byte > 0), 'a commitment of zeros')
}

/** A native pass whose final hidden states are all there. */
async function passOver(model, tokens) {
  const { numLayers, hiddenSize } = model.config
  const positions = Uint32Array.from({ length: tokens.length - 1 }, (_, i) => i)
  const samples = { layers: Uint32Array.of(numLayers), counts: Uint32Array.of(positions.length), positions }
  const part = { tokens: tokens.slice(0, -1), parent: null, firstPosition: 0, ...samples }
  const run = new (addon().Prefill)(model.native, [part], 'f32', CHUNK)
  for (let layer = 0; layer < numLayers; layer++) await run.next(nothing, nothing)
  await run.next(new Uint8Array(positions.length * hiddenSize * 4), nothing)
  return run
}

/** The sampler at every position of the pass. */
async function replay(run, tokens, surprise) {
  const positions = Uint32Array.from({ length: tokens.length - 1 }, (_, i) => i)
  const out = new Float64Array(positions.length * REPLAY_VALUES)
  await run.replay(0, positions, tokens.slice(1), SAMPLING, surprise, out)
  check(
    out.every((value, i) => i % REPLAY_VALUES > 1 || value >= 0),
    'a choice below zero',
  )
}
