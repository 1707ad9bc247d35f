// How far the tokens of another engine are from what this one would choose, in logits.

import type { KvDtype } from './kv'
import type { Model } from './model'
import { REPLAY_VALUES } from './native'
import { openPass } from './pass'
import type { Plan } from './plan'
import { MAX_GAP } from './replay'

const GREEDY = { temperature: 0, topK: 0, topP: 1, key: new Uint32Array(2) }
const GAP = 1 // among the numbers of a position

/**
 * Mean over the generated tokens of the greatest logit minus the token's own, each at most {@link MAX_GAP}: 0 where
 * greedy choice gives the same tokens.
 *
 * @param promptLength - Below `tokens.length`.
 * @throws {PocError} As a prefill.
 */
export async function meanTokenGap(
  model: Model,
  tokens: Uint32Array,
  promptLength: number,
  kvDtype: KvDtype,
  signal?: AbortSignal,
): Promise<number> {
  const { numLayers } = model.config
  const positions = Uint32Array.from({ length: tokens.length - promptLength }, (_, i) => promptLength - 1 + i)
  const plan: Plan = {
    numPositions: tokens.length - 1,
    layers: new Map([[numLayers, positions]]),
    deepestLayer: numLayers,
    contextDigest: new Uint8Array(32),
    numSamples: positions.length,
  }
  const pass = openPass(model, [{ tokens, plan, parent: null, shared: 0 }], { kvDtype, signal })
  const claimed = positions.map((position) => tokens[position + 1])
  let sum = 0
  for await (const [layer] of pass.layers()) {
    if (layer.layer !== numLayers) continue
    const numbers = await pass.replay(0, positions, claimed, GREEDY, false)
    positions.forEach((_, i) => {
      sum += Math.min(numbers[i * REPLAY_VALUES + GAP], MAX_GAP)
    })
  }
  return sum / positions.length
}
