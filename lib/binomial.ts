// Exact confidence bounds of a share that was counted.

/**
 * Upper bound of a probability of which `count` of `trials` came true: the greatest under which so few still have a
 * probability of 1 - confidence.
 *
 * @see Clopper and Pearson 1934.
 */
export function upperBound(count: number, trials: number, confidence: number): number {
  if (count >= trials) return 1
  let low = count / trials
  let high = 1
  while (high - low > 1e-9) {
    const middle = (low + high) / 2
    if (atMost(count, trials, middle) > 1 - confidence) low = middle
    else high = middle
  }
  return high
}

/** Lower bound, likewise. */
export function lowerBound(count: number, trials: number, confidence: number): number {
  return trials === 0 ? 0 : 1 - upperBound(trials - count, trials, confidence)
}

/** The probability of `count` or fewer of `trials`. */
function atMost(count: number, trials: number, probability: number): number {
  let logTerm = trials * Math.log1p(-probability)
  let sum = Math.exp(logTerm)
  for (let i = 1; i <= count; i++) {
    logTerm += Math.log((trials - i + 1) / i) + Math.log(probability) - Math.log1p(-probability)
    sum += Math.exp(logTerm)
  }
  return sum
}
