'use strict'
// An evidence bundle as anybody may send it: read, and all of it checked that an audit checks before a model runs.
const { attempt, dist, fuzzTarget, must } = require('../target.cjs')
const { jsonOrEdited, wordsOf } = require('../edits.cjs')
const { fittingModel } = require('../examination.cjs')
const { JUDGED } = require('../examples.cjs')
const { COVERED } = require('../profile-examples.cjs')

const { checkVerdict } = dist('check')
const { createEvidence, parseEvidence } = dist('evidence')
const { examine } = dist('examination')
const { checkOptions } = dist('options')
const { bareProfile, isSignedBy, profileDigest } = dist('profile-signature')
const { REASONS_OF_STATUS } = dist('verdict')

const DEMANDS = { replay: '1/8', replaySeed: 'ab', probabilityTest: true }
const plain = (value) => JSON.parse(JSON.stringify(value))

function demandsOf({ header, tokens, root, beacon }, i) {
  const { nonce, promptLength, layerSampler, stop } = header
  const request = { promptLength, layerSampler, stop, prompt: tokens.subarray(0, promptLength) }
  return [{}, { nonce, ...(beacon && { beacon, root }), ...DEMANDS }, { request }][i % 3]
}

const [{ proof: sketched, profile, signed: SIGNED }] = COVERED.filter(({ proof }) => proof.header.form === 'sketch')
const underProfile = examine({ ...fittingModel(sketched.header), numerics: 'ieee32' }, sketched, { profile }).conclude()
const examples = [
  ...JUDGED.flatMap(({ proof, verdicts }) =>
    verdicts.map((verdict, i) => plain(createEvidence(proof, verdict, demandsOf(proof, i)))),
  ),
  plain(createEvidence(sketched, underProfile, { replay: 'none' }, profile)),
  plain(createEvidence(sketched, underProfile, {}, SIGNED)),
]
const reasons = Object.values(REASONS_OF_STATUS).flat()
const words = [...wordsOf(...examples), ...reasons, 'all', 'none', '1/4294967295', '0.333333333', '====']
const MODEL_CODES = ['INVALID_ARGUMENT', 'PROOF_TOO_LARGE', 'TOKEN_OUT_OF_RANGE', 'CONTEXT_OVERFLOW']
const CODES = ['EVIDENCE_MALFORMED', 'VERDICT_MALFORMED', 'PROOF_MALFORMED', 'PROOF_TOO_LARGE']

/** Nothing that the bundle says of its own demands may stop an audit in another way than with an error. */
function audit(proof, { verdict, demands, profile: given }) {
  const { nonce, beacon, root } = demands
  const check = attempt(MODEL_CODES, () => checkVerdict(proof, verdict, { nonce, beacon, root }))
  const told = [
    [nonce, proof.header.nonce],
    [beacon, proof.beacon],
    [root, proof.root],
  ]
  const isOther = told.some(([asked, stated]) => asked !== undefined && asked !== stated)
  must(!(check?.valid && isOther && verdict.status === 'accepted'), 'no proof for another request is accepted')
  const stated = given && bareProfile(given)
  if (stated) {
    const isTrusted = isSignedBy(given, [SIGNED.publicKey])
    must(!isTrusted || profileDigest(stated) === profileDigest(profile), 'no other profile has a trusted signature')
  }
  attempt(MODEL_CODES, () => {
    checkOptions(demands)
    const again = examine(fittingModel(proof.header), proof, { ...demands, ...(stated && { profile: stated }) })
    must(again.verdict?.status !== 'accepted', 'nothing is accepted before it was compared')
  })
}

module.exports = fuzzTarget({
  seeds: () => examples.flatMap((bundle, i) => [JSON.stringify(bundle), Uint8Array.of(i)]),
  words,
  run(bytes) {
    const given = jsonOrEdited(examples, bytes, words)
    const evidence = attempt(CODES, () => parseEvidence(given))
    if (!evidence) return
    const { decoded, ...bundle } = evidence
    const text = JSON.stringify(bundle)
    const { decoded: _, ...again } = parseEvidence(JSON.parse(text))
    must(JSON.stringify(again) === text, 'a bundle survives JSON')
    must(
      Object.keys(given).every((key) => Object.hasOwn(bundle, key)),
      'it says nothing that its reader ignores',
    )
    audit(decoded, bundle)
  },
})
