import fc from 'fast-check'
import { PocError } from '../../lib/errors'
import * as payoff from '../../lib/payoff'
import { createTerms, lintTerms, type Terms, type TermsInput } from '../../lib/terms'

// Table 1 once more, in fractions and straight from the paper: [num, den] with no rounding until the end.
type Q = readonly [bigint, bigint]
const q = (n: bigint): Q => [n, 1n]
const plus = (...all: Q[]): Q => all.reduce(([a, b], [c, d]) => [a * d + c * b, b * d] as const)
const minus = (x: Q, [c, d]: Q): Q => plus(x, [-c, d])
const times = (...all: Q[]): Q => all.reduce(([a, b], [c, d]) => [a * c, b * d] as const)
function whole([n, d]: Q): bigint {
  if (n % d !== 0n) throw new Error(`${n}/${d} is not whole`)
  return n / d
}

function table(terms: Terms, stages: number) {
  const a: Q = [terms.alpha.num, terms.alpha.den]
  const b: Q = [terms.beta.num, terms.beta.den]
  const cg = q(terms.generationCost)
  const cv = q(terms.verificationCost)
  const k = q(BigInt(stages))
  return {
    initialPool: whole(plus(times(a, cg), times(a, cv), times(b, cg))),
    pool: whole(plus(times(a, cg), times(a, cv), times(b, cg), times(k, b, cv))),
    generatorPaid: whole(times(plus(a, b), cg)),
    confirmsGenerator: whole(times(plus(a, times(k, b)), cv)),
    matchedEarlier: whole(times(plus(a, b), cv)),
    confirmsVerifier: whole(plus(times(b, cg), times(minus(times(minus(k, q(1n)), b), a), cv))),
    confirmsVerifierNet: whole(plus(times(b, cg), times(minus(times(minus(k, q(2n)), b), a), cv))),
    userBack: whole(times(a, plus(cg, cv))),
    verification: whole(times(a, cv)),
    service: whole(times(a, cg)),
    generatorStake: whole(times(b, cg)),
    stake: whole(times(b, cv)),
  }
}

const terms = fc
  .record({
    alpha: fc.tuple(fc.bigInt(1n, 40n), fc.bigInt(1n, 12n)),
    beta: fc.tuple(fc.bigInt(1n, 40n), fc.bigInt(1n, 12n)),
    g: fc.oneof(fc.bigInt(1n, 50n), fc.bigInt(1n, 10n ** 30n)),
    v: fc.oneof(fc.bigInt(1n, 50n), fc.bigInt(1n, 10n ** 30n)),
    maxStages: fc.integer({ min: 2, max: 9 }),
    onDeadlock: fc.constantFrom('return-deposits', 'confirm-generator', 'refund-user'),
  })
  .map(({ alpha, beta, g, v, maxStages, onDeadlock }): TermsInput => {
    const scale = alpha[1] * beta[1]
    return { alpha, beta, generationCost: g * scale, verificationCost: v * scale, maxStages, onDeadlock }
  })
  .filter((input) => !lintTerms(input).some(({ severity }) => severity === 'error'))
  .map(createTerms)

const ids = (n: number) => Array.from({ length: n }, (_, i) => `v${i + 1}`)
const deal = terms.chain((t) =>
  fc.record({
    terms: fc.constant(t),
    k: fc.integer({ min: 0, max: t.maxStages }),
    released: fc.constantFrom<string[]>([], ['r1'], ['r1', 'r2', 'r3']),
    pick: fc.nat(),
  }),
)

const paid = (settlement: payoff.Settlement) =>
  Object.fromEntries(settlement.payouts.map(({ party, amount }) => [party, amount]))
const total = (settlement: payoff.Settlement, key: 'amount' | 'deposit' | 'net') =>
  settlement.payouts.reduce((sum, payout) => sum + payout[key], 0n)

function expectEmptied(settlement: payoff.Settlement, pool: bigint): void {
  expect(settlement.pool).toBe(pool)
  expect(total(settlement, 'amount')).toBe(pool)
  expect(total(settlement, 'deposit')).toBe(pool)
  expect(total(settlement, 'net')).toBe(0n)
  expect(settlement.payouts.every(({ amount, deposit, net }) => amount >= 0n && net === amount - deposit)).toBe(true)
  expect(new Set(settlement.payouts.map(({ party }) => party)).size).toBe(settlement.payouts.length)
}

