// The tables of docs/POWER.md are computed here, so that the page cannot drift from the code.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { ModelConfig } from '../../lib/config'
import { leastBernoulli, planPower, type PowerAttack, type PowerPolicy, proofsNeeded } from '../../lib/power'
import { expectedProofs, type SequentialTerms } from '../../lib/sequential'
import { CONFIG } from './power-simulation'

const page = readFileSync(join(__dirname, '../../docs/POWER.md'), 'utf8')

// The shape of Llama 3.1 8B.
const MODEL: ModelConfig = {
  ...CONFIG,
  vocabSize: 128256,
  hiddenSize: 4096,
  intermediateSize: 14336,
  numLayers: 32,
  numHeads: 32,
  numKvHeads: 8,
  headDim: 128,
}
const POLICY: PowerPolicy = {
  tokenSampler: 'bernoulli:1/32',
  layerSampler: 'stratified:2',
  depth: 'kv',
  numLayers: 32,
  numPositions: 1023,
  promptLength: 512,
  replay: 'none',
  challenge: 'beacon',
}
const policies: [string, Partial<PowerPolicy>][] = [
  ['`kv`, positions from the context', { challenge: 'context' }],
  ['`kv`, positions from a beacon', {}],
  ['`full`', { depth: 'full' }],
  ['`random:1`', { depth: 'random:1' }],
  ['`random:2`', { depth: 'random:2' }],
  ['`full`, `uniform:1`', { depth: 'full', layerSampler: 'uniform:1' }],
  ['`full`, `bernoulli:1/8`', { depth: 'full', tokenSampler: 'bernoulli:1/8' }],
  ['`full`, replay `1/8`', { depth: 'full', replay: '1/8' }],
  ['`full`, replay `all`', { depth: 'full', replay: 'all' }],
]
const attack = (wrongLayers: number, wrongPositions: number, wrongTokens = 0): PowerAttack => {
  return { wrongLayers, wrongPositions, wrongTokens, choice: 'evasive' }
}
const attacks = [attack(33, 1023), attack(9, 1023), attack(1, 1023), attack(33, 16), attack(0, 0, 16)]

const row = (cells: (string | number)[]) => `| ${cells.join(' | ')} |`
/** Three digits; 0 and 1 only where a double is exactly that. */
function chance(value: number): string {
  if (value === 0 || value === 1) return `${value}`
  if (value < 0.001) return value.toExponential(0)
  return value > 0.999 ? '> 0.999' : value.toFixed(3)
}

test('policies against attacks', () => {
  for (const [name, some] of policies) {
    const powers = attacks.map((each) => planPower({ ...POLICY, ...some }, each, MODEL))
    const [other, cheapRest] = powers
    const costs = [other.honest.share!, other.attacked.share!, cheapRest.attacked.share!].map((x) => x.toFixed(2))
    expect(page).toContain(row([name, ...powers.map(({ detection }) => chance(detection)), ...costs]))
  }
})

test('proofs and rates for few wrong positions', () => {
  for (const wrongPositions of [1, 4, 16, 64]) {
    const each = attack(33, wrongPositions)
    const { tokenSampler: _, ...policy } = POLICY
    const { detection } = planPower(POLICY, each)
    const rate = leastBernoulli(policy, each, 0.99)
    expect(page).toContain(row([wrongPositions, chance(detection), proofsNeeded(detection, 0.99), `\`${rate}\``]))
  }
})

test('proofs that the sequential test takes', () => {
  const tests: SequentialTerms[] = [
    { honestRejection: 0, cheatRejection: 0.1, falseSlash: 1e-6, missedCheat: 0.01 },
    { honestRejection: 0, cheatRejection: 0.5, falseSlash: 1e-6, missedCheat: 0.01 },
    { honestRejection: 0.001, cheatRejection: 0.1, falseSlash: 1e-6, missedCheat: 0.01 },
    { honestRejection: 0.02, cheatRejection: 0.1, falseSlash: 1e-6, missedCheat: 0.01 },
  ]
  for (const terms of tests) {
    const { honest, cheating } = expectedProofs(terms)
    const cells = [terms.honestRejection, terms.cheatRejection, Math.ceil(honest), Math.ceil(cheating)]
    expect(page).toContain(row(cells))
  }
})
