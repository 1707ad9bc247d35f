import fc from 'fast-check'
import { proofsNeeded } from '../../lib/power'
import {
  createSequentialTest,
  expectedProofs,
  type ProofOutcome,
  resumeSequentialTest,
  type SequentialState,
  type SequentialTerms,
} from '../../lib/sequential'
import { randomness } from './power-simulation'

const TOLERANT = { falseSlash: 0.01, missedCheat: 0.05, honestRejection: 0.02, cheatRejection: 0.1 }
const EXACT = { falseSlash: 0.001, missedCheat: 0.01, honestRejection: 0, cheatRejection: 0.25 }
const invalid = expect.objectContaining({ name: 'PocError', code: 'INVALID_ARGUMENT' })

const anyTerms: fc.Arbitrary<SequentialTerms> = fc
  .tuple(fc.constantFrom(0, 0.001, 0.05, 0.3), fc.constantFrom(0.02, 0.3, 0.69, 1), fc.constantFrom(0.001, 0.1, 0.4))
  .chain(([p0, step, error]) =>
    fc.record({
      falseSlash: fc.constantFrom(error, 0.01),
      missedCheat: fc.constantFrom(error, 0.05),
      honestRejection: fc.constant(p0),
      cheatRejection: fc.constant(Math.min(1, p0 + step)),
    }),
  )
const anyOutcomes = fc.array(fc.constantFrom<ProofOutcome>('accepted', 'rejected', 'inconclusive'), { maxLength: 60 })

/** Runs tests to their ends against a generator whose proofs are rejected with probability `rejection`. */
function runs(terms: SequentialTerms, rejection: number, count: number, seed: number) {
  const { coin } = randomness(seed)
  const total = { slash: 0, clear: 0, proofs: 0 }
  for (let run = 0; run < count; run++) {
    const sequential = createSequentialTest(terms)
    let decision = sequential.decision
    for (; decision === 'keep watching'; total.proofs++)
      decision = sequential.push(coin(rejection) ? 'rejected' : 'accepted')
    total[decision]++
  }
  return { slash: total.slash / count, clear: total.clear / count, proofs: total.proofs / count }
}

describe('error rates', () => {
  const RUNS = 2000
  const margin = (rate: number) => 4 * Math.sqrt((rate * (1 - rate)) / RUNS)

  test.each<[string, SequentialTerms]>([
    ['tolerant', TOLERANT],
    ['bit-equal', EXACT],
    ['a cheat that is nearly always rejected', { ...TOLERANT, falseSlash: 1e-3, cheatRejection: 0.9 }],
    ['rates close together', { falseSlash: 0.05, missedCheat: 0.05, honestRejection: 0.1, cheatRejection: 0.2 }],
    ['a cheat that is always rejected', { ...TOLERANT, honestRejection: 0.3, cheatRejection: 1 }],
  ])('are kept and the number of proofs is as expected: %s', (_what, terms) => {
    const honest = runs(terms, terms.honestRejection, RUNS, 1)
    const cheating = runs(terms, terms.cheatRejection, RUNS, 2)
    expect(honest.slash).toBeLessThanOrEqual(terms.falseSlash + margin(terms.falseSlash))
    expect(cheating.clear).toBeLessThanOrEqual(terms.missedCheat + margin(terms.missedCheat))
    expect(honest.clear).toBeGreaterThan(0.9)
    expect(cheating.slash).toBeGreaterThan(0.9)
    const proofs = expectedProofs(terms)
    const { honestRejection: p0, cheatRejection: p1 } = terms
    const decidesAlone = p0 === 0 || p1 === 1
    const [up, down] = [Math.log(p1 / p0), Math.log((1 - p0) / (1 - p1))]
    // Wald's approximation leaves out how far the last proof goes beyond a bound, which is one step at most.
    const beyond = decidesAlone ? [0, 0] : [down / ((1 - p0) * down - p0 * up), up / (p1 * up - (1 - p1) * down)]
    expect(honest.proofs).toBeGreaterThan(0.95 * proofs.honest)
    expect(honest.proofs).toBeLessThan(1.05 * (proofs.honest + beyond[0]))
    expect(cheating.proofs).toBeGreaterThan(0.95 * proofs.cheating)
    expect(cheating.proofs).toBeLessThan(1.05 * (proofs.cheating + beyond[1]))
  })

  test('are kept where an honest generator is better than p0, and a cheat worse than p1', () => {
    expect(runs(TOLERANT, 0.01, RUNS, 3).slash).toBeLessThanOrEqual(TOLERANT.falseSlash)
    expect(runs(TOLERANT, 0.3, RUNS, 4).clear).toBeLessThanOrEqual(TOLERANT.missedCheat)
  })
})

