'use strict'
// A sequential test that goes on from a state in JSON; the last bytes are the outcomes that follow.
const { isDeepStrictEqual } = require('node:util')
const { attempt, dist, fuzzTarget, must } = require('../target.cjs')
const { jsonOrEdited, wordsOf } = require('../edits.cjs')

const { createSequentialTest, expectedProofs, resumeSequentialTest } = dist('sequential')

const OUTCOMES = ['accepted', 'rejected', 'inconclusive']
const TERMS = [
  { falseSlash: 1e-6, missedCheat: 0.01, honestRejection: 0, cheatRejection: 0.3 },
  { falseSlash: 0.001, missedCheat: 0.001, honestRejection: 0.01, cheatRejection: 0.9 },
  { falseSlash: 0.5, missedCheat: 0.5, honestRejection: 0.25, cheatRejection: 1 },
]
const examples = TERMS.map((terms, i) => {
  const test = createSequentialTest(terms)
  for (let n = 0; n < 3 * i; n++) test.push('accepted')
  return { ...test.state }
})
const words = [...wordsOf(...examples), 'slash', 'keep watching', 'clear']
const MOST = 2 ** 52 // counts over this are no whole numbers for much longer

function goOn(state, outcomes) {
  const test = resumeSequentialTest(state)
  must(
    Object.entries(test.state).every(([name, value]) => value === state[name]),
    'it goes on from there',
  )
  if (OUTCOMES.some((outcome) => state[outcome] > MOST)) return
  for (const byte of outcomes) {
    const { decision } = test
    const next = test.push(OUTCOMES[byte % 3])
    must(decision === 'keep watching' || next === decision, 'a decision is final')
    const again = resumeSequentialTest(JSON.parse(JSON.stringify(test.state)))
    must(isDeepStrictEqual(again.state, test.state), 'a state survives JSON')
  }
}

module.exports = fuzzTarget({
  maxBytes: 512,
  seeds: () => examples.flatMap((example, i) => [JSON.stringify(example), Uint8Array.of(i)]),
  words,
  run(bytes) {
    const given = jsonOrEdited(examples, bytes, words) ?? null
    attempt(['INVALID_ARGUMENT'], () => goOn(given, bytes.slice(-8)))
    const expected = attempt(['INVALID_ARGUMENT'], () => expectedProofs(given))
    if (!expected) return
    const { honest, cheating } = expected
    must(honest >= 0 && cheating >= 0, 'a number of proofs is none that is negative, nor no number')
  },
})
