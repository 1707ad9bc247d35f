'use strict'
// What opens a blind verifier's seal, as JSON from elsewhere; and what it says of claimed samples.
const { isDeepStrictEqual } = require('node:util')
const { attempt, dist, fuzzTarget, must } = require('../target.cjs')
const { jsonOrEdited, wordsOf } = require('../edits.cjs')
const { JUDGED } = require('../examples.cjs')

const { claimedDigests } = dist('agreement')
const seals = dist('seal')

const proofs = JUDGED.map(({ proof }) => proof).filter(({ samples }) => samples.length > 0)
const SALTS = ['5a', '00', 'ff'].map((byte) => byte.repeat(32))
const examples = proofs.map((proof, i) => ({
  verifier: `v${i}`,
  subject: seals.sealSubject(seals.blindProof(proof)),
  digests: claimedDigests(proof.samples).map((each) => [...each]),
  refuted: i % 2 === 1,
  salt: SALTS[i % SALTS.length],
}))
const words = [...wordsOf(...examples), ...SALTS, 'user', 'generator']

function judge(opening, proof) {
  const about = seals.sealSubject(proof)
  if (opening.subject !== about) {
    must(
      attempt(['INVALID_ARGUMENT'], () => seals.sealedOutcome(opening, proof)) === undefined,
      'it is about its subject',
    )
    must(isDeepStrictEqual(seals.checkSealedVerdict(opening, proof, {}), ['subject']), 'and about nothing else')
  }
  const { status, layer, samplesDigest } = seals.sealedOutcome({ ...opening, subject: about }, proof)
  const isClaimed = isDeepStrictEqual(opening.digests, claimedDigests(proof.samples))
  must((status === 'accepted') === (isClaimed && !opening.refuted), 'accepted is what was sealed as it is claimed')
  const firstMismatch = isClaimed ? null : { layer, position: 0, part: 'k' }
  const verdict = { status, firstMismatch, samplesDigest }
  must(
    seals.checkSealedVerdict({ ...opening, subject: about }, proof, verdict).length === 0,
    'a verdict by the seal goes with it',
  )
  const other = status === 'accepted' ? 'rejected' : 'accepted'
  const problems = seals.checkSealedVerdict({ ...opening, subject: about }, proof, { ...verdict, status: other })
  must(isDeepStrictEqual(problems, ['status']), 'another does not')
}

module.exports = fuzzTarget({
  maxBytes: 2048,
  seeds: () => examples.flatMap((opening, i) => [JSON.stringify(opening), Uint8Array.of(i)]),
  words,
  run(bytes) {
    const given = jsonOrEdited(examples, bytes, words)
    const opening = attempt(['INVALID_ARGUMENT'], () => seals.readOpening(given, 'opening', 'INVALID_ARGUMENT'))
    if (!opening) return
    const { seal } = seals.sealVerdict(opening, opening.salt)
    const again = JSON.parse(JSON.stringify(opening))
    must(isDeepStrictEqual(seals.readOpening(again, 'opening', 'INVALID_ARGUMENT'), opening), 'it survives JSON')
    must(seals.checkSeal(seal, again), 'an opening opens its seal')
    for (const example of examples) {
      must(seals.checkSeal(seal, example) === isDeepStrictEqual(again, example), 'and no other does')
    }
    for (const proof of proofs) judge(opening, proof)
  },
})
