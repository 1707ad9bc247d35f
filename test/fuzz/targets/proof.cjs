'use strict'
// decodeProof() on any bytes.
const { attempt, dist, fuzzTarget, must } = require('../target.cjs')
const { wordsOf } = require('../edits.cjs')
const { examineProof } = require('../examination.cjs')
const { PROOFS } = require('../examples.cjs')

const { decodeCanonical } = dist('cbor')
const { decodeProof, encodeProof } = dist('proof')

// What libFuzzer would hardly come upon by itself, for a change of a text's length is two changes at once.
const OTHER_HEADERS = [
  { numerics: 'llama.cpp', form: 'rows' },
  { tokenSampler: 'bernoulli:1/4', layerSampler: 'uniform:3' },
  { tokenSampler: 'custom', layerSampler: 'custom:1' },
  { numerics: 'llama.cpp', form: 'sketch' },
  { sampling: null, stop: null },
]

function seeds() {
  const proof = decodeProof(PROOFS[0])
  const others = OTHER_HEADERS.map((fields) => ({ ...proof, samples: [], header: { ...proof.header, ...fields } }))
  return [...PROOFS, ...others.map((other) => encodeProof(other))]
}

const text = (word) => Buffer.concat([Buffer.from([0x60 + word.length]), Buffer.from(word)])

module.exports = fuzzTarget({
  maxBytes: 2048,
  seeds,
  words: wordsOf(...seeds().map(decodeCanonical)).map((word) => (word.length < 24 ? text(word) : word)),
  run(bytes) {
    const proof = attempt(['PROOF_MALFORMED', 'PROOF_TOO_LARGE'], () => decodeProof(bytes))
    if (!proof) return
    must(Buffer.compare(encodeProof(proof), bytes) === 0, 'a proof has one encoding')
    examineProof(proof)
  },
})
