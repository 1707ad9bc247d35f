import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import * as dispute from '../../lib/dispute'
import type { DisputeEvent, DisputeState } from '../../lib/dispute'
import { PocError } from '../../lib/errors'
import { settlementToJson } from '../../lib/payoff'
import {
  createTerms,
  type DeadlockRule,
  parseTerms,
  type Terms,
  type TermsInput,
  termsAmounts,
  termsDeposits,
} from '../../lib/terms'

const { advance, disputeToJson, openDispute, parseDispute, parseHistory, replay } = dispute
const PROOF = '70'.repeat(32)
const digest = (n: number) => n.toString(16).padStart(2, '0').repeat(32)

// user deposits 1144, generator 500, each verifier 20
const TERMS: TermsInput = { alpha: '1.1', beta: '1/2', generationCost: 1000, verificationCost: 40, maxStages: 3 }
const DELIVERED: DisputeEvent[] = [
  { type: 'deposit', party: 'generator', amount: 500n },
  { type: 'deposit', party: 'user', amount: 1144n },
  { type: 'delivery', proofDigest: PROOF },
]
const CHALLENGED: DisputeEvent[] = [...DELIVERED, { type: 'challenge' }]
const joins = (verifier: string): DisputeEvent => ({ type: 'join', verifier, stake: 20n })
type Status = 'accepted' | 'rejected' | 'inconclusive'
const says = (verifier: string, status: Status, samples: number): DisputeEvent[] => [
  joins(verifier),
  { type: 'verdict', verifier, status, samplesDigest: digest(samples), proofDigest: PROOF },
]
const after = (...events: DisputeEvent[]) => replay(TERMS, events)
const paid = (state: DisputeState) =>
  Object.fromEntries(state.settlement?.payouts.map(({ party, amount }) => [party, Number(amount)]) ?? [])

function expectInvalid(action: () => unknown): void {
  expect(action).toThrow(PocError)
  expect(action).toThrow(expect.objectContaining({ code: 'DISPUTE_INVALID' }))
}

describe('committed vectors', () => {
  const file = join(__dirname, '../vectors/payoffs.json')
  const { vectors } = JSON.parse(readFileSync(file, 'utf8')) as {
    vectors: { name: string; terms: unknown; history: unknown; settlement: object }[]
  }
  test.each(vectors.map((vector) => [vector.name, vector] as const))('%s', (_, { terms, history, settlement }) => {
    const state = replay(parseTerms(terms), parseHistory(history))
    if (!state.settlement) throw new Error('not settled')
    const json = settlementToJson(state.settlement)
    expect({ ...json, payouts: json.payouts.map(({ reason, ...rest }) => rest) }).toEqual(settlement)
  })
})

describe('the worked example of docs/PAYOFFS.md', () => {
  test('its terms and history give its settlement', () => {
    const page = readFileSync(join(__dirname, '../../docs/PAYOFFS.md'), 'utf8')
    const [terms, history, settlement] = [...page.matchAll(/```json\n([\s\S]*?)```/g)].map(([, json]) =>
      JSON.parse(json),
    )
    const state = replay(parseTerms(terms), parseHistory(history))
    expect(state.settlement && settlementToJson(state.settlement)).toEqual(settlement)
  })
})

describe('agreement', () => {
  test('an accepting verifier agrees with the generator at once', () => {
    expect(after(...CHALLENGED, ...says('a', 'accepted', 1)).settlement?.case).toBe('generator_confirmed')
  })

  test('rejecting verifiers agree when they recomputed the same samples', () => {
    const one = after(...CHALLENGED, ...says('a', 'rejected', 1))
    expect([one.phase, one.settlement]).toEqual(['verifier', null])
    const two = after(...CHALLENGED, ...says('a', 'rejected', 1), ...says('b', 'rejected', 1))
    expect([two.settlement?.case, two.settlement?.stage]).toEqual(['verifier_confirmed', 2])
    const other = after(...CHALLENGED, ...says('a', 'rejected', 1), ...says('b', 'rejected', 2))
    expect([other.phase, other.pool]).toEqual(['verifier', 1684n])
  })

  test('one that agrees with both counts for the generator', () => {
    const state = after(...CHALLENGED, ...says('a', 'rejected', 1), ...says('b', 'accepted', 1))
    expect(state.settlement?.case).toBe('generator_confirmed')
    expect(paid(state)).toEqual({ user: 0, generator: 1600, a: 0, b: 84 })
  })

  test('an inconclusive verdict agrees with nobody, even on equal samples', () => {
    const state = after(...CHALLENGED, ...says('a', 'inconclusive', 1), ...says('b', 'rejected', 1))
    expect([state.phase, state.settlement]).toEqual(['verifier', null])
    const settled = after(...state.history, ...says('c', 'inconclusive', 1), ...says('d', 'rejected', 1))
    expect(paid(settled)).toEqual({ user: 1144, generator: 0, b: 64, d: 476, a: 20, c: 20 })
  })
})

