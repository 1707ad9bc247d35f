// One generator over many proofs: Wald's sequential probability ratio test, which says when to slash and when to stop.
// Source: Wald, "Sequential Tests of Statistical Hypotheses" (1945); the bounds hold at any time by Ville (1939).
import { wrongValue } from './errors'
import { fieldsOf } from './header'

/** What the test promises, and what it tells apart. */
export interface SequentialTerms {
  /** Greatest probability that a generator whose proofs are rejected at `honestRejection` or less is slashed; alpha. */
  readonly falseSlash: number
  /** Greatest probability that one whose proofs are rejected at `cheatRejection` or more is cleared; beta. */
  readonly missedCheat: number
  /** p0: share of an honest generator's proofs that are rejected; 0 in bit-equal numerics. */
  readonly honestRejection: number
  /** p1: the share of a cheat's proofs that are rejected, such as `detection` of `planPower`; more than p0. */
  readonly cheatRejection: number
}

/** How one proof ended, as verdicts say it. */
export type ProofOutcome = 'accepted' | 'rejected' | 'inconclusive'

/** `slash` and `clear` are final. */
export type SequentialDecision = 'slash' | 'keep watching' | 'clear'

/** Where a test stands: plain JSON, all that {@link resumeSequentialTest} needs. */
export interface SequentialState extends SequentialTerms {
  readonly accepted: number
  readonly rejected: number
  /** Counted, but no evidence. */
  readonly inconclusive: number
  readonly decision: SequentialDecision
}

/** A test under way. */
export interface SequentialTest {
  /**
   * Takes the outcome of one more proof; after a final decision, none counts.
   * @throws {PocError} INVALID_ARGUMENT
   */
  push(outcome: ProofOutcome): SequentialDecision
  readonly decision: SequentialDecision
  readonly state: SequentialState
}

/**
 * A test that has seen nothing yet.
 *
 * It slashes when the likelihood ratio of p1 to p0 reaches 1 / alpha and clears when it falls to beta. Wald's own
 * bounds, (1 - beta) / alpha and beta / (1 - alpha), end a little sooner but keep only the sum of both errors; these
 * keep each, and also where proofs depend on earlier ones, as long as each one's chance of rejection stays on its
 * side of p0 or p1.
 * @throws {PocError} INVALID_ARGUMENT
 */
export function createSequentialTest(terms: SequentialTerms): SequentialTest {
  const checked = checkTerms(terms)
  return testFrom({ ...checked, accepted: 0, rejected: 0, inconclusive: 0, decision: 'keep watching' })
}

/**
 * A test that goes on from a state, such as one read from JSON.
 * @throws {PocError} INVALID_ARGUMENT, also for a decision that the counts do not allow
 */
export function resumeSequentialTest(state: SequentialState): SequentialTest {
  const terms = checkTerms(state)
  const count = (name: 'accepted' | 'rejected' | 'inconclusive') => {
    if (Number.isSafeInteger(state[name]) && state[name] >= 0) return Math.abs(state[name])
    throw wrongValue('INVALID_ARGUMENT', `state.${name}`, 'a whole number', state[name])
  }
  const counts = { accepted: count('accepted'), rejected: count('rejected'), inconclusive: count('inconclusive') }
  const decision = decide({ ...terms, ...counts })
  if (state.decision === decision) return testFrom({ ...terms, ...counts, decision })
  throw wrongValue('INVALID_ARGUMENT', 'state.decision', `'${decision}', as the counts say`, state.decision)
}

/**
 * About how many conclusive proofs the test takes to decide, for a generator at p0 and for one at p1.
 *
 * Wald's approximation, which takes the ratio to stop exactly at a bound; it is somewhat low where one proof moves the
 * ratio far. Exact where one outcome decides alone: a rejection at p0 = 0, an acceptance at p1 = 1.
 * @throws {PocError} INVALID_ARGUMENT
 */
export function expectedProofs(terms: SequentialTerms): { honest: number; cheating: number } {
  const checked = checkTerms(terms)
  const { honestRejection, cheatRejection } = checked
  return { honest: expectedAt(honestRejection, checked), cheating: expectedAt(cheatRejection, checked) }
}

