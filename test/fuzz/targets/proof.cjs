'use strict'
// decodeProof() on any bytes.
const { attempt, dist, fuzzTarget, must, vectors } = require('../target.cjs')
const { wordsOf } = require('../edits.cjs')
const { examineStructure } = require('../examination.cjs')

const { decodeCanonical } = dist('cbor')
const { decodeProof, encodeProof } = dist('proof')

const seeds = () => vectors('proof.json').map(({ bytes }) => Buffer.from(bytes, 'hex'))
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