describe('deadlock', () => {
  const apart = [...says('a', 'rejected', 1), ...says('b', 'rejected', 2), ...says('c', 'rejected', 3)]

  test('comes with the last stage, not before', () => {
    expect(after(...CHALLENGED, ...apart.slice(0, -2)).phase).toBe('verifier')
    const state = after(...CHALLENGED, ...apart)
    expect([state.phase, state.pool, state.settlement?.case]).toEqual(['settled', 0n, 'deadlock'])
    expect(paid(state)).toEqual({ user: 1144, generator: 500, a: 20, b: 20, c: 20 })
  })

  test('without any verdict is none: the challenge lapses, unless the terms presume the user right', () => {
    const leaves: DisputeEvent[] = [joins('a'), { type: 'withdrawal', verifier: 'a' }]
    const late: DisputeEvent = { type: 'timeout', phase: 'verifier' }
    for (const events of [[late], [...leaves, late]]) {
      const ends = (onDeadlock: DeadlockRule) => replay({ ...TERMS, onDeadlock }, [...CHALLENGED, ...events])
      const released = events.length > 1 ? { a: 20 } : {}
      for (const rule of ['return-deposits', 'confirm-generator'] as const) {
        expect([ends(rule).settlement?.case, ends(rule).settlement?.stage]).toEqual(['lapsed', 0])
        expect(paid(ends(rule))).toEqual({ user: 44, generator: 1600, ...released })
      }
      expect(ends('refund-user').settlement?.case).toBe('deadlock')
      expect(paid(ends('refund-user'))).toEqual({ user: 1144, generator: 500, ...released })
    }
  })

  test('comes when no further verifier does', () => {
    const state = after(...CHALLENGED, ...says('a', 'rejected', 1), { type: 'timeout', phase: 'verifier' })
    expect([state.settlement?.case, state.settlement?.stage]).toEqual(['deadlock', 1])
  })

  test('verifiers that decide nothing use up no stage, but there is an end to them', () => {
    const leave = (id: string): DisputeEvent[] => [joins(id), { type: 'withdrawal', verifier: id }]
    const many = Array.from({ length: dispute.MAX_VERIFIERS }, (_, i) => leave(`v${i}`)).flat()
    expect(after(...CHALLENGED, ...many.slice(0, -2)).phase).toBe('verifier')
    const state = after(...CHALLENGED, ...many)
    expect([state.settlement?.case, state.settlement?.stage]).toEqual(['lapsed', 0])
    expect(state.settlement?.payouts.slice(2).every(({ net }) => net === 0n)).toBe(true)
  })
})

