'use strict'
// Small proofs: those of the committed vectors and others like them; and the verdicts of verifiers on them.
const { fittingModel, layersOf, verdictOn } = require('./examination.cjs')
const { dist, must, vectors } = require('./target.cjs')

const { checkVerdict } = dist('check')
const { examine } = dist('examination')
const { inForm } = dist('form')
const { hexFrom } = dist('hex')
const { vectorBytes } = dist('kv')
const { createPlan } = dist('plan')
const { decodeProof, encodeProof } = dist('proof')

// Hundreds of samples slow a fuzzer down and reach nothing more.
const committed = vectors('proof.json')
  .map(({ bytes }) => Buffer.from(bytes, 'hex'))
  .filter(({ length }) => length <= 2048)

/** An honest proof whose vectors are made up, with these header fields; and the vectors. */
function madeUp(fields) {
  const header = { ...decodeProof(committed[0]).header, ...fields }
  const tokens = Uint32Array.from([1, 300, 70000, 4, 5])
  const plan = createPlan(header, tokens)
  const vector = (layer, position, size) => new Uint8Array(size).fill(0x31 + layer + 7 * position)
  const rows = [...plan.layers].flatMap(([layer, positions]) => {
    const { k, v } = vectorBytes(header, header.kvDtype, layer)
    return [...positions].map((position) => {
      return { layer, position, k: vector(layer, position, k), v: vector(layer, position + 1, v) }
    })
  })
  const contextDigest = hexFrom(plan.contextDigest)
  const carried = inForm(header, plan.contextDigest, rows)
  return { proof: { header, tokens, contextDigest, ...carried, root: '', beacon: '', path: new Uint8Array(0) }, rows }
}

const VARIANTS = [
  { kvDtype: 'f32', nonce: '', sampling: { temperature: 0, topK: 0, topP: 1, seed: '' } },
  { kvDtype: 'f16', tokenSampler: 'all', layerSampler: 'fixed:0,7', sampling: null, stop: null },
  { depth: 'full', tokenSampler: 'bernoulli:1/4', layerSampler: 'uniform:9', previousRoot: '99'.repeat(32) },
  { numerics: 'llama.cpp', sampling: null, stop: null, form: 'sketch' },
]

/** As bytes. */
const PROOFS = [...committed, ...VARIANTS.map((fields) => encodeProof(madeUp(fields).proof))]

const DEMANDS = { replay: 'none' }
const examinationOf = (proof) => examine(fittingModel(proof.header), proof, DEMANDS)

function acceptance(proof) {
  return verdictOn(examinationOf(proof), layersOf(proof.samples))
}

function refutation(proof) {
  const others = layersOf(proof.samples).map((layer) => ({ ...layer, k: layer.k.map((byte) => byte ^ 1) }))
  return verdictOn(examinationOf(proof), others)
}

/** Every sample as claimed, and tokens replayed: as the sampler chooses them, or the first of them not. */
function replayed(proof, isChosen) {
  const { header, tokens } = proof
  const position = header.promptLength
  const first = isChosen ? null : { position, claimed: tokens[position], chosen: tokens[position] ^ 1 }
  const counts = { positions: tokens.length - position, mismatched: isChosen ? 0 : 1 }
  const replay = { ...counts, first, meanScoreGap: isChosen ? 0 : 0.5, surprise: null }
  const outcome = isChosen ? {} : { status: 'rejected', reasons: [{ code: 'token_mismatch', message: '' }] }
  const computed = { layers: header.numLayers + 1, positions: tokens.length - 1, share: 1 }
  return { ...acceptance(proof), ...outcome, computed, replay }
}

function verdictsOn(proof) {
  if (proof.header.form !== 'rows') return [examinationOf(proof).conclude()]
  const byTokens = proof.header.sampling === null ? [] : [replayed(proof, true), replayed(proof, false)]
  return [acceptance(proof), refutation(proof), ...byTokens]
}

/** Proofs that a model can be asked about, with verdicts of every kind on them, the honest one first. */
const JUDGED = PROOFS.map((encoded) => decodeProof(encoded))
  .filter(({ tokens }) => tokens.every((token) => token < 2 ** 31))
  .map((proof) => ({ proof, verdicts: verdictsOn(proof) }))

for (const { proof, verdicts } of JUDGED) {
  must(
    verdicts.every((verdict) => checkVerdict(proof, verdict, { replay: verdict.replay ? 'all' : 'none' }).valid),
    'honest verdicts are valid',
  )
}

module.exports = { JUDGED, PROOFS, madeUp }
