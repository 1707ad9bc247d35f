'use strict'
// An evidence bundle as anybody may send it: read, and all of it checked that an audit without a model checks.
const { isDeepStrictEqual } = require('node:util')
const { attempt, dist, fuzzTarget, must } = require('../target.cjs')
const { jsonOrEdited, wordsOf } = require('../edits.cjs')
const { JUDGED } = require('../examples.cjs')

const { checkVerdict } = dist('check')
const { createEvidence, parseEvidence } = dist('evidence')
const { REASONS_OF_STATUS } = dist('verdict')

const DEMANDS = { replay: '1/8', replaySeed: 'ab', probabilityTest: true }
const examples = JUDGED.flatMap(({ proof, verdicts }) => {
  const demands = [{}, { nonce: proof.header.nonce, ...(proof.beacon && { beacon: proof.beacon }), ...DEMANDS }]
  return verdicts.map((verdict, i) => JSON.parse(JSON.stringify(createEvidence(proof, verdict, demands[i % 2]))))
})
const reasons = Object.values(REASONS_OF_STATUS).flat()
const words = [...wordsOf(...examples), ...reasons, 'all', 'none', '1/4294967295', '0.333333333', '====']
const CODES = ['EVIDENCE_MALFORMED', 'VERDICT_MALFORMED', 'PROOF_MALFORMED', 'PROOF_TOO_LARGE']

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
    const { nonce, beacon } = bundle.demands
    const options = { nonce, beacon }
    const check = attempt(['INVALID_ARGUMENT', 'PROOF_TOO_LARGE'], () => checkVerdict(decoded, bundle.verdict, options))
    if (!check?.valid) return
    const made = createEvidence(decoded, bundle.verdict, bundle.demands, bundle.profile)
    must(isDeepStrictEqual(parseEvidence(made).verdict, bundle.verdict), 'a bundle is made again')
    const isOther = nonce !== undefined && nonce !== decoded.header.nonce
    must(!(isOther && bundle.verdict.status === 'accepted'), 'no proof for another request is accepted')
  },
})
