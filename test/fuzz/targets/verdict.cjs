'use strict'
// A verdict that comes back from a verifier: read, and checked against its proof.
const { isDeepStrictEqual } = require('node:util')
const { attempt, dist, fuzzTarget, must, vectors } = require('../target.cjs')
const { jsonOrEdited, wordsOf } = require('../edits.cjs')

const { checkVerdict } = dist('check')
const { decodeProof, proofDigest } = dist('proof')
const { parseVerdict, REASONS_OF_STATUS } = dist('verdict')

const proofs = vectors('proof.json').map(({ bytes }) => decodeProof(Buffer.from(bytes, 'hex')))

function acceptance(proof) {
  const { modelDigest, numerics } = proof.header
  const matched = proof.samples.map(({ layer, position }) => [layer, position])
  const reasons = [{ code: 'all_samples_match', message: '' }]
  const layers = matched.at(-1)[0] + 1
  return {
    version: 1,
    status: 'accepted',
    reasons,
    proofDigest: proofDigest(proof),
    modelDigest,
    numerics,
    matched,
    mismatched: [],
    unchecked: [],
    firstMismatch: null,
    computed: { layers, positions: proof.tokens.length - 1, share: 0.5 },
    samplesDigest: vectors('proof.json')[proofs.indexOf(proof)].samplesDigest,
  }
}

const mismatch = (proof) => {
  const matched = acceptance(proof).matched
  const [layer, position] = matched[0]
  const first = matched.filter((index) => index[0] === layer)
  return {
    ...acceptance(proof),
    status: 'rejected',
    reasons: [{ code: 'sample_mismatch', message: '' }],
    matched: [],
    mismatched: first,
    unchecked: matched.slice(first.length),
    firstMismatch: { layer, position, part: 'k' },
    computed: { layers: layer + 1, positions: proof.tokens.length - 1, share: 0.1 },
    samplesDigest: '00'.repeat(32),
  }
}

// The shorter one: lists of hundreds of samples slow the fuzzer down and reach nothing more.
const [proof] = [...proofs].sort((a, b) => a.samples.length - b.samples.length)
const examples = [acceptance(proof), mismatch(proof)]
const words = [...wordsOf(...examples), ...Object.keys(REASONS_OF_STATUS), ...Object.values(REASONS_OF_STATUS).flat()]
const valid = (verdict) => checkVerdict(proof, verdict, { nonce: proof.header.nonce }).valid
for (const example of examples) must(valid(parseVerdict(example)), 'an honest verdict is valid')

module.exports = fuzzTarget({
  seeds: () => examples.map((verdict) => JSON.stringify(verdict)),
  words,
  run(bytes) {
    const given = jsonOrEdited(examples, bytes, words)
    const verdict = attempt(['VERDICT_MALFORMED'], () => parseVerdict(given))
    if (!verdict) return
    must(isDeepStrictEqual(parseVerdict(verdict), verdict), 'a verdict that was read is one')
    const listed = verdict.matched.length + verdict.mismatched.length + verdict.unchecked.length
    must(!valid(verdict) || listed === proof.samples.length, 'a valid verdict lists every sample')
  },
})
