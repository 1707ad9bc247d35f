import fc from 'fast-check'
import { PocError } from '../../lib/errors'
import { createTerms, formatRatio, lintTerms, MAX_STAGES, parseAmount, parseRatio, parseTerms } from '../../lib/terms'
import { type TermsInput, termsAmounts, termsDeposits, termsToJson } from '../../lib/terms'

const GOOD: TermsInput = {
  alpha: '11/10',
  beta: '1/2',
  generationCost: '1000',
  verificationCost: 40,
  maxStages: 3,
}

function codeOf(action: () => unknown): string {
  try {
    action()
  } catch (error) {
    if (error instanceof PocError) return error.code
    throw error
  }
  return 'none'
}

const codes = (input: TermsInput, assumptions = {}) => lintTerms(input, assumptions).map(({ code }) => code)

describe('ratios', () => {
  test.each([
    ['1/10', 1n, 10n],
    ['0.1', 1n, 10n],
    ['10/100', 1n, 10n],
    ['0.10', 1n, 10n],
    ['3', 3n, 1n],
    ['0', 0n, 1n],
    ['1.25', 5n, 4n],
    [[6n, 4n], 3n, 2n],
    [{ num: 2n, den: 20n }, 1n, 10n],
    [`${'9'.repeat(78)}/1`, 10n ** 78n - 1n, 1n],
  ])('%p is read exactly', (value, num, den) => {
    expect(parseRatio(value)).toEqual({ num, den })
    expect(formatRatio(parseRatio(value))).toBe(`${num}/${den}`)
  })

  test.each([
    ['', 'a', '1/', '/2', '.5', '1.', '-1', '+1', '1e3', ' 1', '1 /2', '1/2/3', '1.5/2', '0x1', '١'],
    [0.1, 1, NaN, null, undefined, true, 1n],
    ['1/0', '0/0', [1n, 0n], [-1n, 2n], [1n, -2n], { num: 1n, den: 0n }],
    [[], [1n], [1n, 2n, 3n], [1, 2], {}, { num: 1, den: 2 }, () => 1],
    ['9'.repeat(79), `1/${'9'.repeat(79)}`, `0.${'1'.repeat(79)}`, [10n ** 78n, 1n], `1.${'1'.repeat(78)}`],
  ])('other forms are refused with the given code', (...values) => {
    for (const value of values) {
      expect([value, codeOf(() => parseRatio(value))]).toEqual([value, 'INVALID_ARGUMENT'])
      expect(codeOf(() => parseRatio(value, 'alpha', 'TERMS_INVALID'))).toBe('TERMS_INVALID')
    }
  })

  test('the canonical text is in lowest terms and reads back the same', () => {
    fc.assert(
      fc.property(fc.bigInt(0n, 10n ** 30n), fc.bigInt(1n, 10n ** 30n), (num, den) => {
        const ratio = parseRatio([num, den])
        expect(ratio.num * den).toBe(num * ratio.den)
        expect(parseRatio(formatRatio(ratio))).toEqual(ratio)
        expect(parseRatio([num * 6n, den * 6n])).toEqual(ratio)
      }),
    )
  })

  test('anything at all is a ratio or a PocError', () => {
    fc.assert(fc.property(fc.anything({ withBigInt: true }), (value) => void codeOf(() => parseRatio(value))))
    fc.assert(fc.property(fc.anything({ withBigInt: true }), (value) => void codeOf(() => parseTerms(value))))
  })
})

describe('amounts', () => {
  test('decimal strings, bigints and safe integers are exact', () => {
    expect(parseAmount('0')).toBe(0n)
    expect(parseAmount('9'.repeat(78))).toBe(10n ** 78n - 1n)
    expect(parseAmount(Number.MAX_SAFE_INTEGER)).toBe(9007199254740991n)
    expect(parseAmount(7n)).toBe(7n)
  })

  test('other forms are refused', () => {
    for (const value of [
      '',
      '01',
      '-1',
      '1.0',
      '1e3',
      '9'.repeat(79),
      10n ** 78n,
      -1n,
      -1,
      0.5,
      2 ** 53,
      null,
      [],
      {},
    ]) {
      expect([value, codeOf(() => parseAmount(value))]).toEqual([value, 'INVALID_ARGUMENT'])
    }
  })
})

