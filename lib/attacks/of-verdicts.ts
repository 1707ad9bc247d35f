// The verifier lies: verdicts that a user, who has no model, is to tell from true ones by the proof alone.
import { type CheckOptions, checkVerdict } from '../check'
import { digestOf } from '../form'
import { hexFrom } from '../hex'
import { indicesOfPlan } from '../matcher'
import { planOf } from '../challenge'
import { type Proof, proofDigest } from '../proof'
import type { Verdict } from '../verdict'
import type { Random } from './random'

/** What a lying verifier has: an accepted proof and a forged one, with true verdicts on both. */
export interface Judged {
  honest: { proof: Proof; verdict: Verdict }
  forged: { proof: Proof; verdict: Verdict }
  random: Random
}

export interface VerdictAttack {
  name: string
  about: string
  /** A verdict that is not true, and the proof that it is said to be about. */
  lie(judged: Judged): { proof: Proof; verdict: Verdict }
}

const about = (name: string, text: string, change: (verdict: Verdict, judged: Judged) => Partial<Verdict>) => ({
  name,
  about: text,
  lie(judged: Judged) {
    const { proof, verdict } = judged.honest
    return { proof, verdict: { ...verdict, ...change(verdict, judged) } }
  },
})

const DENIED = [{ code: 'nonce_mismatch' as const, message: '' }]

/** Those that {@link checkVerdict} finds. */
export const VERDICT_ATTACKS: readonly VerdictAttack[] = [
  about('verdict-of-another', 'the verdict on another proof', (_, { forged }) => ({
    proofDigest: proofDigest(forged.proof),
  })),
  about('index-made-up', 'a sample that the plan does not have', ({ matched }) => {
    const [layer, position] = matched[matched.length - 1]
    return { matched: [...matched, [layer, position + 2 ** 20]] }
  }),
  about('index-missing', 'a sample left out', ({ matched }) => ({ matched: matched.slice(1) })),
  about('index-twice', 'a sample listed twice', ({ matched }) => ({ matched: [...matched, matched[0]] })),
  about('layers-fewer', 'fewer layers computed than compared', ({ computed }) => ({
    computed: { ...computed, layers: Math.max(0, computed.layers - 1) },
  })),
  about('positions-more', 'more positions computed than there are', ({ computed }) => ({
    computed: { ...computed, positions: computed.positions + 1 },
  })),
  about('share-none', 'a share of nothing for work that was done', ({ computed }) => ({
    computed: { ...computed, share: 0 },
  })),
  about('samples-digest', 'a digest of samples that are not those of the proof', (_, { random }) => ({
    samplesDigest: hexFrom(random.bytes(32)),
  })),
  about('replay-more', 'more tokens replayed than were generated', ({ replay }, { honest }) => ({
    replay: replay && { ...replay, positions: honest.proof.tokens.length },
  })),
  about('denied', 'rejected for a nonce that is right', () => ({ status: 'rejected', reasons: DENIED })),
]

/** Those that nobody can tell without computing: sealed verdicts and canaries are for them. */
export const HIDDEN_VERDICT_ATTACKS: readonly VerdictAttack[] = [
  {
    name: 'echo',
    about: 'accepted without looking: a verdict made from the plan of a forged proof',
    lie({ honest, forged: { proof } }) {
      const { plan } = planOf(proof)
      const numNew = proof.tokens.length - proof.header.promptLength
      const verdict: Verdict = {
        ...honest.verdict,
        proofDigest: proofDigest(proof),
        matched: indicesOfPlan(plan),
        samplesDigest: proof.header.form === 'digest' ? proof.samplesDigest : digestOf(proof.samples),
        replay: honest.verdict.replay && { ...honest.verdict.replay, positions: numNew },
        computed: { ...honest.verdict.computed, positions: plan.numPositions },
      }
      return { proof, verdict }
    },
  },
]

/** The problems that the user finds with a lie; none: it passes. */
export function problemsOf(lie: { proof: Proof; verdict: Verdict }, demands: CheckOptions): string[] {
  return checkVerdict(lie.proof, lie.verdict, demands).problems.map(({ code }) => code)
}
