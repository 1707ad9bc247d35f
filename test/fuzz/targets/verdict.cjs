'use strict'
// A verdict that comes back from a verifier: read, and checked against its proof.
const { isDeepStrictEqual } = require('node:util')
const { attempt, dist, fuzzTarget, must } = require('../target.cjs')
const { jsonOrEdited, wordsOf } = require('../edits.cjs')
const { JUDGED } = require('../examples.cjs')

const { checkVerdict } = dist('check')
const { planOf } = dist('challenge')
const { parseVerdict, REASONS_OF_STATUS } = dist('verdict')

const examples = JUDGED.flatMap(({ verdicts }) => verdicts)
const words = [...wordsOf(...examples), ...Object.keys(REASONS_OF_STATUS), ...Object.values(REASONS_OF_STATUS).flat()]
const proofs = new Map(JUDGED.map(({ proof, verdicts }) => [verdicts[0].proofDigest, proof]))
const numSamples = new Map(JUDGED.map(({ proof }) => [proof, planOf(proof).plan.numSamples]))

module.exports = fuzzTarget({
  seeds: () => examples.flatMap((verdict, i) => [JSON.stringify(verdict), Uint8Array.of(i)]),
  words,
  run(bytes) {
    const given = jsonOrEdited(examples, bytes, words)
    const verdict = attempt(['VERDICT_MALFORMED'], () => parseVerdict(given))
    if (!verdict) return
    must(isDeepStrictEqual(parseVerdict(verdict), verdict), 'a verdict that was read is one')
    const proof = proofs.get(verdict.proofDigest) ?? JUDGED[0].proof
    const { beacon, header } = proof
    const told = { nonce: header.nonce, ...(beacon && { beacon }), replay: verdict.replay ? 'all' : 'none' }
    const { valid, problems } = checkVerdict(proof, verdict, told)
    must(valid === (problems.length === 0), 'a verdict is valid or has problems')
    const listed = verdict.matched.length + verdict.mismatched.length + verdict.unchecked.length
    must(!valid || listed === numSamples.get(proof), 'a valid verdict lists every sample')
    must(!valid || verdict.status !== 'accepted' || verdict.matched.length === listed, 'what is accepted has matched')
  },
})
