// What each of the demo's cases pays, by replaying the dispute that it leads to.

import { advance, type DisputeEvent, type DisputeState, openDispute } from '../dispute'
import type { Settlement } from '../payoff'
import { createTerms, termsDeposits } from '../terms'
import type { Verdict } from '../verdict'
import type { DemoCase } from './demo-cases'

export const DEMO_TERMS = createTerms({
  alpha: '1',
  beta: '1/2',
  generationCost: 1_000_000n,
  verificationCost: 50_000n,
  maxStages: 5,
})

export interface DemoPayoff {
  name: string
  settlement: Settlement
}

/** The settlements of an unchallenged result, of every case when challenged, and of a verifier that lies. */
export function demoPayoffs(cases: readonly DemoCase[]): DemoPayoff[] {
  const [honest] = cases
  const liar: Verdict = { ...honest.verdicts[0], status: 'rejected', samplesDigest: 'ff'.repeat(32) }
  const unchallenged = advance(delivered(honest.verdicts[0]), { type: 'acceptance' })
  return [
    payoffOf('honest, unchallenged', unchallenged),
    ...cases.map(({ name, verdicts }) => payoffOf(name, challenged(verdicts))),
    payoffOf('honest, V1 lies', challenged([liar, honest.verdicts[0]])),
  ]
}

function payoffOf(name: string, { settlement }: DisputeState): DemoPayoff {
  return { name, settlement: settlement as Settlement }
}

function delivered({ proofDigest, modelDigest }: Verdict): DisputeState {
  const { user, generator } = termsDeposits(DEMO_TERMS)
  const events: DisputeEvent[] = [
    { type: 'deposit', party: 'user', amount: user },
    { type: 'deposit', party: 'generator', amount: generator },
    { type: 'delivery', proofDigest, modelDigest },
  ]
  return events.reduce(advance, openDispute(DEMO_TERMS))
}

// Verifiers join one after another until two results agree.
function challenged(verdicts: readonly Verdict[]): DisputeState {
  const { verifier: stake } = termsDeposits(DEMO_TERMS)
  let state = advance(delivered(verdicts[0]), { type: 'challenge' })
  for (const [i, { status, samplesDigest, proofDigest, modelDigest }] of verdicts.entries()) {
    if (state.settlement) break
    const verifier = `V${i + 1}`
    state = advance(state, { type: 'join', verifier, stake })
    state = advance(state, { type: 'verdict', verifier, status, samplesDigest, proofDigest, modelDigest })
  }
  return state
}
