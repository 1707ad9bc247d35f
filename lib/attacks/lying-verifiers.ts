// Lying verifiers against the user's own check of a verdict.
import { verify } from '../verify'
import { claimChanged } from './claim'
import { HIDDEN_VERDICT_ATTACKS, VERDICT_ATTACKS } from './of-verdicts'
import { madeUp } from './of-vectors'
import type { Random } from './random'
import type { Work } from './run-attacks'
import { type AttackRow, createTally } from './tally'
import { Trial } from './trial'
import { drawRequest, RECOMMENDED } from './user-request'
import type { Proof } from '../proof'

export interface VerdictRows {
  found: AttackRow[]
  hidden: AttackRow[]
}

const MAX_DRAWS = 10

/** Each lie in each trial, told to the user, who has the proof and what was sealed or planted. */
export async function runVerdictAttacks(
  work: Work & { isChosen: (named: { name: string }) => boolean },
  onProgress: (fraction: number) => void,
): Promise<VerdictRows> {
  const { models, random, signal, isChosen } = work
  const lists = [VERDICT_ATTACKS, HIDDEN_VERDICT_ATTACKS].map((list) => list.filter(isChosen))
  const tallies = lists.map((list) =>
    list.map((attack) => ({ attack, tally: createTally({ reference: 'A11', ...attack }) })),
  )
  const isDone = () => tallies.flat().every(({ tally }) => tally.trials >= work.trials)
  for (let n = 0; n < work.trials * MAX_DRAWS && !isDone(); n++) {
    signal?.throwIfAborted()
    const draws = random.fork(`${n}`)
    const trial = new Trial(models, await drawRequest(models.real, RECOMMENDED, draws), RECOMMENDED, signal)
    const judged = await judgedBoth(trial, draws)
    for (const { attack, tally } of tallies.flat()) {
      const told = { ...judged, random: draws.fork(attack.name) }
      if (tally.trials >= work.trials || attack.fits?.(told) === false) continue
      const [problem = null] = attack.problems(told)
      tally.add({ verdict: problem === null ? judged.honest.verdict : null, error: problem, bytes: 0 })
    }
    onProgress(Math.min(1, (n + 1) / work.trials))
  }
  const [found, hidden] = tallies.map((list) => list.map(({ tally }) => tally.row()))
  return { found, hidden }
}

async function judgedBoth(trial: Trial, random: Random) {
  const { real, signal } = trial
  const judge = async (proof: Proof) => ({ proof, verdict: await verify(real, proof, { ...trial.demands(), signal }) })
  const forgery = await claimChanged(trial, (cell) => madeUp(trial, cell, random))
  return { honest: await judge(await trial.honestProof()), forged: await judge(forgery?.proof as Proof) }
}