describe('events', () => {
  test('each phase allows its own', () => {
    const walk = [...CHALLENGED, ...says('a', 'rejected', 1), ...says('b', 'accepted', 2)]
    const seen = walk.map((_, i) => after(...walk.slice(0, i))).concat(after(...walk))
    expect(seen.map(({ phase, pool, next }) => [phase, Number(pool), next.join(' ')])).toEqual([
      ['deposits', 0, 'deposit timeout'],
      ['deposits', 500, 'deposit timeout'],
      ['delivery', 1644, 'delivery timeout'],
      ['challenge', 1644, 'acceptance challenge timeout'],
      ['verifier', 1644, 'join timeout'],
      ['verdict', 1664, 'verdict refusal withdrawal timeout'],
      ['verifier', 1664, 'join timeout'],
      ['verdict', 1684, 'verdict refusal withdrawal timeout'],
      ['settled', 0, ''],
    ])
  })

  const good = says('a', 'rejected', 1)[1] as DisputeEvent & { type: 'verdict' }
  test.each<[string, DisputeEvent[], unknown]>([
    ['a deposit of another amount', [], { type: 'deposit', party: 'user', amount: 1143n }],
    ['a second deposit', DELIVERED.slice(0, 1), DELIVERED[0]],
    ['a deposit by another', [], { type: 'deposit', party: 'a', amount: 20n }],
    ['a delivery before both deposits', DELIVERED.slice(0, 1), DELIVERED[2]],
    ['a digest that is none', DELIVERED.slice(0, 2), { type: 'delivery', proofDigest: PROOF.toUpperCase().slice(1) }],
    ['a challenge before there is a result', DELIVERED.slice(0, 2), { type: 'challenge' }],
    ['a verifier without a challenge', DELIVERED, joins('a')],
    ['another stake', CHALLENGED, { ...joins('a'), stake: 21n }],
    ['a verifier called user', CHALLENGED, joins('user')],
    ['a verifier called generator', CHALLENGED, joins('generator')],
    ['a verifier with a blank in its id', CHALLENGED, joins('a b')],
    ['a verifier that joins again', [...CHALLENGED, ...says('a', 'rejected', 1)], joins('a')],
    ['one that was released and joins again', [...CHALLENGED, ...says('a', 'inconclusive', 1)], joins('a')],
    ['two verifiers at once', [...CHALLENGED, joins('a')], joins('b')],
    ["another's verdict", [...CHALLENGED, joins('a')], { ...good, verifier: 'b' }],
    ["another's withdrawal", [...CHALLENGED, joins('a')], { type: 'withdrawal', verifier: 'b' }],
    ['a verdict on another proof', [...CHALLENGED, joins('a')], { ...good, proofDigest: digest(1) }],
    ['a verdict of no known status', [...CHALLENGED, joins('a')], { ...good, status: 'maybe' }],
    ['a verdict without its samples', [...CHALLENGED, joins('a')], { ...good, samplesDigest: undefined }],
    ['a timeout of another phase', CHALLENGED, { type: 'timeout', phase: 'verdict' }],
    ['anything once settled', [...DELIVERED, { type: 'acceptance' }], { type: 'challenge' }],
    ['a timeout once settled', [...DELIVERED, { type: 'acceptance' }], { type: 'timeout', phase: 'settled' }],
    ['an unknown event', [], { type: 'bribe' }],
    ['an inherited name', [], { type: 'constructor' }],
    ['no event', [], null],
  ])('refused: %s', (_, history, event) => {
    const state = after(...history)
    const before = JSON.stringify(dispute.disputeToJson(state))
    expectInvalid(() => advance(state, event as DisputeEvent))
    expect(JSON.stringify(dispute.disputeToJson(state))).toBe(before)
  })

  test('a malformed history is refused, and the error names the event', () => {
    for (const json of [null, {}, 'events', [null], [[]], [{ type: 'deposit' }]])
      expectInvalid(() => parseHistory(json))
    expect(() => after(...DELIVERED, joins('a'))).toThrow('history[3].type must be acceptance or challenge or timeout')
    expect(() => parseHistory([{ type: 'challenge' }, { type: 'x' }])).toThrow('history[1].type')
    for (const json of [null, 3, {}, { terms: TERMS }]) expect(() => dispute.parseDispute(json)).toThrow(PocError)
    fc.assert(
      fc.property(fc.anything(), (json) => {
        try {
          parseHistory(json)
        } catch (error) {
          expect(error).toMatchObject({ code: 'DISPUTE_INVALID' })
        }
      }),
    )
  })

  test('a whole verdict can be spread into its event; keys that are no fields are dropped', () => {
    const verdict = { version: 1, reasons: [], matched: [], ...good, at: '2030-01-01' }
    const state = after(...CHALLENGED, joins('a'), verdict)
    expect(state.history.at(-1)).toEqual(good)
  })

  test('callers cannot change the rules through a state', () => {
    expect(() => (openDispute(TERMS).next as string[]).push('verdict')).toThrow('not extensible')
    expectInvalid(() => after({ type: 'challenge' }))
  })
})

const termsArbitrary = fc
  .record({
    alpha: fc.tuple(fc.bigInt(1n, 9n), fc.bigInt(1n, 9n)),
    beta: fc.tuple(fc.bigInt(1n, 9n), fc.bigInt(1n, 9n)),
    g: fc.bigInt(1n, 10n ** 20n),
    v: fc.bigInt(1n, 10n ** 20n),
    maxStages: fc.integer({ min: 1, max: 6 }),
    onDeadlock: fc.constantFrom('return-deposits', 'confirm-generator', 'refund-user'),
  })
  .map(({ alpha, beta, g, v, maxStages, onDeadlock }): Terms | null => {
    const scale = alpha[1] * beta[1]
    try {
      const input = { alpha, beta, generationCost: g * scale, verificationCost: v * scale, maxStages, onDeadlock }
      return createTerms(input as TermsInput)
    } catch {
      return null // insolvent
    }
  })
  .filter((terms): terms is Terms => terms !== null)

