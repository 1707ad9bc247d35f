// What a model's sampler chooses behind tokens of any origin, by one prefill.
import type { SamplingParams } from '../binding'
import type { KvDtype } from '../kv'
import type { Model } from '../model'
import { REPLAY_VALUES } from '../native'
import { openPass } from '../pass'
import { nativeSampling } from '../sequence'

export interface ChoiceOptions {
  sampling: SamplingParams
  kvDtype: KvDtype
  signal?: AbortSignal
}

/** The choices in the place of each token from `promptLength` on. */
export async function choicesOf(
  model: Model,
  tokens: Uint32Array,
  promptLength: number,
  { sampling, kvDtype, signal }: ChoiceOptions,
): Promise<number[]> {
  const { numLayers } = model.config
  const first = promptLength - 1
  const numPositions = tokens.length - 1
  const positions = Uint32Array.from({ length: numPositions - first }, (_, i) => first + i)
  const layers = new Map([[numLayers, positions]])
  const contextDigest = new Uint8Array(0)
  const plan = { numPositions, layers, deepestLayer: numLayers, contextDigest, numSamples: positions.length }
  const pass = openPass(model, [{ tokens, plan, parent: null, shared: 0 }], { kvDtype, signal })
  for await (const [{ layer }] of pass.layers()) {
    if (layer !== numLayers) continue
    const numbers = await pass.replay(0, positions, tokens.slice(promptLength), nativeSampling(sampling), false)
    return Array.from(positions, (_, i) => numbers[REPLAY_VALUES * i])
  }
  return []
}
