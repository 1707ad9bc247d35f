// What does a second thread bring to a prefill?
import { Model } from '../../dist/index.mjs'
import { fullPrefill } from '../method/full-prefill.mjs'
import { modelFolder, promptOf } from '../method/models.mjs'
import { alternate, check, described, rounded, sample, timeRatio } from '../method/sample.mjs'

export default async function threads({ rounds, threadCounts }) {
  if (threadCounts.length < 2) return { threads: { skipped: 'this machine has one core' } }
  const tokens = promptOf(512)
  const detail = {}
  for (const name of ['tinyllama-f32', 'tinyllama-bf16']) {
    const [one, two] = await Promise.all(
      threadCounts.map((threads) => Model.load(modelFolder(name), { backend: 'cpu', threads })),
    )
    const logits = await Promise.all([one, two].map((model) => fullPrefill(model, tokens, true)))
    check(Buffer.from(logits[0].buffer).equals(Buffer.from(logits[1].buffer)), 'the bits depend on the threads')
    const taken = await alternate(
      {
        one: () => sample(() => fullPrefill(one, tokens), 1),
        two: () => sample(() => fullPrefill(two, tokens), 2),
      },
      rounds,
    )
    const ratio = rounded(timeRatio(taken.one, taken.two))
    detail[name] = { ratio, one: described(taken.one), two: described(taken.two) }
    await Promise.all([one.close(), two.close()])
  }
  return { threads: { value: Math.min(...Object.values(detail).map((some) => some.ratio)), detail } }
}