function testFrom(start: SequentialState): SequentialTest {
  let state: SequentialState = Object.freeze(start)
  return {
    push(outcome) {
      if (outcome !== 'accepted' && outcome !== 'rejected' && outcome !== 'inconclusive') {
        throw wrongValue('INVALID_ARGUMENT', 'outcome', "'accepted', 'rejected' or 'inconclusive'", outcome)
      }
      if (state.decision !== 'keep watching') return state.decision
      const counted = { ...state, [outcome]: state[outcome] + 1 }
      state = Object.freeze({ ...counted, decision: decide(counted) })
      return state.decision
    },
    get decision() {
      return state.decision
    },
    get state() {
      return state
    },
  }
}

// From counts alone, so that a resumed test cannot differ from an uninterrupted one by rounding.
function decide(state: Omit<SequentialState, 'decision'>): SequentialDecision {
  const { slash, clear, ifRejected, ifAccepted } = steps(state)
  const rejections = state.rejected === 0 ? 0 : state.rejected * ifRejected // 0 * Infinity is no number
  const acceptances = state.accepted === 0 ? 0 : state.accepted * ifAccepted
  if (rejections >= slash - acceptances) return 'slash'
  return rejections <= clear - acceptances ? 'clear' : 'keep watching'
}

/** Bounds of the log likelihood ratio, and what one outcome adds to it. */
function steps({ falseSlash, missedCheat, honestRejection, cheatRejection }: SequentialTerms) {
  return {
    slash: -Math.log(falseSlash),
    clear: Math.log(missedCheat),
    ifRejected: Math.log(cheatRejection / honestRejection),
    ifAccepted: Math.log1p(-cheatRejection) - Math.log1p(-honestRejection),
  }
}

function expectedAt(rejection: number, terms: SequentialTerms): number {
  const { slash, clear, ifRejected, ifAccepted } = steps(terms)
  if (ifRejected === Number.POSITIVE_INFINITY) return untilEither(rejection, clear / ifAccepted)
  if (ifAccepted === Number.NEGATIVE_INFINITY) return untilEither(1 - rejection, slash / ifRejected)
  const slashed = (1 - Math.exp(clear)) / (Math.exp(slash) - Math.exp(clear)) // for a generator at p0
  const cleared = (1 - Math.exp(-slash)) / (Math.exp(-clear) - Math.exp(-slash)) // for one at p1
  const endsUp = rejection === terms.honestRejection ? slashed : 1 - cleared
  const perProof = rejection * ifRejected + (1 - rejection) * ifAccepted
  return (endsUp * slash + (1 - endsUp) * clear) / perProof
}

/** Proofs until one has the outcome that decides alone, or until as many have the other as its bound takes. */
function untilEither(decisive: number, bound: number): number {
  const others = Math.max(1, Math.ceil(bound))
  return decisive === 0 ? others : -Math.expm1(others * Math.log1p(-decisive)) / decisive
}

function checkTerms(terms: SequentialTerms): SequentialTerms {
  fieldsOf(terms, 'terms', 'INVALID_ARGUMENT')
  const { falseSlash, missedCheat, honestRejection, cheatRejection } = terms
  const must = (name: keyof SequentialTerms, expected: string, isRight: (value: number) => boolean) => {
    const value: unknown = terms[name]
    if (typeof value === 'number' && isRight(value)) return
    throw wrongValue('INVALID_ARGUMENT', `terms.${name}`, expected, value)
  }
  must('falseSlash', 'a number over 0 and under 1', (value) => value > 0 && value < 1)
  must('missedCheat', 'a number over 0 and under 1', (value) => value > 0 && value < 1)
  must('honestRejection', 'a number from 0 to under 1', (value) => value >= 0 && value < 1)
  must('cheatRejection', 'a number over honestRejection, up to 1', (value) => value > honestRejection && value <= 1)
  // A share of -0 would make the ratio of one rejection minus infinity, and its logarithm no number: no slash ever.
  return { falseSlash, missedCheat, honestRejection: Math.abs(honestRejection), cheatRejection }
}