// A choice becomes an event that fits the state, or a `wrong` one; few ids and digests, so that they meet.
const choiceArbitrary = fc.record({
  event: fc.nat({ max: 11 }),
  wrong: fc.constantFrom(true, false, false, false),
  id: fc.nat({ max: 11 }),
  samples: fc.nat({ max: 5 }),
  status: fc.constantFrom<Status>('accepted', 'rejected', 'rejected', 'rejected', 'rejected', 'inconclusive'),
})
type Choice = typeof choiceArbitrary extends fc.Arbitrary<infer T> ? T : never

function eventOf(state: DisputeState, { event, wrong, id, samples, status }: Choice): DisputeEvent {
  const right = { deposits: 'deposit', delivery: 'delivery', challenge: 'challenge', verifier: 'join' } as const
  const any = ['deposit', 'delivery', 'challenge', 'join', 'verdict', 'timeout'] as const
  const amounts = termsDeposits(state.terms)
  const party = id % 2 === 0 ? 'user' : 'generator'
  const latest = state.verifiers.at(-1)?.id ?? 'v0'
  if (event === 0 && !wrong) return { type: 'timeout', phase: id < 4 ? state.phase : 'verdict' }
  switch (wrong ? any[event % any.length] : right[state.phase as keyof typeof right]) {
    case 'deposit':
      return { type: 'deposit', party, amount: wrong ? BigInt(samples) : amounts[party] }
    case 'delivery':
      return { type: 'delivery', proofDigest: PROOF }
    case 'challenge':
      return { type: event === 1 ? 'acceptance' : 'challenge' }
    case 'join':
      return { type: 'join', verifier: `v${id}`, stake: wrong ? BigInt(samples) : amounts.verifier }
    case 'timeout':
      return { type: 'timeout', phase: 'settled' }
    default: {
      const verifier = wrong ? `v${id}` : latest
      if (event === 2) return { type: 'withdrawal', verifier }
      const proofDigest = wrong ? digest(samples) : PROOF
      return { type: 'verdict', verifier, status, samplesDigest: digest(samples), proofDigest }
    }
  }
}

function frozen<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) Object.freeze(value)
  if (typeof value === 'object' && value !== null) for (const inner of Object.values(value)) frozen(inner)
  return value
}

/** Plays the choices and keeps what was allowed; a refused event must leave a frozen state usable. */
function play(terms: Terms, choices: Choice[]): { state: DisputeState; states: DisputeState[] } {
  let state = frozen(openDispute(terms))
  const states = [state]
  for (const choice of choices) {
    try {
      state = frozen(advance(state, eventOf(state, choice)))
      states.push(state)
    } catch (error) {
      expect(error).toMatchObject({ code: 'DISPUTE_INVALID' })
    }
  }
  return { state, states }
}

// The outcome read off a finished history by other means: no states, only who said what.
function outcome(terms: Terms, events: readonly DisputeEvent[]): string {
  const verdicts = events.flatMap((event) =>
    event.type === 'verdict' && event.status !== 'inconclusive' ? [event] : [],
  )
  const digests = verdicts.map(({ samplesDigest }) => samplesDigest)
  if (!events.some(({ type }) => type === 'delivery')) return 'refunded 0'
  if (!events.some(({ type }) => type === 'challenge')) return 'no_challenge 0'
  if (verdicts.some(({ status }) => status === 'accepted')) return `generator_confirmed ${verdicts.length}`
  if (new Set(digests).size < digests.length) return `verifier_confirmed ${verdicts.length}`
  expect(verdicts.length <= terms.maxStages).toBe(true)
  return verdicts.length > 0 || terms.onDeadlock === 'refund-user' ? `deadlock ${verdicts.length}` : 'lapsed 0'
}

