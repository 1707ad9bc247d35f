'use strict'
// Small models as examples: a config of each architecture, and the header of a weight file that goes with it.
const { dist } = require('./target.cjs')

const { parseConfig } = dist('config')
const { expectedTensors } = dist('safetensors')

const CLASSES = { llama: 'Llama', mistral: 'Mistral', qwen2: 'Qwen2', qwen3: 'Qwen3' }
const LLAMA3 = {
  rope_type: 'llama3',
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 64,
}

const CONFIGS = Object.entries(CLASSES).map(([architecture, name]) => ({
  architectures: [`${name}ForCausalLM`],
  model_type: architecture,
  vocab_size: 8,
  hidden_size: 4,
  intermediate_size: 6,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  head_dim: 2,
  hidden_act: 'silu',
  max_position_embeddings: 64,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  ...(architecture === 'llama' ? { rope_scaling: LLAMA3 } : {}),
  ...(architecture === 'mistral' ? { sliding_window: 12 } : {}),
  tie_word_embeddings: true,
  bos_token_id: 1,
  eos_token_id: [2, 3],
  torch_dtype: 'bfloat16',
}))

/** The header of model.safetensors for a config, and how many bytes of data follow it. */
function weightHeader(config) {
  let end = 0
  const tensors = expectedTensors(parseConfig(config, 'config.json')).map(({ name, shape }) => {
    const begin = end
    end += shape.reduce((product, size) => product * size, 2)
    return [name, { dtype: 'BF16', shape, data_offsets: [begin, end] }]
  })
  return { header: { __metadata__: { format: 'pt' }, ...Object.fromEntries(tensors) }, dataBytes: end }
}

module.exports = { CONFIGS, weightHeader }
