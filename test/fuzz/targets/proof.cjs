'use strict'
// decodeProof() on any bytes.
const { attempt, dist, fuzzTarget, must, vectors } = require('../target.cjs')
const { wordsOf } = require('../edits.cjs')
const { examineStructure } = require('../examination.cjs')

const { decodeCanonical } = dist('cbor')
const { decodeProof, encodeProof } = dist('proof')

const committed = vectors('proof.json').map(({ bytes }) => Buffer.from(bytes, 'hex'))

// What libFuzzer would hardly come upon by itself, for a change of a text's length is two changes at once.
const OTHER_HEADERS = [
  { kvDtype: 'f32' },
  { kvDtype: 'f16' },
  { nonce: '', sampling: { temperature: 0, topK: 0, topP: 1, seed: '' } },
  { tokenSampler: 'all', layerSampler: 'fixed:0,7' },
  { tokenSampler: 'bernoulli:1/4', layerSampler: 'uniform:3' },
  { tokenSampler: 'custom', layerSampler: 'custom:1' },
]

function seeds() {
  const proof = decodeProof(committed[0])
  const others = OTHER_HEADERS.map((fields) => ({ ...proof, samples: [], header: { ...proof.header, ...fields } }))
  return [...committed, ...others.map((other) => encodeProof(other))]
}

const text = (word) => Buffer.concat([Buffer.from([0x60 + word.length]), Buffer.from(word)])

module.exports = fuzzTarget({
  seeds,
  words: wordsOf(...seeds().map(decodeCanonical)).map((word) => (word.length < 24 ? text(word) : word)),
  run(bytes) {
    const proof = attempt(['PROOF_MALFORMED', 'PROOF_TOO_LARGE'], () => decodeProof(bytes))
    if (!proof) return
    must(Buffer.compare(encodeProof(proof), bytes) === 0, 'a proof has one encoding')
    examineStructure(proof)
  },
})
