'use strict'
// decodeProof() on canonical CBOR that says something else than a proof does.
const { attempt, dist, fuzzTarget, must } = require('../target.cjs')
const { edited, wordsOf } = require('../edits.cjs')
const { examineProof } = require('../examination.cjs')
const { PROOFS } = require('../examples.cjs')

const { decodeCanonical, encodeCanonical, float64 } = dist('cbor')
const { decodeProof, encodeProof } = dist('proof')

const examples = PROOFS.map(decodeCanonical)
const meaningful = [
  'all',
  'every:1',
  'uniform:4096',
  'fixed:0,8',
  'bernoulli:1/1',
  'f16',
  'custom',
  'random:1',
  'sketch',
]
const words = [...wordsOf(...examples), ...meaningful, 'llama.cpp']

module.exports = fuzzTarget({
  maxBytes: 256,
  seeds: () => examples.map((_, i) => Uint8Array.of(i)),
  run(program) {
    const bytes = encodeCanonical(edited(examples, program, { words, bytes: true, float: float64 }))
    const proof = attempt(['PROOF_MALFORMED', 'PROOF_TOO_LARGE'], () => decodeProof(bytes))
    if (!proof) return
    must(Buffer.compare(encodeProof(proof), bytes) === 0, 'a proof has one encoding')
    examineProof(proof)
  },
})
