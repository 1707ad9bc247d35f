// The yardstick of most questions: every position of every layer, as a prompt is processed.
import { createRequire } from 'node:module'

// The native sequence itself: the public functions would add sampling or a proof.
const { addon } = createRequire(import.meta.url)('../../dist/addon.js')
const none = new Uint32Array(0)
const nothing = new Uint8Array(0)
const CHUNK = 512

/** One pass over `tokens`, nothing sampled; logits (vocabulary) of the last position where `wanted`. */
export async function fullPrefill(model, tokens, wanted = false) {
  const logits = wanted ? new Uint8Array(model.config.vocabSize * 4) : null
  const sequence = new (addon().Sequence)(model.native, 'f32', tokens.length, CHUNK)
  await sequence.append(tokens, none, none, none, nothing, nothing, null, logits)
  sequence.cancel()
  return logits && new Float32Array(logits.buffer)
}
