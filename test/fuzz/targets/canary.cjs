'use strict'
// Canaries in proofs that were read from bytes, and their scores for verdicts that were read from JSON. The first byte
// says which of both, the second how many canaries of which kind.
const { attempt, dist, fuzzTarget, must } = require('../target.cjs')
const { edited, jsonOrEdited, wordsOf } = require('../edits.cjs')
const { JUDGED, PROOFS } = require('../examples.cjs')

const { plantCanaries, scoreCanaries } = dist('canary')
const { decodeCanonical, encodeCanonical, float64 } = dist('cbor')
const { decodeProof, encodeProof } = dist('proof')
const { parseVerdict } = dist('verdict')

const maps = PROOFS.map(decodeCanonical)
const proofWords = [...wordsOf(...maps), 'f16', 'f32', 'bf16', 'custom']
const planted = JUDGED.filter(({ proof }) => proof.header.form === 'rows').map(({ proof, verdicts }) => {
  return { verdicts, canaries: plantCanaries(proof, { seed: '00'.repeat(16), count: 2 }).canaries }
})
const verdictWords = wordsOf(...planted.flatMap(({ verdicts }) => verdicts))

const bitsThatDiffer = (a, b) =>
  a.reduce((sum, byte, i) => sum + (byte ^ b[i]).toString(2).replaceAll('0', '').length, 0)

function plant(how, program) {
  const bytes = encodeCanonical(edited(maps, program, { words: proofWords, bytes: true, float: float64 }))
  const proof = attempt(['PROOF_MALFORMED', 'PROOF_TOO_LARGE'], () => decodeProof(bytes))
  if (!proof) return
  const [count, kind] = [1 + (how >> 1) / 8, how % 2 === 0 ? 'bit' : 'swap']
  const options = { seed: 'c0'.repeat(16), count: Math.floor(count), kind }
  const made = attempt(['INVALID_ARGUMENT'], () => plantCanaries(proof, options))
  must(Buffer.compare(encodeProof(proof), bytes) === 0, 'the proof itself stays as it is')
  if (!made) return
  encodeProof(made.proof)
  const [before, after] = [proof, made.proof].map(({ samples }) => samples)
  const changed = before.filter(({ k, v }, i) => bitsThatDiffer(k, after[i].k) + bitsThatDiffer(v, after[i].v) > 0)
  const named = made.canaries.map(({ layer, position }) => `${layer}/${position}`)
  must(
    changed.map(({ layer, position }) => `${layer}/${position}`).join() === named.join(),
    'all that is corrupted is named, in order',
  )
  if (kind === 'swap') return
  const bits = before.reduce(
    (sum, { k, v }, i) => sum + bitsThatDiffer(k, after[i].k) + bitsThatDiffer(v, after[i].v),
    0,
  )
  must(bits === options.count, 'one bit of each canary is another')
}

function score(how, program) {
  const { verdicts, canaries } = planted[how % planted.length]
  const given = jsonOrEdited(verdicts, program, verdictWords)
  const verdict = attempt(['VERDICT_MALFORMED'], () => parseVerdict(given))
  if (!verdict) return
  const [strict, lenient] = [true, false].map((honest) => scoreCanaries(canaries, verdict, { honest }))
  must(verdict.status !== 'accepted' || lenient.result === 'failed', 'a canary that is accepted was not seen')
  must(lenient.result !== 'failed' || strict.result === 'failed', 'an honest proof excuses nothing')
  must(lenient.result !== 'passed' || lenient.missed.length === 0, 'who passes misses none')
}

module.exports = fuzzTarget({
  maxBytes: 1024,
  seeds: () => [
    ...[0, 1, 9, 34].flatMap((how) => maps.map((_, i) => Uint8Array.of(0, how, i))),
    ...planted.flatMap(({ verdicts }, how) => verdicts.map((_, i) => Uint8Array.of(1, how, i))),
  ],
  words: verdictWords,
  run(bytes) {
    const [which = 0, how = 0, ...program] = bytes
    if (which % 2 === 0) plant(how, Uint8Array.from(program))
    else score(how, Uint8Array.from(program))
  },
})
