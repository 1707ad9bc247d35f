// Depth policies: how deep the layers that a proof may sample go. Index `numLayers` is the virtual layer.
import { uniformIntegers } from './draw'
import { wrongValue } from './errors'
import { checkDigest, contextHash } from './hash'
import { integerIn, MAX_LAYERS } from './limits'
import { wholeNumber } from './token-sampler'

/** Says which layer is the deepest candidate, D, of one proof; layer samplers get D + 1 as their number of layers. */
export interface DepthPolicy {
  /** Goes into the header and thereby into the binding. */
  readonly name: string
  /** Whether D is drawn from the challenge's seed. */
  readonly isRandom: boolean
  /**
   * @param seed - Of the challenge, 32 bytes; not looked at unless `isRandom`.
   * @param numLayers - The model's, without the virtual layer.
   * @returns D, from 0 to `numLayers`.
   * @throws {PocError} INVALID_ARGUMENT
   */
  deepest(seed: Uint8Array | null, numLayers: number): number
  /** The probability of each D from 0 to `numLayers`. */
  probabilities(numLayers: number): number[]
}

const MAX_DRAWS = 16
const FORMS = `'kv', 'full' or 'random:n' with n in 1..${MAX_DRAWS}`

/**
 * The depth policy of a name.
 *
 * - `kv`: all layers that have K and V, so D = numLayers - 1;
 * - `full`: the virtual layer too, so D = numLayers;
 * - `random:n`: D is the least of n draws from 1..numLayers, so that most proofs are cheap and none says beforehand
 *   how deep it will be.
 * @throws {PocError} INVALID_ARGUMENT
 */
export function parseDepth(name: string): DepthPolicy {
  if (name === 'kv') return fixedDepth(name, -1)
  if (name === 'full') return fixedDepth(name, 0)
  const [family, argument, ...more] = typeof name === 'string' ? name.split(':') : []
  const draws = family === 'random' && more.length === 0 ? wholeNumber(argument ?? '', 1, MAX_DRAWS) : null
  if (draws === null) throw wrongValue('INVALID_ARGUMENT', 'depth', FORMS, name)
  return randomDepth(draws)
}

function fixedDepth(name: string, offset: number): DepthPolicy {
  const deepest = (numLayers: number) => layerCount(numLayers) + offset
  return Object.freeze({
    name,
    isRandom: false,
    deepest: (_seed: Uint8Array | null, numLayers: number) => deepest(numLayers),
    probabilities: (numLayers: number) =>
      Array.from({ length: layerCount(numLayers) + 1 }, (_, layer) => (layer === deepest(numLayers) ? 1 : 0)),
  })
}

function randomDepth(draws: number): DepthPolicy {
  const hash = contextHash('depth')
  return Object.freeze({
    name: `random:${draws}`,
    isRandom: true,
    deepest(seed: Uint8Array | null, numLayers: number) {
      layerCount(numLayers)
      const draw = uniformIntegers(hash, checkDigest(seed, 'seed'))
      let least = numLayers
      for (let i = 0; i < draws; i++) least = Math.min(least, 1 + draw(numLayers))
      return least
    },
    probabilities: (numLayers: number) =>
      Array.from({ length: layerCount(numLayers) + 1 }, (_, layer) => leastOf(draws, layer, numLayers)),
  })
}

// P(least = d) = x^n - y^n, x = (L - d + 1) / L, y = (L - d) / L; as a sum, so that no digits cancel.
function leastOf(draws: number, layer: number, numLayers: number): number {
  if (layer === 0) return 0
  const x = (numLayers - layer + 1) / numLayers
  const y = (numLayers - layer) / numLayers
  let sum = 0
  for (let i = 0; i < draws; i++) sum += x ** (draws - 1 - i) * y ** i
  return sum / numLayers
}

function layerCount(numLayers: number): number {
  return integerIn(numLayers, 1, MAX_LAYERS, 'numLayers', 'INVALID_ARGUMENT')
}
