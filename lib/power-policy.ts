// What planPower() is asked about: a policy and an attack, and their checks.
import type { ModelConfig } from './config'
import { parseDepth } from './depth'
import { missedTokens, type PositionClasses, positionClasses, type WrongSamples } from './detection'
import { wrongValue } from './errors'
import type { SequenceOdds } from './expected-cost'
import { fieldsOf } from './header'
import { integerIn, MAX_TOKENS } from './limits'
import { parseRatio } from './ratio'
import { parseTokenSampler } from './sampler'

/** What a proof samples and a verifier replays. */
export interface PowerPolicy {
  /** A built-in one; of a custom one, the odds are not known. */
  tokenSampler: string
  /** A built-in one. */
  layerSampler: string
  /** `kv`, `full` or `random:n`. */
  depth: string
  /** The model's, 1 to {@link MAX_POWER_LAYERS}; index `numLayers` is the virtual layer. */
  numLayers: number
  /** Positions that have KV: tokens less one. */
  numPositions: number
  promptLength: number
  /** The share of generated tokens whose choice is replayed, each by a draw of its own: `none`, `all` or `n/d`. */
  replay: string
  /** `context`: header and tokens tell what is sampled; `beacon`: nobody knows before the commitment. */
  challenge: 'context' | 'beacon'
}

/** What a generator did wrong: the stated layers at the stated number of positions, and other tokens. */
export interface PowerAttack {
  /** Indices, the virtual layer included; or k for the k deepest, which is an honest prefix with a cheap rest. */
  wrongLayers: number | readonly number[]
  /** Positions at which all of these layers are wrong. */
  wrongPositions: number
  /** Generated tokens that the sampler would not choose. */
  wrongTokens: number
  /**
   * `random`: at positions that do not depend on what is sampled. `evasive`: the generator knows the policy and
   * stays off positions that are certain to be sampled; under the challenge `context` it knows every sample and every
   * replayed token beforehand, and is taken to try until the draw suits it.
   */
  choice: 'random' | 'evasive'
  /** How likely a wrong sample that is looked at is noticed, as measured for a tolerance; 1 (bit-equal) if left out. */
  sampleDetection?: number
  /** The same for a replayed token. */
  tokenDetection?: number
}

/** Most layers that {@link planPower} takes: its work grows with their cube. */
export const MAX_POWER_LAYERS = 128

/** A policy as odds. */
export interface CheckedPolicy {
  sequence: SequenceOdds
  classes: PositionClasses
  layerSampler: string
  depths: number[]
  numLayers: number
  challenge: PowerPolicy['challenge']
}

/** An attack as odds. */
export interface CheckedAttack {
  samples: WrongSamples
  /** The probability that no replayed token is noticed. */
  missedReplay: number
}

/** @throws {PocError} INVALID_ARGUMENT */
export function checkPolicy(policy: PowerPolicy, config: ModelConfig | null): CheckedPolicy {
  fieldsOf(policy, 'policy', 'INVALID_ARGUMENT')
  const integer = (name: 'numLayers' | 'numPositions' | 'promptLength', max: number) =>
    integerIn(policy[name], 1, max, `policy.${name}`, 'INVALID_ARGUMENT')
  const numLayers = integer('numLayers', MAX_POWER_LAYERS)
  const numPositions = integer('numPositions', MAX_TOKENS - 1)
  const promptLength = integer('promptLength', numPositions + 1)
  const { layerSampler, challenge } = policy
  if (challenge !== 'context' && challenge !== 'beacon') {
    throw wrongValue('INVALID_ARGUMENT', 'policy.challenge', "'context' or 'beacon'", challenge)
  }
  const depth = parseDepth(policy.depth)
  if (depth.isRandom && challenge === 'context') {
    throw wrongValue('INVALID_ARGUMENT', 'policy.challenge', `'beacon' for the depth '${depth.name}'`, challenge)
  }
  const { name, rate } = parseTokenSampler(policy.tokenSampler)
  const sampling = name.startsWith('every:') ? { step: rate.den, chance: 1 } : { step: 1, chance: rate.num / rate.den }
  if (config !== null) {
    fieldsOf(config, 'config', 'INVALID_ARGUMENT')
    integerIn(config.numLayers, numLayers, numLayers, 'config.numLayers', 'INVALID_ARGUMENT')
    integerIn(config.vocabSize, 1, 2 ** 31, 'config.vocabSize', 'INVALID_ARGUMENT')
  }
  return {
    sequence: { ...sampling, numPositions, promptLength, replay: replayShare(policy.replay) },
    classes: positionClasses(sampling, numPositions),
    layerSampler,
    depths: depth.probabilities(numLayers),
    numLayers,
    challenge,
  }
}

/** @throws {PocError} INVALID_ARGUMENT */
export function checkAttack(attack: PowerAttack, policy: CheckedPolicy): CheckedAttack {
  fieldsOf(attack, 'attack', 'INVALID_ARGUMENT')
  const { choice, sampleDetection = 1, tokenDetection = 1 } = attack
  if (choice !== 'random' && choice !== 'evasive') {
    throw wrongValue('INVALID_ARGUMENT', 'attack.choice', "'random' or 'evasive'", choice)
  }
  const { numPositions, replay } = policy.sequence
  const count = integerIn(attack.wrongPositions, 0, numPositions, 'attack.wrongPositions', 'INVALID_ARGUMENT')
  const mostTokens = numGenerated(policy.sequence)
  const tokens = integerIn(attack.wrongTokens, 0, mostTokens, 'attack.wrongTokens', 'INVALID_ARGUMENT')
  const effective = choice === 'evasive' && policy.challenge === 'context' ? 'informed' : choice
  const noticed = probability(sampleDetection, 'attack.sampleDetection')
  const layers = wrongLayers(attack.wrongLayers, policy.numLayers)
  const tokenNoticed = probability(tokenDetection, 'attack.tokenDetection')
  return {
    samples: { count, layers, noticed, choice: effective },
    missedReplay: missedTokens(tokens, replay, tokenNoticed, effective),
  }
}

function wrongLayers(given: number | readonly number[], numLayers: number): boolean[] {
  const isWrong: boolean[] = new Array(numLayers + 1).fill(false)
  if (!Array.isArray(given)) {
    return isWrong.fill(
      true,
      numLayers + 1 - integerIn(given, 0, numLayers + 1, 'attack.wrongLayers', 'INVALID_ARGUMENT'),
    )
  }
  for (const layer of given) isWrong[integerIn(layer, 0, numLayers, 'a wrong layer', 'INVALID_ARGUMENT')] = true
  return isWrong
}

/** Tokens after the prompt. */
export function numGenerated({ numPositions, promptLength }: SequenceOdds): number {
  return numPositions + 1 - promptLength
}

function replayShare(replay: unknown): number {
  if (replay === 'none') return 0
  if (replay === 'all') return 1
  const { num, den } = parseRatio(replay, 'policy.replay')
  if (num <= den) return Number(num) / Number(den)
  throw wrongValue('INVALID_ARGUMENT', 'policy.replay', "'none', 'all' or a ratio up to 1", replay)
}

/** `value` as a number from 0 to 1. */
export function probability(value: unknown, where: string): number {
  if (typeof value === 'number' && value >= 0 && value <= 1) return value
  throw wrongValue('INVALID_ARGUMENT', where, 'a number from 0 to 1', value)
}
