'use strict'
// Terms and the history of a dispute, as one party sends them to another.
const { isDeepStrictEqual } = require('node:util')
const { attempt, dist, fuzzTarget, must, vectors } = require('../target.cjs')
const { jsonOrEdited, wordsOf } = require('../edits.cjs')

const { disputeToJson, historyToJson, parseDispute, parseHistory } = dist('dispute')

const examples = vectors('payoffs.json').map(({ terms, history }) => ({ terms, history }))
const words = wordsOf(...examples)

const sum = (amounts) => amounts.reduce((total, amount) => total + amount, 0n)

module.exports = fuzzTarget({
  maxBytes: 8192,
  seeds: () => examples.map((dispute) => JSON.stringify(dispute)),
  words,
  run(bytes) {
    const given = jsonOrEdited(examples, bytes, words)
    const events = attempt(['DISPUTE_INVALID'], () => parseHistory(given?.history))
    if (events) must(isDeepStrictEqual(parseHistory(historyToJson(events)), events), 'a history survives JSON')
    const state = attempt(['DISPUTE_INVALID', 'TERMS_INVALID'], () => parseDispute(given))
    if (!state) return
    must(isDeepStrictEqual(parseDispute(disputeToJson(state)), state), 'a dispute survives JSON')
    if (!state.settlement) return
    const { pool, payouts } = state.settlement
    must(sum(payouts.map(({ amount }) => amount)) === pool, 'a settlement pays out what the pool holds')
    must(
      payouts.every(({ amount }) => amount >= 0n),
      'no payout is negative',
    )
  },
})
