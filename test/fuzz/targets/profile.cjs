'use strict'
// A signed tolerance profile, as it is handed around, and what is compared under it.
const { attempt, dist, fuzzTarget, must } = require('../target.cjs')
const { jsonOrEdited, wordsOf } = require('../edits.cjs')
const { fittingModel, layersOf, verdictOn } = require('../examination.cjs')
const { COVERED } = require('../profile-examples.cjs')

const { checkVerdict } = dist('check')
const { examine } = dist('examination')
const { parseProfile } = dist('parse-profile')
const { profileBytes, verifyProfile } = dist('profile-signature')

const examples = COVERED.map(({ signed }) => JSON.parse(JSON.stringify(signed)))
const trusted = [examples[0].publicKey]
const signed = examples.map(({ profile }) => Buffer.from(profileBytes(profile)).toString('latin1'))
const words = [...wordsOf(...examples), 'f16', 'f32', 'all', 'uniform:2']

/** What is said of a proof whose vectors are recomputed as they are claimed, and of one with others. */
function compare(profile, { proof, rows }) {
  const model = { ...fittingModel(proof.header), numerics: 'ieee32' }
  const examined = () => examine(model, proof, { profile, replay: 'none' })
  const examination = examined()
  if (examination.verdict)
    return must(examination.verdict.status === 'inconclusive', 'a profile rejects nothing by itself')
  const honest = verdictOn(examination, layersOf(rows))
  must(proof.header.form === 'sketch' || honest.status === 'accepted', 'no difference is over any limit')
  const others = layersOf(rows).map((layer) => ({ ...layer, k: layer.k.map((byte) => byte ^ 0x80) }))
  for (const verdict of [honest, verdictOn(examined(), others)]) {
    must(verdict.status !== 'inconclusive' && checkVerdict(proof, verdict).valid, 'a verdict under a profile is valid')
  }
}

module.exports = fuzzTarget({
  seeds: () => examples.flatMap((example, i) => [JSON.stringify(example), Uint8Array.of(i)]),
  words,
  run(bytes) {
    const given = jsonOrEdited(examples, bytes, words)
    const profile = attempt(['INVALID_ARGUMENT'], () => parseProfile(given?.profile))
    if (!profile) return
    const bytesOf = (one) => Buffer.from(profileBytes(one)).toString('latin1')
    const text = bytesOf(profile)
    must(bytesOf(JSON.parse(JSON.stringify(profile))) === text, 'a profile has one text')
    const isTaken = attempt(['INVALID_ARGUMENT'], () => verifyProfile(given, trusted)) !== undefined
    must(!isTaken || signed.includes(text), 'no other profile has a trusted signature')
    for (const covered of COVERED) compare(profile, covered)
  },
})
