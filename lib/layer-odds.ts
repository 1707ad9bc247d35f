// What a built-in layer sampler picks at one position, as probabilities.
import { integerIn, MAX_LAYERS } from './limits'
import { wrongValue } from './errors'
import { parseLayerSampler } from './sampler'

/** Odds of one draw of layers, for one number of candidates. */
export interface LayerOdds {
  /** Layers that are candidates, with those that no draw picks. */
  readonly numLayers: number
  /** Layers picked. */
  readonly count: number
  /**
   * E[(1 - rate)^h where all layers picked are below `below`, else 0], h being the number of wrong layers picked. Those
   * from `wrongBelow` on do not count as wrong.
   */
  missed(wrong: readonly boolean[], rate: number, below?: number, wrongBelow?: number): number
  /** The least number of wrong layers that a draw can pick. */
  leastWrong(wrong: readonly boolean[]): number
}

const NEGLIGIBLE = 1e-30 // a weight beside the likeliest one, which is 1

/** `take` distinct layers of `first .. end - 1`, every subset equally likely. */
interface Band {
  first: number
  end: number
  take: number
}

/**
 * The odds of a layer sampler that is called with `numLayers` layers.
 *
 * Each of the three samplers is a set of independent bands: `uniform:c` takes c of all candidates, `stratified:c` one
 * of each of c bands, `fixed` the only layer of each.
 * @throws {PocError} INVALID_ARGUMENT: no built-in sampler, or a fixed layer that is none of `numLayers`
 */
export function layerOdds(layerSampler: string, numLayers: number): LayerOdds {
  const bands = bandsOf(layerSampler, integerIn(numLayers, 1, MAX_LAYERS + 1, 'numLayers', 'INVALID_ARGUMENT'))
  return {
    numLayers,
    count: bands.reduce((sum, { take }) => sum + take, 0),
    missed(wrong, rate, below = numLayers, wrongBelow = below) {
      let value = 1
      for (let i = bands.length - 1; i >= 0; i--) {
        const { first, end, take } = bands[i]
        const size = Math.min(end, below) - first
        if (size < take) return 0 // told by the deepest band, which is why it comes first
        const marked = numWrong(wrong, first, Math.min(first + size, wrongBelow))
        value *= noneAmong(end - first, end - first - size, take) * meanMissed(size, marked, take, rate)
      }
      return value
    },
    leastWrong: (wrong) =>
      bands.reduce((sum, { first, end, take }) => {
        return sum + Math.max(0, take - (end - first - numWrong(wrong, first, end)))
      }, 0),
  }
}

/** The probability that none of `marked` things is among `take` of `total`. */
function noneAmong(total: number, marked: number, take: number): number {
  if (marked === 0) return 1
  let probability = 1
  for (let i = 0; i < take; i++) probability *= Math.max(0, total - marked - i) / (total - i)
  return probability
}

/** E[(1 - rate)^h], h being how many of `marked` things are among `take` of `total`. */
function meanMissed(total: number, marked: number, take: number, rate: number): number {
  if (rate === 1) return noneAmong(total, marked, take)
  if (take === 1) return (total - marked + marked * (1 - rate)) / total
  return marked === 0 ? 1 : hypergeometricMean(total, marked, take, (h) => (1 - rate) ** h)
}

function numWrong(wrong: readonly boolean[], first: number, end: number): number {
  let sum = 0
  for (let layer = first; layer < end; layer++) if (wrong[layer]) sum++
  return sum
}

function bandsOf(layerSampler: string, numLayers: number): Band[] {
  const sampler = parseLayerSampler(layerSampler)
  const [family, argument] = sampler.name.split(':')
  if (family === 'fixed') {
    const layers = sampler.layers(new Uint8Array(32), 0, numLayers) // refuses a layer that is not there
    return layers.map((layer) => ({ first: layer, end: layer + 1, take: 1 }))
  }
  const first = numLayers === 1 ? 0 : 1
  const candidates = numLayers - first
  const count = Math.min(Number(argument), candidates)
  if (family === 'uniform') return [{ first, end: numLayers, take: count }]
  if (family !== 'stratified') throw wrongValue('INVALID_ARGUMENT', 'layerSampler', 'a built-in one', layerSampler)
  const edge = (band: number) => first + Math.floor((band * candidates) / count)
  return Array.from({ length: count }, (_, band) => ({ first: edge(band), end: edge(band + 1), take: 1 }))
}

/**
 * E[f(h)], h being how many of `marked` things are among `take` of `total`: hypergeometric.
 *
 * Weights are taken relative to the likeliest h and outwards, so that nothing overflows, whatever the numbers.
 */
export function hypergeometricMean(total: number, marked: number, take: number, f: (h: number) => number): number {
  const least = Math.max(0, take - (total - marked))
  const most = Math.min(take, marked)
  const mode = Math.min(most, Math.max(least, Math.floor(((take + 1) * (marked + 1)) / (total + 2))))
  // P(h + 1) / P(h)
  const ratio = (h: number) => ((marked - h) * (take - h)) / ((h + 1) * (total - marked - take + h + 1))
  let weights = 1
  let sum = f(mode)
  for (let h = mode, weight = 1; h < most && weight > NEGLIGIBLE; h++) {
    weight *= ratio(h)
    weights += weight
    sum += weight * f(h + 1)
  }
  for (let h = mode, weight = 1; h > least && weight > NEGLIGIBLE; h--) {
    weight /= ratio(h - 1)
    weights += weight
    sum += weight * f(h - 1)
  }
  return sum / weights
}
