// Which positions a layer is computed for, as expectations over runs of positions that are put together like strings.
// Every sum here has positive terms only, so that nothing cancels, for 10 positions as for 2^20.

/**
 * What one position needs of a layer: nothing of it or of deeper ones, a sample there and nothing deeper, or something
 * deeper. Probabilities, joint with the event that nothing was noticed before the layer, so that their sum is that
 * event's.
 */
export interface PositionOdds {
  nothing: number
  sample: number
  deeper: number
}

/**
 * A run of positions; all is joint with the event that nothing was noticed before the layer. `keys`: the place in the
 * run, from 1, of the last position that needs something deeper; 0 where none does.
 */
export interface Run {
  length: number
  /** P(nothing was noticed). */
  missed: number
  /** P(no position needs the layer), P(some position does). */
  none: number
  some: number
  /** P(no position needs a deeper one), P(some position does). */
  noneDeeper: number
  someDeeper: number
  /** E[keys], E[keys^2]. */
  keys: number
  keysSquared: number
  /** E[samples beyond the keys], E[the sum of their places]. */
  beyond: number
  beyondPlaces: number
}

/** The run of no positions. */
export const EMPTY_RUN: Run = Object.freeze({
  length: 0,
  missed: 1,
  none: 1,
  some: 0,
  noneDeeper: 1,
  someDeeper: 0,
  keys: 0,
  keysSquared: 0,
  beyond: 0,
  beyondPlaces: 0,
})

/** The run of one position. */
export function onePosition({ nothing, sample, deeper }: PositionOdds): Run {
  return {
    length: 1,
    missed: nothing + sample + deeper,
    none: nothing,
    some: sample + deeper,
    noneDeeper: nothing + sample,
    someDeeper: deeper,
    keys: deeper,
    keysSquared: deeper,
    beyond: sample,
    beyondPlaces: sample,
  }
}

/** The run of `low` and then `high`; positions are independent of each other. */
export function joined(low: Run, high: Run): Run {
  const { length, missed } = low
  if (length === 0) return high
  if (high.length === 0) return low
  const keys = high.keys + length * high.someDeeper
  const keysSquared = high.keysSquared + length * (high.keys + keys)
  const behind = (ofLow: number, ofHigh: number) => ofLow * high.noneDeeper + missed * ofHigh
  return {
    length: length + high.length,
    missed: missed * high.missed,
    none: low.none * high.none,
    some: low.some * high.none + missed * high.some,
    noneDeeper: low.noneDeeper * high.noneDeeper,
    someDeeper: behind(low.someDeeper, high.someDeeper),
    keys: behind(low.keys, keys),
    keysSquared: behind(low.keysSquared, keysSquared),
    beyond: behind(low.beyond, high.beyond),
    beyondPlaces: behind(low.beyondPlaces, high.beyondPlaces + length * high.beyond),
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