describe('Table 1, against the formulas in fractions', () => {
  test('no challenge', () => {
    fc.assert(
      fc.property(terms, (t) => {
        const row = table(t, 0)
        const settlement = payoff.settleNoChallenge(t)
        expect(paid(settlement)).toEqual({ user: row.verification, generator: row.generatorPaid })
        expect([settlement.case, settlement.stage]).toEqual(['no_challenge', 0])
        expectEmptied(settlement, row.initialPool)
      }),
    )
  })

  test('V_k confirms the generator', () => {
    fc.assert(
      fc.property(deal, ({ terms: t, k: some, released }) => {
        const k = Math.max(some, 1)
        const row = table(t, k)
        const settlement = payoff.settleGeneratorConfirmed(t, { verifiers: ids(k), released })
        const expected: Record<string, bigint> = { user: 0n, generator: row.generatorPaid }
        for (const id of ids(k)) expected[id] = id === `v${k}` ? row.confirmsGenerator : 0n
        for (const id of released) expected[id] = row.stake
        expect(paid(settlement)).toEqual(expected)
        expect([settlement.case, settlement.stage]).toEqual(['generator_confirmed', k])
        expectEmptied(settlement, row.pool + BigInt(released.length) * row.stake)
      }),
    )
  })

  test('V_k confirms an earlier verifier; its net has k - 2 where its payout has k - 1', () => {
    fc.assert(
      fc.property(deal, ({ terms: t, k: some, released, pick }) => {
        const k = Math.max(some, 2)
        const matched = `v${1 + (pick % (k - 1))}`
        const row = table(t, k)
        const settlement = payoff.settleVerifierConfirmed(t, { verifiers: ids(k), released }, matched)
        const expected: Record<string, bigint> = { user: row.userBack, generator: 0n }
        for (const id of ids(k)) expected[id] = 0n
        for (const id of released) expected[id] = row.stake
        expected[matched] = row.matchedEarlier
        expected[`v${k}`] = row.confirmsVerifier
        expect(paid(settlement)).toEqual(expected)
        expect(settlement.payouts.find(({ party }) => party === `v${k}`)?.net).toBe(row.confirmsVerifierNet)
        expect([settlement.case, settlement.stage]).toEqual(['verifier_confirmed', k])
        expectEmptied(settlement, row.pool + BigInt(released.length) * row.stake)
      }),
    )
  })
})

describe('what the table leaves open', () => {
  test('each deadlock rule empties the pool', () => {
    fc.assert(
      fc.property(deal, ({ terms: t, k, released }) => {
        const row = table(t, k)
        const settlement = payoff.settleDeadlock(t, { verifiers: ids(k), released })
        const lapses = k === 0 && t.onDeadlock !== 'refund-user'
        const [user, generator, verifier] = {
          'return-deposits': [row.userBack, row.generatorStake, row.stake],
          'confirm-generator': [row.verification, row.generatorPaid, row.stake],
          'refund-user': [row.userBack + BigInt(k) * row.stake, row.generatorStake, 0n],
        }[lapses ? 'confirm-generator' : t.onDeadlock]
        const expected: Record<string, bigint> = { user, generator }
        for (const id of ids(k)) expected[id] = verifier
        for (const id of released) expected[id] = row.stake
        expect(paid(settlement)).toEqual(expected)
        expect([settlement.case, settlement.stage]).toEqual([lapses ? 'lapsed' : 'deadlock', k])
        expectEmptied(settlement, row.pool + BigInt(released.length) * row.stake)
      }),
    )
  })

  test('a lapsed challenge pays as no challenge does, and the user the stakes of failed verifiers', () => {
    fc.assert(
      fc.property(deal, ({ terms: t, k, released }) => {
        const row = table(t, 0)
        const failed = ids(k)
        const settlement = payoff.settleLapsed(t, { verifiers: [], released, failed })
        const expected: Record<string, bigint> = {
          user: row.verification + BigInt(k) * row.stake,
          generator: row.generatorPaid,
        }
        for (const id of failed) expected[id] = 0n
        for (const id of released) expected[id] = row.stake
        expect(paid(settlement)).toEqual(expected)
        expect(paid(payoff.settleLapsed(t))).toEqual(paid(payoff.settleNoChallenge(t)))
        expectEmptied(settlement, row.initialPool + BigInt(k + released.length) * row.stake)
      }),
    )
    const one = createTerms({ alpha: '1', beta: '1', generationCost: 1, verificationCost: 1, maxStages: 2 })
    expect(() => payoff.settleLapsed(one, { verifiers: ['v1'] })).toThrow(PocError)
  })

  test('a refund gives back what was deposited', () => {
    fc.assert(
      fc.property(terms, fc.boolean(), fc.boolean(), (t, user, generator) => {
        const row = table(t, 0)
        const settlement = payoff.settleRefund(t, { user, generator })
        expect(settlement.payouts.map(({ net }) => net)).toEqual([0n, 0n])
        expectEmptied(settlement, (user ? row.userBack : 0n) + (generator ? row.generatorStake : 0n))
      }),
    )
  })

  test('verification never costs the user more than alpha Cv, and a refuted result costs nothing', () => {
    fc.assert(
      fc.property(deal, ({ terms: t, k, released }) => {
        const stages = (least: number) => ({ verifiers: ids(Math.max(k, least)), released })
        const row = table(t, k)
        const settlements: [payoff.Settlement, bigint][] = [
          [payoff.settleNoChallenge(t), row.service],
          [payoff.settleGeneratorConfirmed(t, stages(1)), row.service + row.verification],
          [payoff.settleVerifierConfirmed(t, stages(2), 'v1'), 0n],
          [payoff.settleLapsed(t), row.service],
          [payoff.settleDeadlock(t, stages(1)), t.onDeadlock === 'confirm-generator' ? row.service : 0n],
        ]
        for (const [{ payouts }, most] of settlements) expect(-payouts[0].net <= most).toBe(true)
      }),
    )
  })
})

