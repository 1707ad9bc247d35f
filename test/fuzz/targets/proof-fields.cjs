'use strict'
// decodeProof() on canonical CBOR that says something else than a proof does.
const { attempt, dist, fuzzTarget, must, vectors } = require('../target.cjs')
const { edited, wordsOf } = require('../edits.cjs')
const { examineStructure } = require('../examination.cjs')

const { decodeCanonical, encodeCanonical, float64 } = dist('cbor')
const { decodeProof, encodeProof } = dist('proof')

// The smaller ones: hundreds of samples slow the fuzzer down and reach nothing more.
const proofs = vectors('proof.json').map(({ bytes }) => Buffer.from(bytes, 'hex'))
const examples = proofs.filter(({ length }) => length <= 4096).map(decodeCanonical)
const words = [...wordsOf(...examples), 'all', 'every:1', 'uniform:4096', 'fixed:0,7', 'bernoulli:1/1', 'f16', 'custom']

module.exports = fuzzTarget({
  maxBytes: 256,
  seeds: () => examples.map((_, i) => Uint8Array.of(i)),
  run(program) {
    const bytes = encodeCanonical(edited(examples, program, { words, bytes: true, float: float64 }))
    const proof = attempt(['PROOF_MALFORMED', 'PROOF_TOO_LARGE'], () => decodeProof(bytes))
    if (!proof) return
    must(Buffer.compare(encodeProof(proof), bytes) === 0, 'a proof has one encoding')
    examineStructure(proof)
  },
})
