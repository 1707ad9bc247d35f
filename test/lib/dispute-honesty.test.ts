// Disputes with blind verifiers, canaries, commitments opened by a beacon, and agreement within a tolerance.
import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { type LayerDigest, runningDigests } from '../../lib/agreement'
import { drawChallenge } from '../../lib/challenge'
import {
  advance,
  type DisputeEvent,
  type DisputeState,
  disputeToJson,
  openDispute,
  parseDispute,
} from '../../lib/dispute'
import { replay } from '../../lib/dispute'
import { PocError } from '../../lib/errors'
import { MAX_SEED_BYTES } from '../../lib/limits'
import { blindProof, claimedResult, sealSubject, sealVerdict } from '../../lib/seal'
import { createTerms, type HonestyRule, lintTerms, type Terms, type TermsInput, termsDeposits } from '../../lib/terms'
import { termsToJson } from '../../lib/terms'
import { handMadeProof, layerOf } from './hand-made-proof'

const hash = (n: number) => n.toString(16).padStart(2, '0').repeat(32)
const { proof, plan } = handMadeProof()
const PROOF = hash(0x70)
const truth = runningDigests([...plan.layers.keys()].map((layer) => layerOf(plan, layer)))
const claimed = claimedResult(proof)
const subject = sealSubject(blindProof(proof))
/** What a claim and an opening are compared by, as docs/PAYOFFS.md has it. */
function resultOf(digests: readonly LayerDigest[]): string {
  const words = Uint32Array.from([digests.length, ...digests.map(([layer]) => layer)])
  const last = Buffer.from((digests.at(-1) as LayerDigest)[1], 'hex')
  const tag = 'proof-of-cache/v1/sealed-result\0'
  return createHash('sha256').update(tag).update(Buffer.from(words.buffer)).update(last).digest('hex')
}
/** What a verifier seals that computed something else, from some layer on. */
const invented = (n: number): LayerDigest[] => truth.map(([layer, digest], i) => [layer, i < 1 ? digest : hash(n)])

// user deposits 1144, generator 500, each verifier 20
const BASE: TermsInput = { alpha: '1.1', beta: '1/2', generationCost: 1000, verificationCost: 40, maxStages: 3 }
const BLIND: TermsInput = { ...BASE, honesty: 'blind' }
const CANARIES: TermsInput = { ...BASE, honesty: 'canaries' }
const DEPOSITED: DisputeEvent[] = [
  { type: 'deposit', party: 'generator', amount: 500n },
  { type: 'deposit', party: 'user', amount: 1144n },
]
const delivery = (fields: object = { proofDigest: PROOF, resultDigest: claimed, subject }) => {
  return { type: 'delivery', ...fields } as DisputeEvent
}
const CHALLENGED: DisputeEvent[] = [...DEPOSITED, delivery(), { type: 'challenge' }]
const join = (verifier: string): DisputeEvent => ({ type: 'join', verifier, stake: 20n })
const says = (verifier: string, status: 'accepted' | 'rejected', samples: number, agreesWith?: string) => {
  const verdict = { type: 'verdict', verifier, status, samplesDigest: hash(samples), proofDigest: PROOF, agreesWith }
  return [join(verifier), verdict as DisputeEvent]
}
/** A whole turn of a blind verifier. */
function blindTurn(
  verifier: string,
  digests: readonly LayerDigest[],
  refuted = false,
  about = subject,
): DisputeEvent[] {
  const sealed = sealVerdict({ verifier, subject: about, digests, refuted })
  return [
    join(verifier),
    { type: 'seal', verifier, seal: sealed.seal },
    { type: 'reveal', verifier, opening: sealed.opening },
  ]
}
const paid = ({ settlement }: DisputeState) =>
  Object.fromEntries(settlement?.payouts.map(({ party, amount }) => [party, Number(amount)]) ?? [])

function expectInvalid(terms: TermsInput, history: DisputeEvent[], event: unknown, where = ''): void {
  const state = replay(terms, history)
  expect(() => advance(state, event as DisputeEvent)).toThrow(PocError)
  expect(() => advance(state, event as DisputeEvent)).toThrow(
    expect.objectContaining({ code: 'DISPUTE_INVALID', where: expect.stringContaining(where) }),
  )
}

