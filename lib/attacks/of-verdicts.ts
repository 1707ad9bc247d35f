// The verifier lies: verdicts that a user, who has no model, is to tell from true ones.
import { claimedDigests } from '../agreement'
import { plantCanaries, scoreCanaries } from '../canary'
import { planOf } from '../challenge'
import { checkVerdict } from '../check'
import { digestOf } from '../form'
import { hexFrom } from '../hex'
import { indicesOfPlan } from '../layer-walk'
import { type Proof, proofDigest } from '../proof'
import { blindProof, checkSeal, checkSealedVerdict, type SealedResult, sealSubject, sealVerdict } from '../seal'
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
  /** Whether the proofs have what the lie is about. Default: they have. */
  fits?(judged: Judged): boolean
  /** Stable codes of what the user finds; none: the lie passes. */
  problems(judged: Judged): string[]
}

function problemsOf(proof: Proof, verdict: Verdict): string[] {
  const { nonce } = proof.header
  return checkVerdict(proof, verdict, { nonce, beacon: proof.beacon }).problems.map(({ code }) => code)
}

const changed = (
  name: string,
  about: string,
  change: (verdict: Verdict, judged: Judged) => Partial<Verdict>,
): VerdictAttack => ({
  name,
  about,
  problems(judged) {
    const { proof, verdict } = judged.honest
    return problemsOf(proof, { ...verdict, ...change(verdict, judged) })
  },
})

/** Whether an honest proof carries K and V: what seals are compared with, and where canaries are planted. */
const hasKv = ({ honest }: Judged) => honest.proof.samples.some(({ v }) => v.length > 0)

const DENIED = [{ code: 'nonce_mismatch' as const, message: '' }]

/** Those that the user's own checks find: of the verdict, of a seal, of canaries. */
export const VERDICT_ATTACKS: readonly VerdictAttack[] = [
  changed('verdict-of-another', 'the verdict on another proof', (_, { forged }) => ({
    proofDigest: proofDigest(forged.proof),
  })),
  changed('index-made-up', 'a sample that the plan does not have', ({ matched }) => {
    const [layer, position] = matched[matched.length - 1]
    return { matched: [...matched, [layer, position + 2 ** 20]] }
  }),
  changed('index-missing', 'a sample left out', ({ matched }) => ({ matched: matched.slice(1) })),
  changed('index-twice', 'a sample listed twice', ({ matched }) => ({ matched: [...matched, matched[0]] })),
  changed('layers-fewer', 'fewer layers computed than compared', ({ computed }) => ({
    computed: { ...computed, layers: computed.layers - 1 },
  })),
  changed('positions-more', 'more positions computed than there are', ({ computed }) => ({
    computed: { ...computed, positions: computed.positions + 1 },
  })),
  changed('share-none', 'a share of nothing for work that was done', ({ computed }) => ({
    computed: { ...computed, share: 0 },
  })),
  changed('samples-digest', 'a digest of samples that are not those of the proof', (_, { random }) => ({
    samplesDigest: hexFrom(random.bytes(32)),
  })),
  changed('replay-more', 'more tokens replayed than were generated', ({ replay }, { honest }) => ({
    replay: replay && { ...replay, positions: honest.proof.tokens.length },
  })),
  changed('denied', 'rejected for a nonce that is right', () => ({ status: 'rejected', reasons: DENIED })),
  {
    name: 'echo-canary',
    about: 'accepted without looking, of a proof with a canary',
    fits: hasKv,
    problems({ honest, random }) {
      const { canaries } = plantCanaries(honest.proof, { seed: hexFrom(random.bytes(16)) })
      const { result } = scoreCanaries(canaries, honest.verdict)
      return result === 'failed' ? ['canary'] : []
    },
  },
  {
    name: 'echo-sealed',
    about: 'a seal of nothing, then the claimed samples said to match',
    fits: hasKv,
    problems({ honest, random }) {
      const { proof, verdict } = honest
      return checkSealedVerdict(madeUpResult(proof, random), proof, verdict)
    },
  },
  {
    name: 'seal-exchanged',
    about: 'a seal of nothing, opened as one of the claimed samples',
    fits: hasKv,
    problems({ honest, random }) {
      const sealed = sealVerdict(madeUpResult(honest.proof, random), hexFrom(random.bytes(32)))
      const opening = { ...sealed.opening, digests: claimedDigests(honest.proof.samples) }
      return checkSeal(sealed.seal, opening) ? [] : ['seal']
    },
  },
]

/** What a blind verifier has sealed that computed nothing. */
function madeUpResult(proof: Proof, random: Random): SealedResult {
  const digests = claimedDigests(proof.samples).map(([layer]) => [layer, hexFrom(random.bytes(32))] as const)
  return { verifier: 'lazy', subject: sealSubject(blindProof(proof)), digests, refuted: false }
}

/** What nobody can tell from the verdict alone. */
export const HIDDEN_VERDICT_ATTACKS: readonly VerdictAttack[] = [
  {
    name: 'echo',
    about: 'accepted without looking, and without seal or canary: made from the plan of a forged proof',
    problems({ honest, forged: { proof } }) {
      const { plan } = planOf(proof)
      const numNew = proof.tokens.length - proof.header.promptLength
      return problemsOf(proof, {
        ...honest.verdict,
        proofDigest: proofDigest(proof),
        matched: indicesOfPlan(plan),
        samplesDigest: proof.header.form === 'digest' ? proof.samplesDigest : digestOf(proof.samples),
        replay: honest.verdict.replay && { ...honest.verdict.replay, positions: numNew },
        computed: { ...honest.verdict.computed, positions: plan.numPositions },
      })
    },
  },
]
