'use strict'
// Tolerance profiles that no calibration made, in each form, and a proof that they cover.
const { createPrivateKey } = require('node:crypto')
const { dist } = require('./target.cjs')
const { madeUp } = require('./examples.cjs')

const { signProfile } = dist('profile-signature')
const { TRIVIAL_FORGERIES } = dist('tolerance')

const PKCS8 = Buffer.from('302e020100300506032b657004220420', 'hex') // of RFC 8410, before an Ed25519 key's 32 bytes
const der = Buffer.concat([PKCS8, Buffer.alloc(32, 7)])
const pem = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' }).export({ format: 'pem', type: 'pkcs8' })

const STRAIN = { min: 0.25, lowerQuartile: 0.5, median: 0.625, upperQuartile: 0.75, max: 1.5 }
const LIMITS = { typicalError: 2 ** -10, maxMeanScore: 3, maxMedianScore: 2, maxSampleScore: 40 }
const counted = { fittedSequences: 50, heldOutSequences: 50, rejectedSequences: 1, maxFalseRejection: 0.09 }
const CHEAT = { name: 'weights rounded to int8', sequences: 50, detectedSequences: 50, minDetection: 0.94 }

function profileOf({ header, tokens }, tokenGap) {
  const { modelDigest, numLayers, kvDtype, numerics, form, tokenSampler, layerSampler } = header
  return {
    version: 1,
    modelDigest,
    kvDtype,
    generator: numerics,
    verifier: 'ieee32',
    form,
    projections: form === 'sketch' ? 16 : 0,
    tokenSampler,
    layerSampler,
    minPositions: 1,
    maxPositions: tokens.length,
    layers: Array.from({ length: numLayers + 1 }, (_, layer) => ({ k: LIMITS, v: layer < numLayers ? LIMITS : null })),
    tokenGap,
    honest: { variants: ['llama.cpp'], ...counted, confidence: 0.95, strain: STRAIN },
    cheats: [{ ...CHEAT, strain: { ...STRAIN, max: 1e9 }, positionsNeeded: 64, samplesNeeded: 4.5 }],
    forgeries: TRIVIAL_FORGERIES.map((name) => ({ name, sequences: 50, passedSequences: 0, minStrain: 100 })),
  }
}

const GAP = { maxMeanGap: 0.5, ...counted, greatestHonestGap: 0.3, cheats: [{ ...CHEAT, leastGap: 1, medianGap: 2 }] }

/** In each form: a proof, the rows that its samples are of, and a profile of it, bare and signed by one key. */
const COVERED = ['rows', 'sketch'].map((form, i) => {
  const { proof, rows } = madeUp({ numerics: 'llama.cpp', sampling: null, stop: null, form })
  const profile = profileOf(proof, i === 0 ? null : GAP)
  return { proof, rows, profile, signed: signProfile(profile, pem) }
})

module.exports = { COVERED }
