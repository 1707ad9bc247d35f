// Captures sampled vectors while a sequence grows: the context chain beside its cache, and the samples so far.
import { bindingDigest, contextChain, type ProofHeader } from './binding'
import { resolveLayerSampler, resolveTokenSampler, type Samplers } from './custom-sampler'
import { parseDepth } from './depth'
import { cutSamples, type KvSample, vectorBytes } from './kv'
import { addSamples } from './plan'
import { checkNumSamples } from './sample-groups'
import type { Rows, Sequence } from './sequence'

/** A sequence whose sampled vectors are copied out of the cache as their tokens are processed. */
export interface Capture {
  /** Feeds tokens, takes the samples that they ask for, and gives the token chosen after them. */
  append(tokens: Uint32Array): Promise<number>
  /**
   * Takes the samples at the last position with KV, which every plan holds, and binds the token after it, which is not
   * fed; gives all samples, in (layer, position) order.
   */
  finish(lastToken: number): { samples: KvSample[]; contextDigest: Uint8Array }
}

/**
 * A capture at positions from the context.
 *
 * @see Proof of Cache, section 3.2: "captured alongside the generated token".
 */
export function createCapture(sequence: Sequence, header: ProofHeader, samplers: Samplers): Capture {
  const tokenSampler = resolveTokenSampler(header.tokenSampler, samplers.tokenSampler)
  const layerSampler = resolveLayerSampler(header.layerSampler, samplers.layerSampler)
  const chain = contextChain(bindingDigest(header))
  const depth = parseDepth(header.depth).deepest(null, header.numLayers) + 1
  const bytesAt = (layer: number) => vectorBytes(header, header.kvDtype, layer)
  const samples: KvSample[] = []
  let position = -1 // the last one fed
  let context: Uint8Array = new Uint8Array(0)
  let isSampled = false

  // One push a sample: there may be more of them than a call takes arguments.
  const takeRows = (byLayer: ReadonlyMap<number, number[]>, rows: Rows) => {
    for (const sample of cutSamples(byLayer, rows, bytesAt)) samples.push(sample)
  }

  return {
    async append(tokens) {
      const wanted = new Map<number, number[]>()
      for (const token of tokens) {
        context = chain.push(token)
        isSampled = tokenSampler.samples(context, ++position)
        if (isSampled) addSamples(wanted, layerSampler.layers(context, position, depth), position)
      }
      const byLayer = new Map([...wanted].sort(([a], [b]) => a - b))
      const { token, ...rows } = await sequence.append(tokens, byLayer, null)
      takeRows(byLayer, rows)
      return token
    },

    finish(lastToken) {
      if (!isSampled) {
        const layers = layerSampler.layers(context, position, depth)
        takeRows(new Map(layers.map((layer) => [layer, [position]])), sequence.extract(layers, position))
      }
      checkNumSamples(samples.length)
      samples.sort((a, b) => a.layer - b.layer || a.position - b.position)
      return { samples, contextDigest: chain.push(lastToken) }
    },
  }
}
