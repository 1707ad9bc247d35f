// Draws contexts, runs the real samplers on them and counts: what lib/power.ts says in formulas, without any of them.
import { createCipheriv } from 'node:crypto'
import type { ModelConfig } from '../../lib/config'
import { costThroughLayer, fullPrefillCost } from '../../lib/cost'
import { parseDepth } from '../../lib/depth'
import { addSamples, type Plan } from '../../lib/plan'
import type { ExpectedCost, Power, PowerAttack, PowerPolicy } from '../../lib/power'
import { parseLayerSampler, parseTokenSampler } from '../../lib/sampler'

export const CONFIG: ModelConfig = {
  architecture: 'llama',
  vocabSize: 100,
  hiddenSize: 12,
  intermediateSize: 20,
  numLayers: 6,
  numHeads: 4,
  numKvHeads: 2,
  headDim: 6,
  maxPositions: 64,
  rmsNormEps: 1e-5,
  ropeTheta: 1e4,
  ropeScaling: null,
  slidingWindow: null,
  qkvBias: false,
  qkNorm: false,
  tiedHead: true,
  bosTokenId: null,
  eosTokenIds: [],
}

/** Pseudorandom bytes and what is made of them: AES-256 in counter mode. */
export function randomness(seed: number) {
  const cipher = createCipheriv('aes-256-ctr', Buffer.alloc(32, seed), Buffer.alloc(16))
  const block = Buffer.alloc(1 << 16)
  let bytes = new Uint8Array(0)
  let offset = 0
  const take = (count: number) => {
    if (offset + count > bytes.length) {
      bytes = Uint8Array.from(cipher.update(block))
      offset = 0
    }
    offset += count
    return bytes.subarray(offset - count, offset)
  }
  const coin = (probability: number) => {
    const b = take(4)
    return (b[0] | (b[1] << 8) | (b[2] << 16) | (b[3] << 24)) >>> 0 < probability * 2 ** 32
  }
  const shuffled = <T>(items: readonly T[]) => {
    const keyed = items.map((item) => ({ item, key: Buffer.from(take(6)).readUIntLE(0, 6) }))
    return keyed.sort((a, b) => a.key - b.key).map(({ item }) => item)
  }
  return { context: () => take(32), coin, shuffled }
}

const range = (from: number, to: number) => Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i)
const share = (text: string) => {
  if (text === 'none') return 0
  const [num, den] = text === 'all' ? [1, 1] : text.split('/').map(Number)
  return num / den
}

interface Spent {
  layers: number
  flops: number
}

/** Cost up to the samples of a layer, which may be the virtual one. */
function spent(plan: Plan, lastLayer: number, heads: number, config: ModelConfig): Spent {
  const headFlops = 2 * config.hiddenSize * config.vocabSize
  return { layers: lastLayer + 1, flops: costThroughLayer(plan, config, lastLayer) + heads * headFlops }
}

/** With the relative standard error of `flops`. */
interface MeanCost extends ExpectedCost {
  flops: number
  flopsError: number
}

function mean(costs: Spent[], fullPrefill: number): MeanCost {
  const average = (of: (cost: Spent) => number) => costs.reduce((sum, cost) => sum + of(cost), 0) / costs.length
  const flops = average((cost) => cost.flops)
  const variance = average((cost) => (cost.flops - flops) ** 2)
  const flopsError = Math.sqrt(variance / costs.length) / flops
  return { layers: average(({ layers }) => layers), flops, share: flops / fullPrefill, flopsError }
}

/** The averages over `trials` proofs; costs over every fourth of them. Not for a generator that knows the draw. */
export function simulate(policy: PowerPolicy, attack: PowerAttack, config: ModelConfig, trials: number, seed: number) {
  const { numLayers, numPositions, promptLength } = policy
  const { context, coin, shuffled } = randomness(seed)
  const tokenSampler = parseTokenSampler(policy.tokenSampler)
  const layerSampler = parseLayerSampler(policy.layerSampler)
  const depth = parseDepth(policy.depth)
  const positions = range(0, numPositions)
  const last = numPositions - 1
  const isSampled = (position: number) => tokenSampler.samples(context(), position) || position === last
  const certain = new Set(positions.filter((position) => range(0, 100).every(() => isSampled(position))))
  const generated = range(promptLength, numPositions + 1)
  const replay = share(policy.replay)
  const { wrongLayers: given } = attack
  const wrongLayers = new Set(typeof given === 'number' ? range(numLayers + 1 - given, numLayers + 1) : given)
  const honest: Spent[] = []
  const attacked: Spent[] = []
  const total = { detected: 0, samples: 0, replayed: 0 }

  for (let trial = 0; trial < trials; trial++) {
    const deepest = depth.deepest(context().slice(), numLayers)
    const mixed = shuffled(positions)
    const evasive = [...mixed.filter((p) => !certain.has(p)), ...mixed.filter((p) => certain.has(p))]
    const wrong = new Set((attack.choice === 'random' ? mixed : evasive).slice(0, attack.wrongPositions))
    const wrongTokens = new Set(shuffled(generated).slice(0, attack.wrongTokens))
    const sampled = new Map<number, number[]>()
    let noticedAt = Number.POSITIVE_INFINITY
    for (const position of positions) {
      if (!isSampled(position)) continue
      const layers = layerSampler.layers(context(), position, deepest + 1)
      addSamples(sampled, layers, position)
      total.samples += layers.length
      if (!wrong.has(position)) continue
      const noticed = layers.filter((layer) => wrongLayers.has(layer) && coin(attack.sampleDetection ?? 1))
      noticedAt = Math.min(noticedAt, ...noticed)
    }
    const replayed = generated.filter(() => coin(replay))
    const caught = replayed.filter((token) => wrongTokens.has(token) && coin(attack.tokenDetection ?? 1))
    total.replayed += replayed.length
    if (noticedAt <= numLayers || caught.length > 0) total.detected++
    if (trial % 4 !== 0) continue
    const plan = planOf(sampled, replayed, policy)
    const whole = spent(plan, plan.deepestLayer, replayed.length, config)
    honest.push(whole)
    attacked.push(noticedAt <= numLayers ? spent(plan, noticedAt, 0, config) : whole)
  }
  const fullPrefill = fullPrefillCost(policy, config)
  return {
    detection: total.detected / trials,
    samples: total.samples / trials,
    replayed: total.replayed / trials,
    honest: mean(honest, fullPrefill),
    attacked: mean(attacked, fullPrefill),
  } satisfies Power
}

/** The token at i is chosen by the final hidden state at i - 1, so a replay needs the virtual layer there. */
function planOf(sampled: Map<number, number[]>, replayed: number[], policy: PowerPolicy): Plan {
  const virtual = new Set([...(sampled.get(policy.numLayers) ?? []), ...replayed.map((token) => token - 1)])
  const all = new Map(sampled)
  if (virtual.size > 0) all.set(policy.numLayers, [...virtual])
  const layers = new Map(
    [...all].sort(([a], [b]) => a - b).map(([layer, list]) => [layer, Uint32Array.from(list).sort()]),
  )
  return {
    numPositions: policy.numPositions,
    layers,
    deepestLayer: Math.max(...layers.keys()),
    contextDigest: new Uint8Array(32),
    numSamples: 0,
  }
}
