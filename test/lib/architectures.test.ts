// Every architecture, dtype and layout of weights against a double-precision forward pass of its own.
import { generate } from '../../lib/generate'
import { Model } from '../../lib/model'
import { prove } from '../../lib/prove'
import { verify } from '../../lib/verify'
import { type MakeOptions, makeModel } from '../models/make'
import { referenceForward } from '../models/reference-forward'

const llama3 = {
  rope_type: 'llama3',
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 32, // short, so that all three branches of the rule are taken
}

const cases: [string, MakeOptions][] = [
  ['llama', { architecture: 'llama' }],
  ['llama, tied head, bf16', { architecture: 'llama', dtype: 'BF16', config: { tie_word_embeddings: true } }],
  ['llama with rope type llama3', { architecture: 'llama', config: { rope_scaling: llama3, head_dim: 16 } }],
  [
    'llama, one KV head, f16, shards',
    { architecture: 'llama', dtype: 'F16', shards: 3, config: { num_key_value_heads: 1 } },
  ],
  ['llama without grouping', { architecture: 'llama', config: { num_key_value_heads: 4 } }],
  ['llama with odd sizes', { config: { hidden_size: 44, intermediate_size: 37, vocab_size: 101, head_dim: 22 } }],
  ['mistral, window shorter than the text', { architecture: 'mistral' }],
  ['mistral, window of one', { architecture: 'mistral', config: { sliding_window: 1 } }],
  ['mistral without a window', { architecture: 'mistral', config: { sliding_window: null } }],
  ['qwen2 with biases', { architecture: 'qwen2', config: { rope_theta: 1e6 } }],
  ['qwen3 with q/k-norm', { architecture: 'qwen3', dtype: 'BF16', config: { rope_theta: 1e6 } }],
  ['mixed dtypes', { dtype: (name) => (name.includes('norm') ? 'F32' : name.includes('mlp') ? 'F16' : 'BF16') }],
]

/** Relative L2 error of stored binary32 values. */
function relativeError(bytes: Uint8Array, expected: number[]): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const difference = expected.reduce((sum, value, i) => sum + (view.getFloat32(i * 4, true) - value) ** 2, 0)
  return Math.sqrt(difference / expected.reduce((sum, value) => sum + value * value, 0))
}

test.each(cases)('%s: K and V of every layer and position, and the greedy token', async (_, options) => {
  const made = makeModel({ seed: 11, ...options })
  const model = await Model.load(made.dir)
  const tokens = Array.from({ length: 41 }, (_, i) => (i * 37 + 5) % 96)
  const layers = Array.from({ length: model.config.numLayers }, (_, layer) => layer).join()
  const proof = await prove(model, tokens, { promptLength: 40, tokenSampler: 'all', layerSampler: `fixed:${layers}` })
  const reference = referenceForward(made, tokens.slice(0, 40))
  expect(proof.samples).toHaveLength(40 * model.config.numLayers)
  for (const { layer, position, k, v } of proof.samples) {
    expect(k).toHaveLength(reference.k[layer][position].length * 4)
    expect(relativeError(k, reference.k[layer][position])).toBeLessThan(1e-5)
    expect(relativeError(v, reference.v[layer][position])).toBeLessThan(1e-5)
  }
  const output = await generate(model, tokens.slice(0, 40), { maxNewTokens: 1, ignoreEos: true })
  expect(output.tokens[40]).toBe(reference.logits.indexOf(Math.max(...reference.logits)))
  expect((await verify(model, proof)).status).toBe('accepted')
  await model.close()
})
