// Depth policies: how deep the samples of a plan may lie.
import { wrongValue } from './errors'
import { contextHash } from './hash'
import { uniformIntegers } from './draw'

/** A depth policy by its name. */
export interface DepthPolicy {
  readonly name: string
  /** Whether the deepest layer is drawn, from a challenge's seed. */
  readonly isRandom: boolean
  /** The deepest layer that can be sampled; `numLayers` is the virtual layer. */
  greatest(numLayers: number): number
  /** The deepest layer that samples of one plan may lie at. */
  deepest(seed: Uint8Array | null, numLayers: number): number
}

export function parseDepth(name: string): DepthPolicy {
  if (name === 'kv') return { name, isRandom: false, greatest: (n) => n - 1, deepest: (_, n) => n - 1 }
  if (name === 'full') return { name, isRandom: false, greatest: (n) => n, deepest: (_, n) => n }
  const match = /^random:([1-9]|1[0-6])$/.exec(String(name))
  if (!match) throw wrongValue('INVALID_ARGUMENT', 'depth', "'kv', 'full' or 'random:n' with n of 1 to 16", name)
  const count = Number(match[1])
  const hash = contextHash('depth')
  return {
    name,
    isRandom: true,
    greatest: (n) => n,
    deepest(seed, numLayers) {
      if (!seed) throw wrongValue('INVALID_ARGUMENT', 'depth', "'kv' or 'full' without a challenge", name)
      const draw = uniformIntegers(hash, seed)
      return 1 + Math.min(...Array.from({ length: count }, () => draw(numLayers)))
    },
  }
}
