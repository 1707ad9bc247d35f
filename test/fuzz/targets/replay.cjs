'use strict'
// What a verifier is asked to replay, as JSON from a bundle or a request has it: a share of the tokens, by its name.
const { attempt, dist, fuzzTarget, must } = require('../target.cjs')
const { edited, wordsOf } = require('../edits.cjs')
const { JUDGED } = require('../examples.cjs')

const { planOf } = dist('challenge')
const { checkOptions } = dist('options')
const { replayPositions } = dist('replay')

const proofs = JUDGED.map(({ proof }) => ({ proof, seed: planOf(proof).seed }))
const examples = [{ replay: '1/8', replaySeed: 'ab' }, { replay: 'all' }, { replay: '0.25', probabilityTest: true }, {}]
const words = [...wordsOf(...examples), 'none', '1/1', '4294967295/4294967295', '0.000000001', '/', '1e-9']

/** Text is a share's name; where the first byte is 0, the rest says how demands are changed. */
function demandsOf(bytes) {
  if (bytes[0] === 0) return edited(examples, bytes.slice(1), { words })
  return { replay: Buffer.from(bytes).toString('latin1'), replaySeed: 'ab' }
}

module.exports = fuzzTarget({
  maxBytes: 128,
  seeds: () => ['all', 'none', '1/8', '0.25', '1', ...examples.map((_, i) => Uint8Array.of(0, i))],
  words,
  run(bytes) {
    const demands = demandsOf(bytes)
    for (const { proof, seed } of proofs) {
      const positions = attempt(['INVALID_ARGUMENT'], () => {
        checkOptions(demands)
        return replayPositions(proof, seed, demands)
      })
      if (!positions) continue
      const { tokens, header } = proof
      must(
        positions.every((position, i) => i === 0 || position > positions[i - 1]),
        'positions ascend',
      )
      must(positions[0] >= header.promptLength - 1, 'the prompt is not replayed')
      must(positions[positions.length - 1] <= tokens.length - 2, 'the last token is chosen after the last position')
      must(demands.replay !== 'all' || positions.length === tokens.length - header.promptLength, 'all are all')
    }
  },
})
