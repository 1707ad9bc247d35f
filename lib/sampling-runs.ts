// Where the last sample of a sequence lies, as expectations over runs of positions that are put together like strings.
// Every sum here has positive terms only, so that nothing cancels, for 10 positions as for 2^20.

/** Probabilities of one position, for one layer. All are joint with the event that nothing was noticed before it. */
export interface PositionOdds {
  /** That it is sampled; this one alone is not joint. */
  sampled: number
  /** Given that it is sampled: of any samples, of samples before the layer only, of samples up to the layer only. */
  any: number
  before: number
  upTo: number
  /** That it is replayed, which needs every layer. */
  replayed: number
}

/**
 * A run of positions; all is joint with the event that nothing was noticed before the layer. `last`: the place in the
 * run, from 1, of the last position for which the layer is needed.
 */
export interface Run {
  length: number
  /** P(nothing was noticed). */
  missed: number
  /** P(no position needs the layer), P(no position needs a deeper one). */
  none: number
  noneDeeper: number
  /** E[1], E[last], E[last^2], where some position needs the layer. */
  some: number
  last: number
  lastSquared: number
  /** E[1], E[last], E[samples at the layer], where the layer is the deepest one that is needed. */
  deepest: number
  deepestLast: number
  deepestSamples: number
}

/** The run of no positions. */
export const EMPTY_RUN: Run = Object.freeze({
  length: 0,
  missed: 1,
  none: 1,
  noneDeeper: 1,
  some: 0,
  last: 0,
  lastSquared: 0,
  deepest: 0,
  deepestLast: 0,
  deepestSamples: 0,
})

/** The run of one position. */
export function onePosition({ sampled, any, before, upTo, replayed }: PositionOdds): Run {
  const idle = 1 - sampled
  const some = sampled * (any - before) + replayed * (idle + sampled * before)
  const deepest = sampled * (upTo - before) * (1 - replayed)
  return {
    length: 1,
    missed: idle + sampled * any,
    none: (idle + sampled * before) * (1 - replayed),
    noneDeeper: (idle + sampled * upTo) * (1 - replayed),
    some,
    last: some,
    lastSquared: some,
    deepest,
    deepestLast: deepest,
    deepestSamples: deepest,
  }
}

/** The run of `low` and then `high`; positions are independent of each other. */
export function joined(low: Run, high: Run): Run {
  const { length, missed } = low
  if (length === 0) return high
  if (high.length === 0) return low
  const last = high.last + length * high.some
  const lastSquared = high.lastSquared + length * (high.last + last)
  return {
    length: length + high.length,
    missed: missed * high.missed,
    none: low.none * high.none,
    noneDeeper: low.noneDeeper * high.noneDeeper,
    some: low.some * high.none + missed * high.some,
    last: low.last * high.none + missed * last,
    lastSquared: low.lastSquared * high.none + missed * lastSquared,
    deepest: low.deepest * high.none + low.noneDeeper * high.deepest,
    deepestLast: low.deepestLast * high.none + low.noneDeeper * (high.deepestLast + length * high.deepest),
    deepestSamples: low.deepestSamples * high.noneDeeper + low.noneDeeper * high.deepestSamples,
  }
}

/** The run of `count` times the same, by doubling. */
export function repeated(run: Run, count: number): Run {
  if (count === 0) return EMPTY_RUN
  let power = run
  let left = count
  for (; left % 2 === 0; left /= 2) power = joined(power, power)
  let result = power
  for (left = (left - 1) / 2; left > 0; left = Math.floor(left / 2)) {
    power = joined(power, power)
    if (left % 2 === 1) result = joined(result, power)
  }
  return result
}