describe('decisions', () => {
  test('in bit-equal numerics, one rejection slashes, and so many acceptances clear as a cheat would not get', () => {
    const test = createSequentialTest(EXACT)
    const needed = proofsNeeded(EXACT.cheatRejection, 1 - EXACT.missedCheat)
    expect(needed).toBe(17) // 0.75^16 > 0.01 > 0.75^17
    for (let i = 1; i < needed; i++) expect(test.push('accepted')).toBe('keep watching')
    expect(resumeSequentialTest(test.state).push('rejected')).toBe('slash')
    expect(test.push('accepted')).toBe('clear')
    expect(expectedProofs(EXACT).honest).toBe(needed)
  })

  test('of a share of minus zero are those of zero', () => {
    expect(createSequentialTest({ ...EXACT, honestRejection: -0 }).push('rejected')).toBe('slash')
  })

  test('by hand: ratios of 5 and 45/49 against bounds of 100 and 1/20', () => {
    const terms = { ...TOLERANT, cheatRejection: 0.1 }
    const test = createSequentialTest(terms)
    expect(test.push('rejected')).toBe('keep watching') // 5
    expect(test.push('rejected')).toBe('keep watching') // 25
    expect(test.push('accepted')).toBe('keep watching') // 22.96
    expect(test.push('rejected')).toBe('slash') // 114.8
    const other = createSequentialTest(terms)
    for (let i = 1; i <= 35; i++) expect(other.push('accepted')).toBe('keep watching') // (0.9 / 0.98)^35 = 0.0508
    expect(other.push('accepted')).toBe('clear') // 0.0467
  })

  test('are final, and what comes after them is not counted', () => {
    const test = createSequentialTest(EXACT)
    test.push('rejected')
    const { state } = test
    expect(test.push('accepted')).toBe('slash')
    expect(test.push('inconclusive')).toBe('slash')
    expect(test.state).toBe(state)
    expect(() => test.push('x' as ProofOutcome)).toThrow(invalid)
  })

  test('do not depend on inconclusive proofs, which are counted', () => {
    fc.assert(
      fc.property(anyTerms, anyOutcomes, (terms, outcomes) => {
        const [all, some] = [createSequentialTest(terms), createSequentialTest(terms)]
        let counted = 0
        for (const outcome of outcomes) {
          if (all.decision === 'keep watching' && outcome === 'inconclusive') counted++
          all.push(outcome)
          if (outcome !== 'inconclusive') some.push(outcome)
        }
        expect(all.state).toEqual({ ...some.state, inconclusive: counted })
      }),
    )
  })

  test('are those of the likelihood ratio, multiplied out', () => {
    fc.assert(
      fc.property(anyTerms, anyOutcomes, (terms, outcomes) => {
        const { falseSlash, missedCheat, honestRejection: p0, cheatRejection: p1 } = terms
        const test = createSequentialTest(terms)
        let ratio = 1
        for (const outcome of outcomes) {
          if (outcome === 'rejected') ratio *= p1 / p0
          if (outcome === 'accepted') ratio *= (1 - p1) / (1 - p0)
          if (Math.abs(ratio * falseSlash - 1) < 1e-9 || Math.abs(ratio / missedCheat - 1) < 1e-9) return
          const decision = test.push(outcome)
          expect(decision).toBe(ratio > 1 / falseSlash ? 'slash' : ratio < missedCheat ? 'clear' : 'keep watching')
          if (decision !== 'keep watching') return
        }
      }),
    )
  })
})

describe('states', () => {
  test('survive JSON: a test that is resumed after every proof decides as one that is not', () => {
    fc.assert(
      fc.property(anyTerms, anyOutcomes, (terms, outcomes) => {
        const whole = createSequentialTest(terms)
        let resumed = createSequentialTest(terms)
        for (const outcome of outcomes) {
          resumed = resumeSequentialTest(JSON.parse(JSON.stringify(resumed.state)) as SequentialState)
          expect(resumed.push(outcome)).toBe(whole.push(outcome))
          expect(resumed.state).toEqual(whole.state)
        }
      }),
    )
  })

  test('do not change when a test goes on', () => {
    const test = createSequentialTest(TOLERANT)
    const { state } = test
    test.push('rejected')
    expect(state).toMatchObject({ rejected: 0, decision: 'keep watching' })
    expect(Object.isFrozen(test.state)).toBe(true)
  })

  const good: SequentialState = createSequentialTest(TOLERANT).state
  test.each<[string, unknown]>([
    ['no state', null],
    ['no terms', { accepted: 0, rejected: 0, inconclusive: 0, decision: 'keep watching' }],
    ['a negative count', { ...good, accepted: -1 }],
    ['a fraction of a proof', { ...good, rejected: 0.5 }],
    ['a missing count', { ...good, inconclusive: undefined }],
    ['a decision that the counts do not give', { ...good, decision: 'clear' }],
    ['a decision that the counts would have given', { ...good, rejected: 50 }],
  ])('with %s are refused', (_what, state) => {
    expect(() => resumeSequentialTest(state as SequentialState)).toThrow(invalid)
  })
})

test.each<[string, unknown]>([
  ['no terms', undefined],
  ['no alpha', { ...TOLERANT, falseSlash: undefined }],
  ['alpha 0', { ...TOLERANT, falseSlash: 0 }],
  ['beta 1', { ...TOLERANT, missedCheat: 1 }],
  ['p0 below 0', { ...TOLERANT, honestRejection: -0.1 }],
  ['p0 1', { ...TOLERANT, honestRejection: 1 }],
  ['p1 not above p0', { ...TOLERANT, cheatRejection: 0.02 }],
  ['p1 above 1', { ...TOLERANT, cheatRejection: 1.1 }],
  ['p1 a string', { ...TOLERANT, cheatRejection: '0.1' }],
  ['a NaN', { ...TOLERANT, honestRejection: Number.NaN }],
])('terms with %s are refused', (_what, terms) => {
  expect(() => createSequentialTest(terms as SequentialTerms)).toThrow(invalid)
  expect(() => expectedProofs(terms as SequentialTerms)).toThrow(invalid)
})
