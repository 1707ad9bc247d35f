// Each way in which a verification does less than a full prefill, alone: does its time follow its FLOPs?
import { costThroughLayer, Model, planCost, prefill } from '../../dist/index.mjs'
import { fullPrefill } from '../method/full-prefill.mjs'
import { modelFolder, promptOf } from '../method/models.mjs'
import { alternate, check, described, rounded, sample, timeRatio } from '../method/sample.mjs'

const LENGTH = 512
const MODEL = 'shallow-bf16'

export default async function savings({ rounds, threadCounts }) {
  const threads = threadCounts.at(-1)
  const model = await Model.load(modelFolder(MODEL), { backend: 'cpu', threads })
  const deepest = model.config.numLayers - 1
  const middle = deepest >> 1
  const last = Uint32Array.of(LENGTH - 1)
  const full = planOf([[deepest, Uint32Array.from({ length: LENGTH }, (_, i) => i)]]) // as a prompt is processed
  const plans = {
    'saved-tail': planOf([[deepest, last]]),
    'saved-cone': planOf([
      [middle, last],
      [deepest, Uint32Array.of(LENGTH / 2)],
    ]),
    'saved-stop': planOf([
      [middle, last],
      [deepest, last],
    ]),
  }
  const tokens = promptOf(LENGTH)
  const stopsAt = (id) => (id === 'saved-stop' ? middle : deepest)
  const pass = async (id) => {
    let seen
    for await (const { layer } of prefill(model, tokens, plans[id])) {
      seen = layer
      if (layer === stopsAt(id)) break
    }
    check(seen === stopsAt(id), `the pass of ${id} ended at layer ${seen}`)
  }
  const sides = { full: () => sample(() => fullPrefill(model, tokens), threads) }
  for (const id of Object.keys(plans)) sides[id] = () => sample(() => pass(id), threads)
  const taken = await alternate(sides, rounds)
  const rows = Object.entries(plans).map(([id, plan]) => {
    const { config } = model
    const cost = id === 'saved-stop' ? costThroughLayer(plan, config, middle) : planCost(plan, config).flops
    const flops = cost / planCost(full, config).flops
    const time = timeRatio(taken[id], taken.full)
    const detail = {
      model: MODEL,
      threads,
      timeShare: rounded(time),
      flopsShare: rounded(flops),
      ...described(taken[id]),
    }
    return [id, { value: rounded(time / flops), detail }]
  })
  await model.close()
  return Object.fromEntries(rows)
}

function planOf(layers) {
  const numSamples = layers.reduce((sum, [, positions]) => sum + positions.length, 0)
  const deepestLayer = layers.at(-1)[0]
  const contextDigest = new Uint8Array(32)
  return { numPositions: LENGTH, layers: new Map(layers), deepestLayer, contextDigest, numSamples }
}