describe('terms', () => {
  test('the JSON form is canonical and reads back the same', () => {
    const terms = createTerms({ ...GOOD, alpha: '1.10', beta: [5n, 10n] })
    const json = termsToJson(terms)
    expect(json).toEqual({
      alpha: '11/10',
      beta: '1/2',
      generationCost: '1000',
      verificationCost: '40',
      maxStages: 3,
      onDeadlock: 'return-deposits',
    })
    expect(parseTerms(JSON.parse(JSON.stringify(json)))).toEqual(terms)
    expect(Object.isFrozen(terms)).toBe(true)
  })

  test('the products and deposits', () => {
    expect(termsAmounts(createTerms(GOOD))).toEqual({
      servicePayment: 1100n,
      verificationPayment: 44n,
      generatorStake: 500n,
      verifierStake: 20n,
    })
    expect(termsDeposits(createTerms(GOOD))).toEqual({ user: 1144n, generator: 500n, verifier: 20n })
  })

  test.each([
    ['alpha * generationCost', { generationCost: 1002, alpha: '1/5' }],
    ['alpha * verificationCost', { verificationCost: 42 }],
    ['beta * generationCost', { beta: '1/3', verificationCost: 30, alpha: '1' }],
    ['beta * verificationCost', { beta: '1/8', verificationCost: 20 }],
  ])('%s must be whole', (name, change) => {
    expect(() => createTerms({ ...GOOD, ...change })).toThrow(`${name} must be a whole number of units`)
    expect(codeOf(() => createTerms({ ...GOOD, ...change }))).toBe('TERMS_INVALID')
  })

  test.each([
    [{ alpha: 1.1 }],
    [{ alpha: '0' }],
    [{ beta: '0' }],
    [{ beta: '-1/2' }],
    [{ generationCost: 0 }],
    [{ verificationCost: 0 }],
    [{ generationCost: '1e3' }],
    [{ alpha: `${'9'.repeat(78)}` }],
    [{ maxStages: 0 }],
    [{ maxStages: MAX_STAGES + 1 }],
    [{ maxStages: 1.5 }],
    [{ maxStages: '3' }],
    [{ onDeadlock: 'coin-toss' }],
    [{ onDeadlock: null }],
    [{ ondeadlock: 'refund-user' }],
  ])('%p is refused', (change) => {
    expect(codeOf(() => parseTerms({ ...GOOD, ...change }))).toBe('TERMS_INVALID')
  })

  test('each field but onDeadlock must be there', () => {
    for (const key of Object.keys(GOOD)) {
      const { [key as keyof TermsInput]: _, ...rest } = GOOD
      expect(() => parseTerms(rest)).toThrow(`terms.${key} must be given`)
    }
    for (const value of [null, undefined, 'terms', [], 3]) expect(codeOf(() => parseTerms(value))).toBe('TERMS_INVALID')
  })
})

// alpha = beta = 1 unless said otherwise, so that the boundaries can be read off: alpha Cv = Cv, beta Cg = Cg.
const unit = (change: Partial<TermsInput> = {}): TermsInput => ({
  alpha: '1',
  beta: '1',
  generationCost: 1000,
  verificationCost: 10,
  maxStages: 2,
  ...change,
})

