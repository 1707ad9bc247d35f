// Numbers of samples needed, where they are known by arithmetic: proofs of which each sample is far off or is not.
import { samplesNeeded } from '../../lib/calibrate-samples'
import type { ProofErrors } from '../../lib/fit-limits'
import type { LayerLimits } from '../../lib/strain'

const NUM_SEQUENCES = 60
const part = { typicalError: 1, maxMeanScore: 100, maxMedianScore: 100, maxSampleScore: 10 }
const LIMITS: LayerLimits[] = [
  { k: { ...part }, v: { ...part } },
  { k: { ...part }, v: { ...part } },
]

/** Every `period`th sample with an error of `error`, the others with the typical one. */
const proofs = (size: number, period: number, error: number): ProofErrors[] =>
  Array.from({ length: NUM_SEQUENCES }, () =>
    Array.from({ length: size }, (_, i) => {
      return { layer: i < size / 2 ? 0 : 1, position: i, k: i % period === 0 ? error : 1, v: 1 }
    }),
  )
const needed = (honest: ProofErrors[], cheats: ProofErrors[][], maxHonestShare = 0.03) =>
  samplesNeeded(
    LIMITS,
    { honest: honest.map((one) => [one]), cheats: honest.map((_, i) => cheats.map((all) => all[i])) },
    maxHonestShare,
  )

test('one far sample among the drawn is enough: the least power of two at which 95 % of draws have one', async () => {
  // All, half, a quarter and an eighth of 128 samples are far off; of n drawn none is with probability
  // C(128 - far, n) / C(128, n).
  const missed = (far: number, n: number) => {
    let share = 1
    for (let i = 0; i < n; i++) share *= (128 - far - i) / (128 - i)
    return share
  }
  const expected = [128, 64, 32, 16].map((far) => [1, 2, 4, 8, 16, 32, 64].find((n) => missed(far, n) <= 0.05))
  expect(expected).toEqual([1, 8, 16, 32])
  const cheats = [1, 2, 4, 8].map((period) => proofs(128, period, 50))
  expect(await needed(proofs(128, 1, 1), cheats)).toEqual(expected)
})

test('no number of samples will do for a cheat within the limits, or where honest proofs are over them', async () => {
  const far = proofs(64, 1, 50)
  expect(await needed(proofs(64, 1, 1), [proofs(64, 1, 9), far])).toEqual([null, 1])
  // An honest engine with one sample of 64 over the limit: the more are drawn, the more of its proofs are rejected.
  expect(await needed(proofs(64, 64, 11), [far])).toEqual([null])
  expect(await needed(proofs(64, 64, 11), [far], 1)).toEqual([1])
})

test('few samples of an honest engine may be over limits that many are within', async () => {
  // Means of whole proofs are 1.5 and may be 2; single scores are 0 or 3, so that small draws go over in either layer.
  const uneven = LIMITS.map(() => ({ k: { ...part, maxMeanScore: 2 }, v: { ...part } }))
  const honest = proofs(256, 2, 3).map((proof) => proof.map((one) => ({ ...one, k: one.k === 3 ? 3 : 0 })))
  const cheats = honest.map(() => [proofs(256, 1, 50)[0]])
  const [count] = await samplesNeeded(uneven, { honest: honest.map((one) => [one]), cheats }, 0.03)
  // The cheat is over from 1 sample on. Honest means of n draws have a deviation of 1.5 / sqrt(n): at 16 in the upper
  // layer alone, too many are over 2, at 128 hardly any.
  expect(count).toBeGreaterThanOrEqual(32)
  expect(count).toBeLessThanOrEqual(256)
})

test('proofs without samples, and no cheats at all, need nothing', async () => {
  expect(await needed(proofs(0, 1, 1), [proofs(0, 1, 1)])).toEqual([null])
  expect(await needed(proofs(8, 1, 1), [])).toEqual([])
})
