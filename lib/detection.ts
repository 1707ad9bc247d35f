// The probability that wrong samples and wrong tokens go unnoticed, in closed form.
import { hypergeometricMean, type LayerOdds } from './layer-odds'

/** A token sampler as odds: every `step`-th position is sampled with probability `chance`; the last one always. */
export interface PositionSampling {
  step: number
  chance: number
}

/** Positions by how surely they are sampled: `certain` ones always, `free` ones each with probability `chance`. */
export interface PositionClasses {
  certain: number
  free: number
  chance: number
}

/** Where an attack is wrong, and who decided that. */
export interface WrongSamples {
  /** Positions. */
  count: number
  /** By layer, up to the virtual one. */
  layers: readonly boolean[]
  /** How likely a verifier notices one wrong sample that it looks at. */
  noticed: number
  /** `informed`: the generator knows what will be sampled, and tries until it suits. */
  choice: 'random' | 'evasive' | 'informed'
}

/** The classes of `numPositions` positions; the last one is always certain. */
export function positionClasses({ step, chance }: PositionSampling, numPositions: number): PositionClasses {
  const stepEnds = Math.floor(numPositions / step)
  const certain = chance < 1 ? 1 : stepEnds + (numPositions % step === 0 ? 0 : 1)
  return { certain, free: numPositions - certain, chance: step === 1 ? chance : 0 }
}

/**
 * The probability that no wrong sample is noticed, for one depth.
 *
 * A wrong position is missed with probability u = E[(1 - noticed)^h] if it is certain, h being the wrong layers
 * picked there, and w = 1 - chance (1 - u) if it is free; positions are independent. With m wrong positions, j of them
 * certain, the result is u^j w^(m-j): j is hypergeometric for a random choice, as small as can be for an evasive one.
 * One that is informed leaves j certain positions with the fewest wrong layers that a draw can have, and no other.
 */
export function missedSamples(classes: PositionClasses, odds: LayerOdds, attack: WrongSamples): number {
  const { certain, free, chance } = classes
  const { count, layers, noticed, choice } = attack
  const forced = Math.max(0, count - free)
  if (choice === 'informed') return (1 - noticed) ** (forced * odds.leastWrong(layers))
  const atCertain = odds.missed(layers, noticed)
  const atFree = 1 - chance * (1 - atCertain)
  const logs = [Math.log(atCertain), Math.log(atFree)]
  const areFinite = logs.every(Number.isFinite)
  // exp() of a sum that matters is as exact as the powers, of which a mean may have thousands.
  const missed = (j: number) =>
    areFinite ? Math.exp(j * logs[0] + (count - j) * logs[1]) : atCertain ** j * atFree ** (count - j)
  return choice === 'evasive' ? missed(forced) : hypergeometricMean(certain + free, certain, count, missed)
}

/** The probability that none of `count` wrong tokens is noticed, each replayed with probability `replay`. */
export function missedTokens(count: number, replay: number, noticed: number, choice: WrongSamples['choice']): number {
  if (choice === 'informed' && replay < 1) return 1
  return (1 - replay * noticed) ** count
}
