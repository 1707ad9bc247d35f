'use strict'
// A model's config.json, from its bytes to the tensors that it asks for.
const { attempt, dist, fuzzTarget, must } = require('../target.cjs')
const { edited, wordsOf } = require('../edits.cjs')
const { CONFIGS } = require('../model-folder.cjs')

const { parseConfig } = dist('config')
const { parseJson } = dist('json')
const { expectedTensors } = dist('safetensors')

const words = wordsOf(...CONFIGS)

module.exports = fuzzTarget({
  seeds: () => CONFIGS.map((config) => JSON.stringify(config)),
  words,
  run(bytes) {
    const codes = ['MODEL_MALFORMED', 'MODEL_UNSUPPORTED']
    const isText = bytes[0] === 0x7b
    const text = isText ? bytes : Buffer.from(JSON.stringify(edited(CONFIGS, bytes, { words })) ?? '')
    const config = attempt(codes, () => parseConfig(parseJson(text, 'config.json'), 'config.json'))
    if (!config) return
    must(config.numHeads % config.numKvHeads === 0 && config.headDim % 2 === 0, 'heads divide into groups')
    const sizes = expectedTensors(config).flatMap(({ shape }) => shape)
    must(sizes.every(Number.isSafeInteger), 'sizes of tensors are whole numbers')
  },
})
