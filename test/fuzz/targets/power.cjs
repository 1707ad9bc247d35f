'use strict'
// planPower() on policies and attacks in JSON, such as a form on a page sends: bounded in time, whatever they say.
const { attempt, dist, fuzzTarget, must } = require('../target.cjs')
const { jsonOrEdited, wordsOf } = require('../edits.cjs')
const { CONFIGS } = require('../model-folder.cjs')

const { parseConfig } = dist('config')
const { planPower, proofsNeeded } = dist('power')

const MOST_LAYERS = 24 // the work grows with their cube: a fuzzer tries little where one input takes seconds
const POLICY = {
  tokenSampler: 'bernoulli:1/32',
  layerSampler: 'stratified:2',
  depth: 'random:3',
  numLayers: 6,
  numPositions: 500,
  promptLength: 100,
  replay: '1/8',
  challenge: 'beacon',
}
const ATTACK = { wrongLayers: 3, wrongPositions: 40, wrongTokens: 4, choice: 'random' }
const TOLERANT = { sampleDetection: 0.7, tokenDetection: 0.5 }
const deep = { numLayers: MOST_LAYERS, depth: 'random:1', layerSampler: 'uniform:9', numPositions: 2 ** 20 - 1 }
const examples = [
  { policy: POLICY, attack: ATTACK, target: 0.99 },
  { policy: { ...POLICY, depth: 'kv', challenge: 'context' }, attack: { ...ATTACK, choice: 'evasive' }, target: 0.5 },
  { policy: { ...POLICY, ...deep }, attack: { ...ATTACK, ...TOLERANT, wrongLayers: [0, 3, 24] }, target: 1 },
  {
    policy: { ...POLICY, tokenSampler: 'every:7', depth: 'full', layerSampler: 'fixed:1,6' },
    attack: ATTACK,
    target: 0,
  },
]
const words = [...wordsOf(...examples), 'all', 'none', 'uniform:256', 'stratified:256', '1/4294967295', '0/1']
const [config] = CONFIGS.map((each) => parseConfig(each, 'config.json'))
const isPart = (value, most = 1) => value >= 0 && value <= most * (1 + 1e-9)

function plan({ policy, attack, target }, withConfig) {
  const { numLayers, numPositions } = policy ?? {}
  if (numLayers > MOST_LAYERS) return
  const power = planPower(policy, attack, withConfig ? { ...config, numLayers } : null)
  const { detection, samples, replayed, honest, attacked } = power
  must(isPart(detection), 'detection is a probability')
  must(isPart(samples, numPositions * (numLayers + 1)), 'samples are some of all')
  must(isPart(replayed, numPositions), 'replayed tokens are some of all')
  must(isPart(honest.layers, numLayers + 1) && isPart(attacked.layers, honest.layers), 'an attack ends sooner')
  if (withConfig) must(honest.flops >= 0 && isPart(attacked.flops, honest.flops), 'and costs less')
  must(proofsNeeded(Math.min(1, detection), target) >= 0, 'a number of proofs is needed')
}

module.exports = fuzzTarget({
  maxBytes: 1024,
  seeds: () => examples.flatMap((example, i) => [JSON.stringify(example), Uint8Array.of(i), Uint8Array.of(i, 0)]),
  words,
  run(bytes) {
    const given = jsonOrEdited(examples, bytes, words) ?? {}
    attempt(['INVALID_ARGUMENT'], () => plan(given, bytes.length % 2 === 0))
  },
})