describe('linter', () => {
  test('sound terms have no findings', () => {
    expect(lintTerms(unit())).toEqual([])
  })

  test('insolvent: V_2 would be paid less than nothing; beta Cg + beta Cv = alpha Cv is still solvent', () => {
    // beta = 1: pays 30 + Cv - alpha Cv; with alpha = 4 and Cv = 10 that is exactly 0.
    const edge = unit({ generationCost: 30, alpha: '4' })
    expect(codes(edge)).toEqual(['verifier_underpaid'])
    expect(codeOf(() => createTerms(edge))).toBe('none')
    const over = unit({ generationCost: 29, alpha: '4' })
    expect(lintTerms(over)[0]).toEqual({
      code: 'insolvent',
      severity: 'error',
      message: 'V_2 would be paid -1 for confirming V_1',
    })
    expect(() => createTerms(over)).toThrow('these terms cannot be settled: V_2 would be paid -1')
    expect(codeOf(() => createTerms({ ...over, maxStages: 1 }))).toBe('none')
  })

  test('verifier_underpaid: the paper promises alpha Cv, which needs beta Cg >= 2 alpha Cv', () => {
    expect(codes(unit({ generationCost: 20 }))).toEqual([])
    expect(lintTerms(unit({ generationCost: 19 }))).toEqual([
      { code: 'verifier_underpaid', severity: 'warning', message: 'V_2 nets 9 by confirming V_1, alpha Cv is 10' },
    ])
  })

  test('never_slashed: one stage', () => {
    expect(codes(unit({ maxStages: 1 }))).toEqual(['never_slashed'])
    expect(codes(unit({ maxStages: 2 }))).toEqual([])
  })

  test('user_loss_above_limit: by default a check may not cost more than the service', () => {
    expect(codes(unit({ beta: '2', verificationCost: 1000 }))).toEqual([])
    expect(codes(unit({ beta: '3', verificationCost: 1001 }))).toEqual(['user_loss_above_limit'])
    expect(codes(unit(), { userLossLimit: 10 })).toEqual([])
    expect(codes(unit(), { userLossLimit: '9' })).toEqual(['user_loss_above_limit'])
  })

  test('cheating_pays: c d (alpha + beta) Cg must exceed the gain', () => {
    const given = (cheatingGain: number) => ({
      challengeProbability: '1/10',
      detectionProbability: '0.9',
      cheatingGain,
    })
    expect(codes(unit(), given(179))).toEqual([])
    expect(lintTerms(unit(), given(180))).toEqual([
      { code: 'cheating_pays', severity: 'warning', message: 'cheating gains 180, the expected penalty is 18000/100' },
    ])
  })

  test('cheating_pays: one stage takes the payment only, and not even that if deadlocks confirm the generator', () => {
    const always = (cheatingGain: number) => ({ challengeProbability: '1', detectionProbability: '1', cheatingGain })
    const single = (onDeadlock: TermsInput['onDeadlock']) => unit({ maxStages: 1, onDeadlock })
    for (const rule of ['return-deposits', 'refund-user'] as const) {
      expect(codes(single(rule), always(999))).toEqual(['never_slashed'])
      expect(codes(single(rule), always(1000))).toEqual(['never_slashed', 'cheating_pays'])
    }
    expect(codes(single('confirm-generator'), always(0))).toEqual(['never_slashed', 'cheating_pays'])
  })

  test('verifier_work_unpaid: the least that a correct verifier nets must cover its work', () => {
    expect(codes(unit(), { verifierWorkCost: 10 })).toEqual([])
    expect(codes(unit(), { verifierWorkCost: 11 })).toEqual(['verifier_work_unpaid'])
    const poor = unit({ generationCost: 19 })
    expect(codes(poor, { verifierWorkCost: 9 })).toEqual(['verifier_underpaid'])
    expect(codes(poor, { verifierWorkCost: 10 })).toEqual(['verifier_underpaid', 'verifier_work_unpaid'])
    expect(codes({ ...poor, maxStages: 1 }, { verifierWorkCost: 10 })).toEqual(['never_slashed'])
  })

  test.each([
    [{ challengeProbability: '1' }],
    [{ challengeProbability: '1', detectionProbability: '1' }],
    [{ cheatingGain: 1 }],
    [{ challengeProbability: '11/10', detectionProbability: '1', cheatingGain: 1 }],
    [{ challengeProbability: '1', detectionProbability: 0.5, cheatingGain: 1 }],
    [{ verifierWorkCost: -1 }],
    [{ userLossLimit: 'much' }],
    [{ workCost: 1 }],
    [null],
  ])('the assumptions %p are refused', (assumptions) => {
    expect(codeOf(() => lintTerms(unit(), assumptions as object))).toBe('INVALID_ARGUMENT')
  })

  test('findings agree with the inequalities, multiplied out', () => {
    const small = fc.bigInt(1n, 60n)
    fc.assert(
      fc.property(small, small, small, small, (a, b, cg, cv) => {
        const found = codes(unit({ alpha: [a, 1n], beta: [b, 1n], generationCost: cg, verificationCost: cv }))
        expect(found.includes('insolvent')).toBe(b * cg + (b - a) * cv < 0n)
        expect(found.includes('verifier_underpaid')).toBe(b * cg < 2n * a * cv)
        expect(found.includes('user_loss_above_limit')).toBe(cv > cg)
      }),
    )
  })
})