describe('blind verifiers', () => {
  test('walk through their phases', () => {
    const walk = [...blindTurn('a', invented(1)), ...blindTurn('b', truth)]
    const states = walk.map((_, i) => replay(BLIND, [...CHALLENGED, ...walk.slice(0, i + 1)]))
    const turn = ['seal: seal refusal canary withdrawal timeout', 'reveal: reveal canary withdrawal timeout']
    const expected = [...turn, 'verifier: join timeout', ...turn, 'settled: ']
    expect(states.map(({ phase, next }) => `${phase}: ${next.join(' ')}`)).toEqual(expected)
    expect(paid(states[5])).toEqual({ user: 0, generator: 1600, a: 0, b: 84 })
  })

  test('confirm the generator by having sealed what it claims, whatever words they use', () => {
    const state = replay(BLIND, [...CHALLENGED, ...blindTurn('a', truth)])
    expect([state.settlement?.case, state.verifiers[0].status]).toEqual(['generator_confirmed', 'accepted'])
    expectInvalid(BLIND, [...CHALLENGED, join('a')], says('a', 'accepted', 1)[1], 'type')
  })

  test('that made something up have rejected, agree with nobody, and lose to the first that computed', () => {
    const lazy = [...CHALLENGED, ...blindTurn('a', invented(1)), ...blindTurn('b', invented(2))]
    expect(replay(BLIND, lazy).verifiers.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
    expect(paid(replay(BLIND, [...lazy, ...blindTurn('c', truth)]))).toEqual({
      user: 0,
      generator: 1600,
      a: 0,
      b: 0,
      c: 104,
    })
  })

  test('refute a generator that claims other samples, by agreeing with each other', () => {
    const forged = [...DEPOSITED, delivery({ proofDigest: PROOF, resultDigest: hash(9), subject }), CHALLENGED[3]]
    const state = replay(BLIND, [...forged, ...blindTurn('a', truth), ...blindTurn('b', truth)])
    expect(state.settlement?.case).toBe('verifier_confirmed')
  })

  test('refute tokens that the model would not choose, although all samples are as claimed', () => {
    const one = replay(BLIND, [...CHALLENGED, ...blindTurn('a', truth, true)])
    expect([one.phase, one.verifiers[0].status]).toEqual(['verifier', 'rejected'])
    const two = replay(BLIND, [...one.history, ...blindTurn('b', truth, true)])
    expect(two.settlement?.case).toBe('verifier_confirmed')
  })

  test('cannot open what they did not seal, nor seal for another', () => {
    const [joins, sealing, revealing] = blindTurn('a', truth)
    const other = blindTurn('b', truth)
    const sealed = [...CHALLENGED, joins, sealing]
    expectInvalid(BLIND, sealed, { ...blindTurn('a', truth)[2] }, 'opening') // other salt
    expectInvalid(BLIND, sealed, { ...other[2], verifier: 'a' }, 'opening.verifier')
    expectInvalid(BLIND, sealed, other[2], 'verifier')
    expectInvalid(BLIND, sealed, { ...revealing, opening: { verifier: 'a' } }, 'opening')
    expectInvalid(BLIND, [...CHALLENGED, joins], other[1], 'verifier')
    expectInvalid(BLIND, [...CHALLENGED, joins], revealing, 'type') // a reveal before the seal
    expectInvalid(BLIND, [...CHALLENGED, joins], { ...sealing, seal: 'ab' }, 'seal')
    // The seal of an earlier verifier, published once more, opens for that verifier only.
    const copied = [...CHALLENGED, ...blindTurn('x', invented(1)), joins]
    const seen = copied.find(({ type }) => type === 'seal') as DisputeEvent & { type: 'seal' }
    const opened = copied.find(({ type }) => type === 'reveal') as DisputeEvent & { type: 'reveal' }
    const withCopy = [...copied, { ...seen, verifier: 'a' }]
    expectInvalid(BLIND, withCopy, { ...opened, verifier: 'a' }, 'opening.verifier')
    expectInvalid(
      BLIND,
      withCopy,
      { ...opened, verifier: 'a', opening: { ...opened.opening, verifier: 'a' } },
      'opening',
    )
  })

  test('are held to the proof that was delivered: nobody is slashed for having recomputed another', () => {
    const opened = blindTurn('a', truth, false, hash(8))
    expectInvalid(BLIND, [...CHALLENGED, ...opened.slice(0, 2)], opened[2], 'opening.subject')
    const left = [...CHALLENGED, ...opened.slice(0, 2), { type: 'withdrawal', verifier: 'a' } as const]
    expect(paid(replay(BLIND, [...left, ...blindTurn('b', truth)]))).toMatchObject({ a: 20, generator: 1600 })
    expectInvalid(BLIND, DEPOSITED, delivery({ proofDigest: PROOF, resultDigest: claimed }), 'subject')
  })

  test('are compared over all layers of the plan, by a digest that is no use to who has nothing else', () => {
    expect(claimed).toBe(resultOf(truth))
    const last = truth[truth.length - 1]
    const [layer] = last
    for (const sealed of [
      [[0, claimed]], // the digest that the delivery shows
      [...truth.slice(0, -1), [layer, claimed]],
      [last], // all samples, but not as the plan has them
      truth.slice(1),
      truth.slice(0, -1),
      [...truth, [layer + 1, last[1]]],
    ] as LayerDigest[][]) {
      const state = replay(BLIND, [...CHALLENGED, ...blindTurn('a', sealed)])
      expect([state.phase, state.verifiers[0].status]).toEqual(['verifier', 'rejected'])
    }
  })

  test('refuse, before they seal, what nobody can recompute', () => {
    const refuses = (verifier: string, fields: object = { subject }) =>
      [join(verifier), { type: 'refusal', verifier, reason: 'unknown_sampler', ...fields }] as DisputeEvent[]
    const state = replay(BLIND, [...CHALLENGED, ...refuses('a'), ...refuses('b')])
    expect([state.settlement?.case, paid(state)]).toEqual([
      'verifier_confirmed',
      { user: 1144, generator: 0, a: 64, b: 476 },
    ])
    const joined = [...CHALLENGED, join('a')]
    for (const fields of [{}, { proofDigest: PROOF }, { subject: hash(8) }]) {
      expectInvalid(BLIND, joined, refuses('a', fields)[1], 'subject')
    }
    expectInvalid(BLIND, [...CHALLENGED, ...blindTurn('a', truth).slice(0, 2)], refuses('a')[1], 'type')
  })

  test('that leave before they opened have claimed nothing', () => {
    const turn = blindTurn('a', truth)
    for (const events of [turn.slice(0, 1), turn.slice(0, 2)]) {
      const { phase } = replay(BLIND, [...CHALLENGED, ...events])
      for (const leaving of [{ type: 'withdrawal', verifier: 'a' } as const, { type: 'timeout', phase } as const]) {
        const state = replay(BLIND, [...CHALLENGED, ...events, leaving, ...blindTurn('b', truth)])
        expect(paid(state)).toEqual({ user: 0, generator: 1600, b: 64, a: 20 })
      }
    }
  })

  test('need the digest of the claimed samples, and terms that ask for them', () => {
    expectInvalid(BLIND, DEPOSITED, delivery({ proofDigest: PROOF }), 'resultDigest')
    const beacon = [...DEPOSITED, delivery({ root: hash(3) }), CHALLENGED[3], { type: 'beacon', beacon: '01' } as const]
    expectInvalid(BLIND, beacon, { type: 'opening', proofDigest: PROOF }, 'resultDigest')
    expectInvalid(BLIND, beacon, { type: 'opening', proofDigest: PROOF, resultDigest: claimed }, 'subject')
    for (const terms of [BASE, CANARIES])
      expectInvalid(terms, [...CHALLENGED, join('a')], blindTurn('a', truth)[1], 'type')
  })
})

describe('canaries', () => {
  const canary = (verifier: string, passed: boolean) =>
    ({ type: 'canary', verifier, proofDigest: hash(0x77), passed }) as DisputeEvent

  test('that were found change nothing', () => {
    const state = replay(CANARIES, [...CHALLENGED, join('a'), canary('a', true), canary('a', true)])
    expect([state.phase, state.verifiers[0].status]).toEqual(['verdict', 'working'])
    const settled = replay(CANARIES, [...state.history, says('a', 'accepted', 1)[1]])
    expect(paid(settled)).toEqual({ user: 0, generator: 1600, a: 64 })
  })

  const failed = [...CHALLENGED, join('lazy'), canary('lazy', false)]

  test('that were not take the stake, use up no stage, and pay whoever decides', () => {
    const state = replay(CANARIES, failed)
    expect([state.phase, state.verifiers[0]]).toEqual([
      'verifier',
      { id: 'lazy', status: 'failed', samplesDigest: null },
    ])
    const confirmed = replay(CANARIES, [...failed, ...says('a', 'accepted', 1)])
    expect(paid(confirmed)).toEqual({ user: 0, generator: 1600, a: 84, lazy: 0 })
    expect(confirmed.settlement?.stage).toBe(1)
    const refuted = replay(CANARIES, [...failed, ...says('a', 'rejected', 1), ...says('b', 'rejected', 1)])
    expect(paid(refuted)).toEqual({ user: 1144, generator: 0, a: 64, b: 496, lazy: 0 })
  })

  test('may be given to blind verifiers too, before or after they seal', () => {
    const turn = blindTurn('a', truth)
    for (const length of [1, 2]) {
      const before = [...CHALLENGED, ...turn.slice(0, length)]
      const passed = replay(BLIND, [...before, canary('a', true), ...turn.slice(length)])
      expect(paid(passed)).toEqual({ user: 0, generator: 1600, a: 64 })
      const caught = replay(BLIND, [...before, canary('a', false), ...blindTurn('b', truth)])
      expect(paid(caught)).toEqual({ user: 0, generator: 1600, b: 84, a: 0 })
    }
  })

  test.each([
    ['return-deposits', { user: 1164, generator: 500, a: 20, lazy: 0 }],
    ['confirm-generator', { user: 64, generator: 1600, a: 20, lazy: 0 }],
    ['refund-user', { user: 1184, generator: 500, a: 0, lazy: 0 }],
  ] as const)('in a deadlock the stake goes to the user: %s', (onDeadlock, payouts) => {
    const end: DisputeEvent[] = [...says('a', 'rejected', 1), { type: 'timeout', phase: 'verifier' }]
    const state = replay({ ...CANARIES, onDeadlock }, [...failed, ...end])
    expect([state.settlement?.case, paid(state)]).toEqual(['deadlock', payouts])
  })

  test('are for the verifier at work, on another proof than the delivered one, and where terms say so', () => {
    const joined = [...CHALLENGED, join('a')]
    expectInvalid(CANARIES, joined, canary('b', false), 'verifier')
    expectInvalid(CANARIES, joined, { ...canary('a', false), proofDigest: PROOF }, 'proofDigest')
    expectInvalid(CANARIES, joined, { ...canary('a', false), passed: 'no' }, 'passed')
    expectInvalid(CANARIES, CHALLENGED, canary('a', false), 'type')
    expectInvalid(CANARIES, failed, join('lazy'), 'verifier')
    expectInvalid(BASE, joined, canary('a', false), 'type')
  })
})

describe('commitments', () => {
  const COMMITTED = [...DEPOSITED, delivery({ root: hash(3), modelDigest: hash(4) })]
  const beacon: DisputeEvent = { type: 'beacon', beacon: 'beac04' }
  const opening: DisputeEvent = { type: 'opening', proofDigest: PROOF }
  const claimOf = (hex: string): Parameters<typeof drawChallenge> => {
    return [{ header: { ...proof.header, challenge: 'beacon' }, tokens: proof.tokens, root: hash(3) }, hex]
  }

  test('are opened only after a challenge, where the beacon says', () => {
    expect(replay(BASE, [...COMMITTED, { type: 'acceptance' }]).settlement?.case).toBe('no_challenge')
    const walk = [...COMMITTED, { type: 'challenge' } as const, beacon, opening]
    const phases = walk.map((_, i) => replay(BASE, walk.slice(0, i + 1)).phase)
    expect(phases.slice(2)).toEqual(['challenge', 'beacon', 'opening', 'verifier'])
    const state = replay(BASE, walk)
    const found = [state.root, state.beacon, state.proofDigest, state.modelDigest]
    expect(found).toEqual([hash(3), 'beac04', PROOF, hash(4)])
    const verdict = { ...says('a', 'accepted', 1)[1], modelDigest: hash(4) } as DisputeEvent
    expect(replay(BASE, [...walk, join('a'), verdict]).settlement?.case).toBe('generator_confirmed')
  })

  test('that are not opened cost what being refuted costs; who gives no beacon withdraws the challenge', () => {
    const challenged = [...COMMITTED, { type: 'challenge' } as const]
    const withheld = replay(BASE, [...challenged, beacon, { type: 'timeout', phase: 'opening' }])
    expect([withheld.settlement?.case, withheld.pool]).toEqual(['withheld', 0n])
    expect(paid(withheld)).toEqual({ user: 1644, generator: 0 })
    for (const onDeadlock of ['return-deposits', 'confirm-generator', 'refund-user'] as const) {
      const lapsed = replay({ ...BASE, onDeadlock }, [...challenged, { type: 'timeout', phase: 'beacon' }])
      expect([lapsed.settlement?.case, paid(lapsed)]).toEqual(['lapsed', { user: 44, generator: 1600 }])
      expect(paid(lapsed)).toEqual(paid(replay(BASE, [...COMMITTED, { type: 'acceptance' }])))
    }
  })

  test('come without a proof, which would be opened for a beacon of the generator; one of the two must come', () => {
    expectInvalid(BASE, DEPOSITED, delivery({ root: hash(3), proofDigest: PROOF }), 'proofDigest')
    expectInvalid(BASE, DEPOSITED, delivery({}), 'proofDigest')
    expectInvalid(BASE, [...COMMITTED, CHALLENGED[3]], opening, 'type')
    // A beacon that open() refuses would slash a generator that cannot answer it.
    const longest = { type: 'beacon', beacon: 'ab'.repeat(MAX_SEED_BYTES) } as const
    expect(replay(BASE, [...COMMITTED, CHALLENGED[3], longest]).phase).toBe('opening')
    expect(drawChallenge(...claimOf(longest.beacon)).beacon).toBe(longest.beacon)
    expect(() => drawChallenge(...claimOf(`${longest.beacon}ab`))).toThrow(PocError)
    for (const wrong of ['', 'abc', 'AB', `${longest.beacon}ab`, 7]) {
      expectInvalid(BASE, [...COMMITTED, CHALLENGED[3]], { type: 'beacon', beacon: wrong }, 'beacon')
    }
  })
})

describe('agreement within a tolerance', () => {
  test('is what the event names, since digests cannot agree', () => {
    const apart = [...CHALLENGED, ...says('a', 'rejected', 1), ...says('b', 'rejected', 2)]
    const state = replay(BASE, [...apart, ...says('c', 'rejected', 3, 'a')])
    expect(state.settlement?.case).toBe('verifier_confirmed')
    expect(paid(state)).toEqual({ user: 1144, generator: 0, a: 64, b: 0, c: 496 })
    const accepted = replay(BASE, [...apart, ...says('c', 'accepted', 3, 'a')])
    expect(accepted.settlement?.case).toBe('generator_confirmed')
  })

  test('is with an earlier verifier that rejected', () => {
    const one = [
      ...CHALLENGED,
      ...says('a', 'rejected', 1),
      join('gone'),
      { type: 'withdrawal', verifier: 'gone' } as const,
    ]
    for (const other of ['b', 'gone', 'nobody', 'user']) {
      expectInvalid(BASE, [...one, join('b')], says('b', 'rejected', 2, other)[1], 'agreesWith')
    }
  })
})

describe('terms', () => {
  test('honesty is kept in JSON, left out where there is none, and one of two', () => {
    for (const honesty of ['blind', 'canaries'] as HonestyRule[]) {
      const terms = createTerms({ ...BASE, honesty })
      expect(termsToJson(terms)).toMatchObject({ honesty })
      expect(createTerms(JSON.parse(JSON.stringify(termsToJson(terms))))).toEqual(terms)
    }
    expect(termsToJson(createTerms(BASE))).not.toHaveProperty('honesty')
    for (const wrong of ['', 'both', true, null]) {
      expect(() => createTerms({ ...BASE, honesty: wrong as HonestyRule })).toThrow('honesty must be')
    }
  })

  test('echoing_pays: q (alpha + beta) Cv must exceed the work, unless there is nothing to echo', () => {
    const codes = (terms: TermsInput, canaryProbability: string, verifierWorkCost: number) =>
      lintTerms(terms, { canaryProbability, verifierWorkCost }).map(({ code }) => code)
    // alpha Cv + beta Cv = 64
    expect(codes(CANARIES, '1/8', 7)).toEqual([])
    expect(codes(CANARIES, '1/8', 8)).toEqual(['echoing_pays'])
    expect(codes(BASE, '1', 1)).toEqual(['echoing_pays']) // nothing is lost by failing
    expect(codes(BLIND, '0', 40)).toEqual([])
    for (const wrong of [{ canaryProbability: '1/8' }, { canaryProbability: '9/8', verifierWorkCost: 1 }]) {
      expect(() => lintTerms(CANARIES, wrong)).toThrow(PocError)
    }
  })
})

// A choice becomes an event that fits the phase, or one of another; few ids and results, so that they meet.
const choice = fc.record({ kind: fc.nat({ max: 9 }), id: fc.nat({ max: 9 }), result: fc.nat({ max: 3 }) })
type Choice = typeof choice extends fc.Arbitrary<infer T> ? T : never
const ruleOf = fc.record({
  alpha: fc.constantFrom('1.1', '3/4', '2'),
  beta: fc.constantFrom('1/2', '5/4', '3'),
  verificationCost: fc.constantFrom(20, 40, 300),
  honesty: fc.constantFrom<HonestyRule | undefined>('blind', 'canaries', undefined),
  onDeadlock: fc.constantFrom('return-deposits' as const, 'confirm-generator' as const, 'refund-user' as const),
  maxStages: fc.integer({ min: 1, max: 4 }),
  committed: fc.boolean(),
})
const REASONS = ['context_overflow', 'unknown_sampler'] as const
const results = [truth, invented(1), invented(2), invented(3)]
const digestOf = (n: number) => (results[n].at(-1) as LayerDigest)[1]

function eventsFor(state: DisputeState, committed: boolean, { kind, id, result }: Choice): unknown {
  const { user, generator, verifier: stake } = termsDeposits(state.terms)
  const verifier = state.verifiers.at(-1)?.id ?? 'v0'
  const proofFields = { proofDigest: PROOF, resultDigest: resultOf(results[id < 5 ? 0 : 1]), subject }
  if (kind === 9) return { type: 'timeout', phase: state.phase }
  if (kind === 8 && id < 4) return { type: 'withdrawal', verifier }
  switch (kind === 7 ? (['deposits', 'verdict', 'verifier', 'beacon'] as const)[result] : state.phase) {
    case 'deposits':
      return state.deposited.user
        ? { type: 'deposit', party: 'generator', amount: generator }
        : { type: 'deposit', party: 'user', amount: user }
    case 'delivery':
      return { type: 'delivery', ...(committed ? { root: hash(3) } : proofFields) }
    case 'challenge':
      return { type: kind === 0 ? 'acceptance' : 'challenge' }
    case 'beacon':
      return { type: 'beacon', beacon: '00' }
    case 'opening':
      return { type: 'opening', ...proofFields }
    case 'verifier':
      return { type: 'join', verifier: `v${id}`, stake }
    case 'seal':
      if (kind === 5) return { type: 'canary', verifier, proofDigest: hash(5), passed: id < 5 }
      if (kind === 4) return { type: 'refusal', verifier, reason: REASONS[id % 2], subject }
      return { type: 'seal', verifier, seal: sealOf(verifier, result).seal }
    case 'reveal':
      return { type: 'reveal', verifier, opening: sealOf(verifier, kind === 6 ? id % 4 : sealedResult(state)).opening }
    case 'verdict': {
      if (kind < 4 && state.terms.honesty) return { type: 'canary', verifier, proofDigest: hash(5), passed: kind < 2 }
      if (kind === 4) return { type: 'refusal', verifier, reason: REASONS[id % 2], proofDigest: PROOF }
      const status = result === 0 ? 'accepted' : 'rejected'
      return { type: 'verdict', verifier, status, samplesDigest: digestOf(result), proofDigest: PROOF }
    }
    default:
      return { type: 'challenge' }
  }
}

function sealOf(verifier: string, result: number) {
  return sealVerdict({ verifier, subject, digests: results[result], refuted: false }, hash(result))
}

/** Which of the results the verifier at work has sealed. */
function sealedResult(state: DisputeState): number {
  const { id, seal: sealed } = state.verifiers[state.verifiers.length - 1]
  return results.findIndex((_, n) => sealOf(id, n).seal === sealed)
}

function play(terms: Terms, committed: boolean, choices: Choice[]): DisputeState {
  let state = openDispute(terms)
  for (const one of choices) {
    try {
      state = advance(state, eventsFor(state, committed, one) as DisputeEvent)
    } catch (error) {
      expect(error).toMatchObject({ code: 'DISPUTE_INVALID' })
    }
  }
  return state
}

/** Case, and who gets what besides their own share, read off a finished history without any states. */
function outcome(events: readonly DisputeEvent[], onDeadlock: string): string {
  const claimedDigest = events.flatMap((event) =>
    event.type === 'delivery' || event.type === 'opening' ? [event.resultDigest ?? ''] : [],
  )
  const seen: string[] = []
  for (const event of events) {
    if (event.type === 'refusal') {
      if (seen.includes('refused')) return 'verifier_confirmed'
      seen.push('refused')
    } else if (event.type === 'reveal') {
      const digest = resultOf(event.opening.digests)
      if (claimedDigest.includes(digest)) return 'generator_confirmed'
      if (seen.includes(digest)) return 'verifier_confirmed'
      seen.push(digest)
    } else if (event.type === 'verdict') {
      if (event.status === 'accepted') return 'generator_confirmed'
      if (seen.includes(event.samplesDigest)) return 'verifier_confirmed'
      seen.push(event.samplesDigest)
    }
  }
  if (!events.some(({ type }) => type === 'delivery')) return 'refunded'
  if (!events.some(({ type }) => type === 'challenge')) return 'no_challenge'
  const last = events[events.length - 1]
  if (last.type === 'timeout' && last.phase === 'beacon') return 'lapsed'
  if (last.type === 'timeout' && last.phase === 'opening') return 'withheld'
  return seen.length > 0 || onDeadlock === 'refund-user' ? 'deadlock' : 'lapsed'
}

describe('random terms and histories', () => {
  const cases = fc.tuple(ruleOf, fc.array(choice, { minLength: 8, maxLength: 60, size: 'max' }))

  test('every settlement empties the pool to the unit, for the case that the history shows', () => {
    const reached = new Set<string>()
    fc.assert(
      fc.property(cases, ([{ committed, ...rules }, choices]) => {
        const state = play(createTerms({ ...BASE, ...rules }), committed, choices)
        const { settlement, history, terms } = state
        const deposited = history
          .map((event) => (event.type === 'deposit' ? event.amount : event.type === 'join' ? event.stake : 0n))
          .reduce((sum, amount) => sum + amount, 0n)
        if (!settlement) return expect(state.pool).toBe(deposited)
        reached.add(`${terms.honesty} ${settlement.case}`)
        expect([state.pool, settlement.pool, settlement.case]).toEqual([
          0n,
          deposited,
          outcome(history, terms.onDeadlock),
        ])
        expect(settlement.payouts.reduce((sum, { amount }) => sum + amount, 0n)).toBe(deposited)
        expect(settlement.payouts.every(({ amount }) => amount >= 0n)).toBe(true)
        const failed = history.flatMap((event) => (event.type === 'canary' && !event.passed ? [event.verifier] : []))
        for (const { party, amount } of settlement.payouts) if (failed.includes(party)) expect(amount).toBe(0n)
        const decided = history.filter(({ type }) => ['verdict', 'reveal', 'refusal'].includes(type)).length
        expect(settlement.stage).toBe(decided)
      }),
      { numRuns: 1000, seed: 1 }, // with which every case is reached
    )
    for (const kind of [
      'generator_confirmed',
      'verifier_confirmed',
      'deadlock',
      'lapsed',
      'withheld',
      'refunded',
      'no_challenge',
    ]) {
      for (const honesty of ['blind', 'canaries', undefined]) expect(reached).toContain(`${honesty} ${kind}`)
    }
  })

  test('replaying, and JSON in the middle, give the same state', () => {
    fc.assert(
      fc.property(cases, fc.nat(), ([{ committed, ...rules }, choices], cut) => {
        const terms = createTerms({ ...BASE, ...rules })
        const state = play(terms, committed, choices)
        expect(replay(terms, state.history)).toEqual(state)
        const at = cut % (state.history.length + 1)
        const middle = replay(terms, state.history.slice(0, at))
        const revived = parseDispute(JSON.parse(JSON.stringify(disputeToJson(middle))))
        expect(revived).toEqual(middle)
        expect(state.history.slice(at).reduce(advance, revived)).toEqual(state)
      }),
      { numRuns: 200 },
    )
  })
})