describe('random terms and histories', () => {
  const cases = fc.tuple(termsArbitrary, fc.array(choiceArbitrary, { minLength: 1, maxLength: 40, size: 'max' }))
  const options = { numRuns: 300 }
  const allCases = ['no_challenge', 'generator_confirmed', 'verifier_confirmed', 'deadlock', 'lapsed', 'refunded']

  test('the pool holds exactly what was deposited, and a settlement empties it to the unit', () => {
    const reached = new Set<string>()
    fc.assert(
      fc.property(cases, ([terms, choices]) => {
        const { state } = play(terms, choices)
        const amounts = state.history.map((event) => {
          return event.type === 'deposit' ? event.amount : event.type === 'join' ? event.stake : 0n
        })
        const deposited = amounts.reduce((sum, amount) => sum + amount, 0n)
        if (!state.settlement) return expect(state.pool).toBe(deposited)
        reached.add(state.settlement.case)
        const { payouts, pool, case: kind, stage } = state.settlement
        expect([state.pool, pool, state.next]).toEqual([0n, deposited, []])
        expect(payouts.reduce((sum, { amount }) => sum + amount, 0n)).toBe(deposited)
        expect(payouts.every(({ amount, deposit, net }) => amount >= 0n && net === amount - deposit)).toBe(true)
        expect(`${kind} ${stage}`).toBe(outcome(terms, state.history))
      }),
      options,
    )
    expect([...reached].sort()).toEqual([...allCases].sort())
  })

  test('beyond the price of a service that stands, the user loses at most alpha Cv', () => {
    fc.assert(
      fc.property(cases, ([terms, choices]) => {
        const { settlement } = play(terms, choices).state
        if (!settlement) return
        const { servicePayment, verificationPayment, verifierStake } = termsAmounts(terms)
        const [user, generator] = settlement.payouts
        const price = generator.net > 0n ? servicePayment : 0n
        expect(generator.net).toBe(
          price > 0n ? price : settlement.case === 'verifier_confirmed' ? -generator.deposit : 0n,
        )
        const verification = -user.net - price
        expect(verification <= verificationPayment).toBe(true)
        expect(verification === verificationPayment).toBe(settlement.case === 'generator_confirmed')
        if (settlement.case === 'verifier_confirmed' || settlement.case === 'refunded') expect(user.net).toBe(0n)
        const compensated = settlement.case === 'deadlock' && terms.onDeadlock === 'refund-user'
        const gain = compensated ? BigInt(settlement.stage) * verifierStake : 0n
        expect(-verification).toBe(settlement.case === 'generator_confirmed' ? -verificationPayment : gain)
      }),
      options,
    )
  })

  test('replaying gives the same as stepping, and JSON in the middle changes nothing', () => {
    fc.assert(
      fc.property(cases, fc.nat(), ([terms, choices], cut) => {
        const { state, states } = play(terms, choices)
        expect(replay(terms, state.history)).toEqual(state)
        const middle = states[cut % states.length]
        const text = JSON.stringify(dispute.disputeToJson(middle))
        const revived = dispute.parseDispute(JSON.parse(text))
        expect(revived).toEqual(middle)
        expect(JSON.stringify(dispute.disputeToJson(revived))).toBe(text)
        const rest = state.history.slice(middle.history.length)
        expect(rest.reduce(advance, revived)).toEqual(state)
      }),
      options,
    )
  })

  test('a settled dispute allows nothing more', () => {
    fc.assert(
      fc.property(cases, choiceArbitrary, ([terms, choices], more) => {
        const { state } = play(terms, choices)
        if (state.settlement) expectInvalid(() => advance(state, eventOf(state, more)))
      }),
      options,
    )
  })
})

describe('a delivery that names the model', () => {
  const [user, generator] = DELIVERED.slice(0, 2)
  const named = [user, generator, { type: 'delivery', proofDigest: PROOF, modelDigest: digest(7) } as const]
  const open = [...named, { type: 'challenge' } as DisputeEvent, joins('a')]
  const rejects = (modelDigest?: string) => ({ ...says('a', 'rejected', 1)[1], modelDigest }) as DisputeEvent

  test('takes verdicts of that model only', () => {
    expect(replay(TERMS, [...open, rejects(digest(7))]).phase).toBe('verifier')
    for (const other of [digest(8), undefined]) {
      expect(() => replay(TERMS, [...open, rejects(other)])).toThrow(
        expect.objectContaining({ code: 'DISPUTE_INVALID', where: `history[${open.length}].modelDigest` }),
      )
    }
  })

  test('keeps the name through JSON', () => {
    const state = replay(TERMS, open)
    expect(parseDispute(JSON.parse(JSON.stringify(disputeToJson(state))))).toEqual(state)
  })
})
