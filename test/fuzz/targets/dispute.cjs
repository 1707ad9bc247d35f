'use strict'
// Terms and the history of a dispute, as one party sends them to another.
const { isDeepStrictEqual } = require('node:util')
const { attempt, dist, fuzzTarget, must, vectors } = require('../target.cjs')
const { jsonOrEdited, wordsOf } = require('../edits.cjs')

const { disputeToJson, historyToJson, parseDispute, parseHistory } = dist('dispute')
const { resultDigest, sealVerdict } = dist('seal')

const hash = (n) => n.toString(16).padStart(2, '0').repeat(32)
const [{ terms }] = vectors('payoffs.json')
const deposits = vectors('payoffs.json')[0].history.slice(0, 2)
const join = (verifier) => ({ type: 'join', verifier, stake: '20' })

const digestsOf = (last) => [
  [1, hash(1)],
  [5, last],
]

/** A blind verifier's turn: it recomputed what `last` stands for. */
function blindTurn(verifier, last) {
  const digests = digestsOf(last)
  const { seal: sealed, opening } = sealVerdict({ verifier, subject: hash(2), digests, refuted: false }, hash(3))
  return [join(verifier), { type: 'seal', verifier, seal: sealed }, { type: 'reveal', verifier, opening }]
}
const judgement = (verifier, status, samples, fields) => {
  return { type: 'verdict', verifier, status, samplesDigest: hash(samples), proofDigest: hash(0x70), ...fields }
}
const PROOF = { proofDigest: hash(0x70), resultDigest: resultDigest(digestsOf(hash(4))), subject: hash(2) }
const DELIVERY = { type: 'delivery', ...PROOF }
const COMMITTED = { type: 'delivery', root: hash(6), modelDigest: hash(7) }
const OPENED = [
  { type: 'beacon', beacon: 'c0ffee' },
  { ...DELIVERY, type: 'opening' },
]
const canary = (verifier, passed) => ({ type: 'canary', verifier, proofDigest: hash(9), passed })
const CHALLENGE = { type: 'challenge' }
const named = { modelDigest: hash(7) }
const refusals = (reason, fields) =>
  ['a', 'b'].flatMap((verifier) => [join(verifier), { type: 'refusal', verifier, reason, ...fields }])

// What the committed vectors do not have.
const HONESTY = [
  { honesty: 'blind', events: [DELIVERY, CHALLENGE, ...blindTurn('a', hash(5)), ...blindTurn('b', hash(4))] },
  {
    honesty: 'canaries',
    events: [
      COMMITTED,
      CHALLENGE,
      ...OPENED,
      join('a'),
      canary('a', false),
      join('b'),
      canary('b', true),
      judgement('b', 'rejected', 8, named),
      join('c'),
      judgement('c', 'rejected', 9, { ...named, agreesWith: 'b' }),
    ],
  },
  { honesty: 'blind', events: [COMMITTED, CHALLENGE, OPENED[0], { type: 'timeout', phase: 'opening' }] },
  { honesty: 'blind', events: [COMMITTED, CHALLENGE, { type: 'timeout', phase: 'beacon' }] },
  { honesty: 'blind', events: [DELIVERY, CHALLENGE, ...refusals('unknown_sampler', { subject: hash(2) })] },
  {
    honesty: 'canaries',
    events: [COMMITTED, CHALLENGE, ...OPENED, ...refusals('proof_malformed', { proofDigest: hash(0x70), ...named })],
  },
].map(({ honesty, events }) => ({ terms: { ...terms, honesty }, history: [...deposits, ...events] }))
for (const dispute of HONESTY) must(parseDispute(dispute).settlement !== null, 'these disputes end')

const examples = [...vectors('payoffs.json').map(({ terms, history }) => ({ terms, history })), ...HONESTY]
const words = wordsOf(...examples)
const sum = (amounts) => amounts.reduce((total, amount) => total + amount, 0n)

module.exports = fuzzTarget({
  seeds: () => examples.flatMap((dispute, i) => [JSON.stringify(dispute), Uint8Array.of(i)]),
  words,
  run(bytes) {
    const given = jsonOrEdited(examples, bytes, words)
    const events = attempt(['DISPUTE_INVALID'], () => parseHistory(given?.history))
    if (events) must(isDeepStrictEqual(parseHistory(historyToJson(events)), events), 'a history survives JSON')
    const state = attempt(['DISPUTE_INVALID', 'TERMS_INVALID'], () => parseDispute(given))
    if (!state) return
    const again = JSON.parse(JSON.stringify(disputeToJson(state)))
    must(isDeepStrictEqual(parseDispute(again), state), 'a dispute survives JSON')
    if (!state.settlement) return
    const { pool, payouts } = state.settlement
    must(sum(payouts.map(({ amount }) => amount)) === pool, 'a settlement pays out what the pool holds')
    must(sum(payouts.map(({ deposit }) => deposit)) === pool, 'which is what was paid in')
    must(
      payouts.every(({ amount }) => amount >= 0n),
      'no payout is negative',
    )
  },
})
