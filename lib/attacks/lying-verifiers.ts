// Lying verifiers against the user's own check of a verdict.
import { verify } from '../verify'
import { claimChanged } from './claim'
import { HIDDEN_VERDICT_ATTACKS, problemsOf, VERDICT_ATTACKS, type VerdictAttack } from './of-verdicts'
import { madeUp } from './of-vectors'
import type { Work } from './run-attacks'
import { type AttackRow, createTally } from './tally'
import { Trial } from './trial'
import { drawRequest, RECOMMENDED } from './user-request'
import type { Proof } from '../proof'

export interface VerdictRows {
  found: AttackRow[]
  hidden: AttackRow[]
}

/** Each lie in each trial, told to {@link checkVerdict}. */
export async function runVerdictAttacks(
  work: Work & { isChosen: (named: { name: string }) => boolean },
  onProgress: (fraction: number) => void,
): Promise<VerdictRows> {
  const { models, random, signal, isChosen } = work
  const lists = [VERDICT_ATTACKS, HIDDEN_VERDICT_ATTACKS].map((list) => list.filter(isChosen))
  const tallies = lists.map((list) =>
    list.map((attack) => ({ attack, tally: createTally({ reference: 'A11', ...attack }) })),
  )
  const trials = lists.flat().length === 0 ? 0 : work.trials
  for (let n = 0; n < trials; n++) {
    signal?.throwIfAborted()
    const draws = random.fork(`${n}`)
    const trial = new Trial(models, await drawRequest(models.real, RECOMMENDED, draws), RECOMMENDED, signal)
    const judged = await judgedBoth(trial, draws)
    for (const { attack, tally } of tallies.flat()) {
      const lie = attack.lie({ ...judged, random: draws })
      const [problem = null] = problemsOf(lie, { nonce: trial.header.nonce, beacon: trial.beacon })
      tally.add({ verdict: problem === null ? lie.verdict : null, error: problem, bytes: 0 })
    }
    onProgress((n + 1) / trials)
  }
  const [found, hidden] = tallies.map((list) => list.map(({ tally }) => tally.row()))
  return { found, hidden }
}

async function judgedBoth(trial: Trial, random: Parameters<VerdictAttack['lie']>[0]['random']) {
  const { real, signal } = trial
  const judge = async (proof: Proof) => ({ proof, verdict: await verify(real, proof, { ...trial.demands(), signal }) })
  const forgery = await claimChanged(trial, (cell) => madeUp(trial, cell, random))
  return { honest: await judge(await trial.honestProof()), forged: await judge(forgery?.proof as Proof) }
}
