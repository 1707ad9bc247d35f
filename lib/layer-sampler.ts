// The built-in layer samplers, on unbiased integers drawn from a hash of the context.
import { type Draw, uniformIntegers } from './draw'
import { wrongValue } from './errors'
import { contextHash } from './hash'
import { integerIn, MAX_FIXED_LAYERS, MAX_LAYERS } from './limits'
import type { LayerSampler } from './sampler'
import { wholeNumber } from './token-sampler'

/** `count` of the candidates 0 .. candidates - 1, ascending. */
type Choose = (draw: Draw, count: number, candidates: number) => number[]

/** `count` distinct layers, every subset equally likely. */
export function uniform(argument: string): LayerSampler | null {
  return drawn('uniform', argument, anySubset)
}

/** One layer in each of `count` bands of depth. */
export function stratified(argument: string): LayerSampler | null {
  return drawn('stratified', argument, oneInEachBand)
}

/** The layers named, at every sampled position. */
export function fixed(argument: string): LayerSampler | null {
  const parts = argument.split(',')
  const layers = parts.map((part) => wholeNumber(part, 0, MAX_LAYERS) ?? -1).sort((a, b) => a - b)
  const repeated = layers.some((layer, i) => layer === layers[i - 1])
  if (parts.length > MAX_FIXED_LAYERS || layers[0] < 0 || repeated) return null
  const name = `fixed:${layers.join(',')}`
  return {
    name,
    layers(_context, _position, numLayers) {
      if (layers[layers.length - 1] < numLayers) return [...layers]
      throw wrongValue('INVALID_ARGUMENT', 'layerSampler', `a sampler of layers under ${numLayers}`, name)
    },
  }
}

function drawn(family: string, argument: string, choose: Choose): LayerSampler | null {
  const count = wholeNumber(argument, 1, MAX_LAYERS)
  if (count === null) return null
  const hash = contextHash('layer-sampler')
  return {
    name: `${family}:${count}`,
    layers(context, _position, numLayers) {
      // Layer 0's K and V depend on token and position alone: they say nothing about the context.
      const first = integerIn(numLayers, 1, MAX_LAYERS + 1, 'numLayers', 'INVALID_ARGUMENT') === 1 ? 0 : 1
      const candidates = numLayers - first
      const chosen = choose(uniformIntegers(hash, context), Math.min(count, candidates), candidates)
      return chosen.map((candidate) => first + candidate)
    },
  }
}

// Floyd's algorithm: `count` draws, whatever they are, give `count` distinct numbers.
export function anySubset(draw: Draw, count: number, candidates: number): number[] {
  const chosen = new Set<number>()
  for (let last = candidates - count; last < candidates; last++) {
    const candidate = draw(last + 1)
    chosen.add(chosen.has(candidate) ? last : candidate)
  }
  return [...chosen].sort((a, b) => a - b)
}

function oneInEachBand(draw: Draw, count: number, candidates: number): number[] {
  const edge = (band: number) => Math.floor((band * candidates) / count)
  return Array.from({ length: count }, (_, band) => edge(band) + draw(edge(band + 1) - edge(band)))
}