describe('arguments', () => {
  const good: TermsInput = { alpha: '1', beta: '1', generationCost: 100, verificationCost: 10, maxStages: 3 }
  const refused = (action: () => unknown, code = 'INVALID_ARGUMENT') => {
    expect(action).toThrow(PocError)
    expect(action).toThrow(expect.objectContaining({ code }))
  }

  test('stages must be distinct verifiers, as many as the case needs and the terms allow', () => {
    refused(() => payoff.settleGeneratorConfirmed(good, { verifiers: [] }))
    refused(() => payoff.settleVerifierConfirmed(good, { verifiers: ['a'] }, 'a'))
    for (const verifiers of [
      ['a', 'a'],
      ['a', 'user'],
      ['generator', 'a'],
      ['a', ''],
      ['a', 'b', 'c', 'd'],
    ]) {
      refused(() => payoff.settleGeneratorConfirmed(good, { verifiers }))
      refused(() => payoff.settleDeadlock(good, { verifiers }))
    }
    refused(() => payoff.settleDeadlock(good, { verifiers: ['a'], released: ['a'] }))
    for (const stages of [undefined, {}, { verifiers: 'ab' }, { verifiers: [], released: 3 }, { verifiers: [7] }]) {
      refused(() => payoff.settleDeadlock(good, stages as unknown as payoff.DisputeStages))
    }
  })

  test('the matched verifier comes before the last', () => {
    const stages = { verifiers: ['a', 'b'], released: ['r'] }
    for (const matched of ['b', 'r', 'c', 'generator']) {
      refused(() => payoff.settleVerifierConfirmed(good, stages, matched))
    }
    expect(payoff.settleVerifierConfirmed(good, stages, 'a').case).toBe('verifier_confirmed')
  })

  test('terms are checked again, since they can be made by hand', () => {
    refused(() => payoff.settleNoChallenge({ ...good, alpha: '1/3' }), 'TERMS_INVALID')
    refused(() => payoff.settleDeadlock({ ...good, alpha: '12' }, { verifiers: [] }), 'TERMS_INVALID')
  })

  test('ids like those of object members are plain ids', () => {
    const verifiers = ['__proto__', 'constructor', 'toString']
    const settlement = payoff.settleVerifierConfirmed(good, { verifiers }, 'constructor')
    expect(settlement.payouts.map(({ amount }) => amount)).toEqual([110n, 0n, 0n, 20n, 110n])
  })

  test('the JSON form has decimal strings', () => {
    const { payouts, ...rest } = payoff.settlementToJson(payoff.settleNoChallenge(good))
    expect(rest).toEqual({ case: 'no_challenge', stage: 0, pool: '210' })
    expect(payouts[0]).toMatchObject({ party: 'user', amount: '10', deposit: '110', net: '-100' })
    expect(payouts[0].reason).toMatch(/^pays for the service/)
  })
})
