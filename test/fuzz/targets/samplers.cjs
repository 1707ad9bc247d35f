'use strict'
// Names of samplers: the text after 'layer ' or 'token '.
const { attempt, dist, fuzzTarget, must } = require('../target.cjs')

const { parseLayerSampler, parseTokenSampler } = dist('sampler')

const TOKEN_NAMES = ['bernoulli:1/4', 'bernoulli:0.03125', 'every:3', 'all']
const LAYER_NAMES = ['uniform:3', 'stratified:2', 'fixed:0,3,5']
const CONTEXT = new Uint8Array(32).fill(7)

function checkLayers(sampler, numLayers) {
  const layers = attempt(['INVALID_ARGUMENT'], () => sampler.layers(CONTEXT, 5, numLayers))
  const holds = layers?.every((layer, i) => layer >= 0 && layer < numLayers && (i === 0 || layer > layers[i - 1]))
  must(layers === undefined || (layers.length > 0 && holds), 'layers ascend within the model')
}

module.exports = fuzzTarget({
  maxBytes: 2048,
  seeds: () => [...TOKEN_NAMES.map((name) => `token ${name}`), ...LAYER_NAMES.map((name) => `layer ${name}`)],
  words: ['token ', 'layer ', ...TOKEN_NAMES, ...LAYER_NAMES, '4294967295', '1048576', '4096', ':', ','],
  run(bytes) {
    const text = Buffer.from(bytes).toString('latin1')
    const parse = text.startsWith('layer ') ? parseLayerSampler : parseTokenSampler
    const sampler = attempt(['INVALID_ARGUMENT'], () => parse(text.slice(6)))
    if (!sampler) return
    must(parse(sampler.name).name === sampler.name, 'the name of a sampler is canonical')
    if (parse === parseLayerSampler) for (const numLayers of [1, 6, 48]) checkLayers(sampler, numLayers)
    else must(typeof sampler.samples(CONTEXT, 5) === 'boolean', 'a position is sampled or not')
  },
})
