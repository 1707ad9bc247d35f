// The power of a policy: how likely a proof exposes a stated attack, and what checking it costs on average.
import type { ModelConfig } from './config'
import { fullPrefillCost } from './cost'
import { missedSamples } from './detection'
import { wrongValue } from './errors'
import { expectedSteps } from './expected-cost'
import { layerOdds } from './layer-odds'
import { type CheckedAttack, type CheckedPolicy, checkAttack, checkPolicy, numGenerated } from './power-policy'
import { type PowerAttack, type PowerPolicy, probability } from './power-policy'
import { parseTokenSampler } from './sampler'

export { MAX_POWER_LAYERS, type PowerAttack, type PowerPolicy } from './power-policy'

/** Averages over all draws. */
export interface ExpectedCost {
  /** Layers that are computed, the virtual one counted as one. */
  layers: number
  /** As `planCost` counts them, and the output head at replayed tokens; null without a config. */
  flops: number | null
  /** `flops` over those of a full prefill without output head, so that it may exceed 1; null without a config. */
  share: number | null
}

/** What {@link planPower} says. */
export interface Power {
  /** The probability that a proof of this attack is rejected. */
  detection: number
  /** Expected (layer, position) pairs in a proof. */
  samples: number
  /** Expected tokens that are replayed. */
  replayed: number
  /** Of a proof with nothing wrong: nothing ends early. */
  honest: ExpectedCost
  /**
   * Of a proof of this attack: verification ends with the first layer at which a wrong sample is noticed. Nearly exact:
   * see docs/POWER.md.
   */
  attacked: ExpectedCost
}

/**
 * How likely a policy exposes an attack, and what it costs; docs/POWER.md has the formulas.
 *
 * @param config - Of a model with `policy.numLayers` layers, for FLOPs.
 * @throws {PocError} INVALID_ARGUMENT
 */
export function planPower(policy: PowerPolicy, attack: PowerAttack, config: ModelConfig | null = null): Power {
  const checked = checkPolicy(policy, config)
  const wrongs = checkAttack(attack, checked)
  const wrong = wrongs.samples
  const { sequence, classes, layerSampler, depths } = checked
  const honest = { layers: 0, flops: 0 }
  const attacked = { layers: 0, flops: 0 }
  let missed = 0
  let samplesPerPosition = 0
  depths.forEach((probability, depth) => {
    if (probability === 0) return
    const odds = layerOdds(layerSampler, depth + 1)
    samplesPerPosition += probability * odds.count
    const before = wrong.layers.map(() => false)
    let undecided = probability
    expectedSteps(sequence, odds, wrong, config).forEach((step, layer) => {
      honest.layers += probability * step.honest.computed
      honest.flops += probability * step.honest.flops
      attacked.layers += undecided * step.attacked.computed
      attacked.flops += undecided * step.attacked.flops
      if (!wrong.layers[layer] || layer > depth || undecided === 0) return
      before[layer] = true
      undecided = probability * missedSamples(classes, odds, { ...wrong, layers: before })
    })
    missed += undecided
  })
  const replayed = sequence.replay * numGenerated(sequence)
  const head = config === null ? 0 : replayed * 2 * config.hiddenSize * config.vocabSize
  honest.flops += head
  attacked.flops += missed * head
  const total = config === null ? null : fullPrefillCost(sequence, config)
  const cost = ({ layers, flops }: typeof honest): ExpectedCost =>
    total === null ? { layers, flops: null, share: null } : { layers, flops, share: flops / total }
  return {
    detection: detectionOf(checked, wrongs),
    samples: (classes.certain + classes.free * classes.chance) * samplesPerPosition,
    replayed,
    honest: cost(honest),
    attacked: cost(attacked),
  }
}

/**
 * The least number of independent proofs of which at least one is rejected with probability `target`; Infinity where
 * a proof is never rejected.
 *
 * @param detection - Of one proof, 0 to 1.
 * @param target - From 0 to below 1.
 * @throws {PocError} INVALID_ARGUMENT
 */
export function proofsNeeded(detection: number, target: number): number {
  probability(detection, 'detection')
  if (probability(target, 'target') === 1) throw wrongValue('INVALID_ARGUMENT', 'target', 'below 1', target)
  if (target === 0) return 0
  if (detection === 1) return 1
  return Math.ceil(Math.log1p(-target) / Math.log1p(-detection))
}

/**
 * The least rate, in 65536ths, at which `bernoulli` exposes the attack with probability `target`; null where none does.
 *
 * @param policy - Its own token sampler does not count.
 * @returns The token sampler's name.
 * @throws {PocError} INVALID_ARGUMENT
 */
export function leastBernoulli(
  policy: Omit<PowerPolicy, 'tokenSampler'>,
  attack: PowerAttack,
  target: number,
): string | null {
  probability(target, 'target')
  const sampler = (rate: number) => parseTokenSampler(`bernoulli:${rate}/65536`).name
  const reaches = (rate: number) => {
    const checked = checkPolicy({ ...policy, tokenSampler: sampler(rate) }, null)
    return detectionOf(checked, checkAttack(attack, checked)) >= target
  }
  if (!reaches(65536)) return null
  let low = 0
  let high = 65536
  while (high - low > 1) {
    const middle = (low + high) >>> 1
    if (reaches(middle)) high = middle
    else low = middle
  }
  return sampler(high)
}

/** Over all depths. As a sum of what is caught, so that an attack that does nothing is caught with probability 0. */
function detectionOf({ classes, layerSampler, depths }: CheckedPolicy, attack: CheckedAttack): number {
  const sum = depths.reduce((caught, probability, depth) => {
    if (probability === 0) return caught
    const missed = missedSamples(classes, layerOdds(layerSampler, depth + 1), attack.samples)
    return caught + probability * (1 - missed * attack.missedReplay)
  }, 0)
  return Math.min(1, sum)
}
