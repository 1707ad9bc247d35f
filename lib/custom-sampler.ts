// Samplers that callers bring: held to the rules that the built-in ones keep by construction.
import { PocError, shown, wrongValue } from './errors'
import {
  checkSamplerName,
  isBuiltInSampler,
  isOwnSampler,
  type LayerSampler,
  parseLayerSampler,
  parseTokenSampler,
  type TokenSampler,
} from './sampler'

/** Samplers to use instead of those that the header names; they must have the header's names. */
export interface Samplers {
  tokenSampler?: string | TokenSampler
  layerSampler?: string | LayerSampler
}

/**
 * The token sampler to use for a header that names `headerName`; what a custom one returns is checked.
 *
 * @throws {PocError} INVALID_ARGUMENT
 */
export function resolveTokenSampler(headerName: string, given?: string | TokenSampler): TokenSampler {
  if (given === undefined && !isBuiltInSampler(headerName)) throw unknownSampler('tokenSampler', headerName)
  const named = given ?? headerName
  const sampler = typeof named === 'string' ? parseTokenSampler(named) : checkedTokenSampler(named)
  return sameName(sampler, headerName, 'tokenSampler')
}

/** As {@link resolveTokenSampler}, for layers. */
export function resolveLayerSampler(headerName: string, given?: string | LayerSampler): LayerSampler {
  if (given === undefined && !isBuiltInSampler(headerName)) throw unknownSampler('layerSampler', headerName)
  const named = given ?? headerName
  const sampler = typeof named === 'string' ? parseLayerSampler(named) : checkedLayerSampler(named)
  return sameName(sampler, headerName, 'layerSampler')
}

/** A caller's sampler with its results checked; one that this library made comes back as it is. */
export function checkedTokenSampler(sampler: TokenSampler): TokenSampler {
  const where = 'tokenSampler'
  if (isOwn(sampler)) return requireMethod(sampler, 'samples', where)
  const name = customName(requireMethod(sampler, 'samples', where), where)
  const { num, den } = sampler.rate ?? {}
  if (!Number.isSafeInteger(num) || !Number.isSafeInteger(den) || num < 0 || den < 1 || num > den) {
    throw wrongValue('INVALID_ARGUMENT', `${where}.rate`, 'integers { num, den } with 0 <= num <= den', sampler.rate)
  }
  return {
    name,
    rate: { num, den },
    samples(context, position) {
      const result: unknown = guarded(where, () => sampler.samples(context.slice(), position))
      if (typeof result === 'boolean') return result
      throw wrongValue('INVALID_ARGUMENT', `${where}.samples()`, 'a boolean', result)
    },
  }
}

/** A caller's sampler with its results checked; one that this library made comes back as it is. */
export function checkedLayerSampler(sampler: LayerSampler): LayerSampler {
  const where = 'layerSampler'
  if (isOwn(sampler)) return requireMethod(sampler, 'layers', where)
  const name = customName(requireMethod(sampler, 'layers', where), where)
  return {
    name,
    layers(context, position, numLayers) {
      const result: unknown = guarded(where, () => sampler.layers(context.slice(), position, numLayers))
      if (areLayers(result, numLayers)) return [...result]
      const expected = `strictly increasing integers in 0..${numLayers - 1}, at least one`
      throw wrongValue('INVALID_ARGUMENT', `${where}.layers()`, expected, result)
    },
  }
}

function areLayers(value: unknown, numLayers: number): value is number[] {
  if (!Array.isArray(value) || value.length < 1 || value.length > numLayers) return false
  return Array.from(value).every(
    (layer, i) => Number.isInteger(layer) && layer < numLayers && layer >= 0 && (i === 0 || layer > value[i - 1]),
  )
}

function isOwn(sampler: unknown): boolean {
  return typeof sampler === 'object' && sampler !== null && isOwnSampler(sampler)
}

function requireMethod<T>(sampler: T, method: keyof T & string, where: string): T {
  if (typeof sampler !== 'object' || sampler === null || typeof sampler[method] !== 'function') {
    throw wrongValue('INVALID_ARGUMENT', where, `a name, or an object with name and ${method}()`, sampler)
  }
  return sampler
}

function customName(sampler: { readonly name: string }, where: string): string {
  const name = checkSamplerName(sampler.name, `${where}.name`, 'INVALID_ARGUMENT')
  if (!isBuiltInSampler(name)) return name
  throw wrongValue('INVALID_ARGUMENT', `${where}.name`, 'a name that no built-in sampler has', name)
}

/** `where` tells a header that names what nobody gave from a caller's own sampler that is wrong. */
function unknownSampler(part: 'tokenSampler' | 'layerSampler', name: string): PocError {
  return wrongValue('INVALID_ARGUMENT', `header.${part}`, `built in, or given as ${part}`, name)
}

function sameName<T extends { readonly name: string }>(sampler: T, headerName: string, where: string): T {
  if (sampler.name === headerName) return sampler
  throw wrongValue('INVALID_ARGUMENT', where, `the header's '${headerName}'`, sampler.name)
}

function guarded<T>(where: string, call: () => T): T {
  try {
    return call()
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : shown(cause)
    throw new PocError('INVALID_ARGUMENT', `${where} threw: ${message}`, { where, cause })
  }
}
