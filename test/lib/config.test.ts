import { parseConfig, parseEosTokens } from '../../lib/config'
import { PocError } from '../../lib/errors'
import { makeConfig } from '../models/make'

const LLAMA3 = {
  rope_type: 'llama3',
  factor: 32,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 8192,
}
const LLAMA3_PARSED = {
  type: 'llama3',
  factor: 32,
  lowFreqFactor: 1,
  highFreqFactor: 4,
  originalMaxPositions: 8192,
}

function refusal(json: unknown): PocError {
  try {
    parseConfig(json, 'config.json')
  } catch (error) {
    expect(error).toBeInstanceOf(PocError)
    return error as PocError
  }
  throw new Error('was not refused')
}

describe('published configs', () => {
  // Fields as the models' authors published them.
  const LLAMA_32_1B = {
    architectures: ['LlamaForCausalLM'],
    attention_bias: false,
    attention_dropout: 0,
    bos_token_id: 128000,
    eos_token_id: [128001, 128008, 128009],
    head_dim: 64,
    hidden_act: 'silu',
    hidden_size: 2048,
    initializer_range: 0.02,
    intermediate_size: 8192,
    max_position_embeddings: 131072,
    mlp_bias: false,
    model_type: 'llama',
    num_attention_heads: 32,
    num_hidden_layers: 16,
    num_key_value_heads: 8,
    pretraining_tp: 1,
    rms_norm_eps: 1e-5,
    rope_scaling: LLAMA3,
    rope_theta: 500000,
    tie_word_embeddings: true,
    torch_dtype: 'bfloat16',
    transformers_version: '4.45.0',
    use_cache: true,
    vocab_size: 128256,
  }

  test('Llama 3.2, in both spellings', () => {
    const expected = {
      architecture: 'llama',
      vocabSize: 128256,
      hiddenSize: 2048,
      intermediateSize: 8192,
      numLayers: 16,
      numHeads: 32,
      numKvHeads: 8,
      headDim: 64,
      maxPositions: 131072,
      rmsNormEps: 1e-5,
      ropeTheta: 500000,
      ropeScaling: LLAMA3_PARSED,
      slidingWindow: null,
      qkvBias: false,
      qkNorm: false,
      tiedHead: true,
      bosTokenId: 128000,
      eosTokenIds: [128001, 128008, 128009],
    }
    expect(parseConfig(LLAMA_32_1B, 'x')).toEqual(expected)
    const { rope_scaling: _, rope_theta: __, torch_dtype: ___, ...rest } = LLAMA_32_1B
    const recent = { ...rest, dtype: 'bfloat16', rope_parameters: { ...LLAMA3, rope_theta: 500000 } }
    expect(parseConfig(recent, 'x')).toEqual(expected)
    const legacyType = { ...LLAMA3, rope_type: undefined, type: 'llama3' }
    expect(parseConfig({ ...LLAMA_32_1B, rope_scaling: legacyType }, 'x')).toEqual(expected)
  })

  test('Mistral 7B v0.1 has a window, v0.3 has none', () => {
    const mistral = {
      architectures: ['MistralForCausalLM'],
      bos_token_id: 1,
      eos_token_id: 2,
      hidden_act: 'silu',
      hidden_size: 4096,
      intermediate_size: 14336,
      max_position_embeddings: 32768,
      model_type: 'mistral',
      num_attention_heads: 32,
      num_hidden_layers: 32,
      num_key_value_heads: 8,
      rms_norm_eps: 1e-5,
      rope_theta: 10000,
      sliding_window: 4096,
      tie_word_embeddings: false,
      vocab_size: 32000,
    }
    expect(parseConfig(mistral, 'x')).toMatchObject({
      architecture: 'mistral',
      headDim: 128,
      slidingWindow: 4096,
    })
    expect(parseConfig({ ...mistral, sliding_window: null }, 'x').slidingWindow).toBeNull()
    expect(parseConfig({ ...mistral, sliding_window: undefined }, 'x').slidingWindow).toBe(4096)
  })

  test('Qwen2.5 has biases and no window, Qwen3 q/k norms and a head_dim of its own', () => {
    const qwen = {
      bos_token_id: 151643,
      eos_token_id: 151645,
      hidden_act: 'silu',
      max_position_embeddings: 32768,
      rms_norm_eps: 1e-6,
      rope_theta: 1e6,
      tie_word_embeddings: true,
      use_sliding_window: false,
      vocab_size: 151936,
    }
    const qwen25 = {
      ...qwen,
      architectures: ['Qwen2ForCausalLM'],
      model_type: 'qwen2',
      hidden_size: 896,
      intermediate_size: 4864,
      max_window_layers: 21,
      num_attention_heads: 14,
      num_hidden_layers: 24,
      num_key_value_heads: 2,
      sliding_window: 32768,
      use_mrope: false,
    }
    expect(parseConfig(qwen25, 'x')).toMatchObject({
      architecture: 'qwen2',
      headDim: 64,
      qkvBias: true,
      qkNorm: false,
      slidingWindow: null,
      eosTokenIds: [151645],
    })
    const qwen3 = {
      ...qwen,
      architectures: ['Qwen3ForCausalLM'],
      model_type: 'qwen3',
      attention_bias: false,
      head_dim: 128,
      hidden_size: 1024,
      intermediate_size: 3072,
      max_window_layers: 28,
      num_attention_heads: 16,
      num_hidden_layers: 28,
      num_key_value_heads: 8,
      rope_scaling: null,
      sliding_window: null,
      layer_types: Array(28).fill('full_attention'),
    }
    const expected = {
      architecture: 'qwen3',
      headDim: 128,
      qkvBias: false,
      qkNorm: true,
      slidingWindow: null,
    }
    expect(parseConfig(qwen3, 'x')).toMatchObject(expected)
    expect(parseConfig({ ...qwen3, head_dim: undefined }, 'x').headDim).toBe(128)
  })
})

test('fields that may be missing or null have the defaults of transformers', () => {
  const bare = makeConfig('llama', {
    num_key_value_heads: undefined,
    head_dim: null,
    rope_theta: undefined,
    rms_norm_eps: null,
    hidden_act: undefined,
    tie_word_embeddings: undefined,
    max_position_embeddings: undefined,
    bos_token_id: null,
    eos_token_id: undefined,
  })
  expect(parseConfig(bare, 'x')).toMatchObject({
    numKvHeads: 4,
    headDim: 8,
    ropeTheta: 10000,
    rmsNormEps: 1e-6,
    tiedHead: false,
    maxPositions: 2048,
    ropeScaling: null,
    bosTokenId: null,
    eosTokenIds: [],
  })
})

test('ways to say that RoPE is the plain one', () => {
  for (const change of [
    { rope_scaling: null },
    { rope_scaling: { type: 'default' } },
    { rope_scaling: { rope_type: 'default' } },
    { rope_parameters: { rope_theta: 10000 } },
    { rope_parameters: { rope_type: 'default', rope_theta: 10000 } },
    { rope_theta: undefined, rope_parameters: {} },
    { rope_parameters: { rope_type: 'default' }, rope_theta: 10000 },
    { rope_parameters: { rope_type: 'default', partial_rotary_factor: 1 } },
  ]) {
    expect(parseConfig(makeConfig('llama', change), 'x')).toMatchObject({
      ropeTheta: 10000,
      ropeScaling: null,
    })
  }
})

test.each([
  ['llama', 'architectures', ['GPT2LMHeadModel']],
  ['llama', 'architectures', ['__proto__']],
  ['llama', 'architectures', ['MixtralForCausalLM', 'LlamaForCausalLM']],
  ['llama', 'hidden_act', 'gelu'],
  ['llama', 'attention_bias', true],
  ['mistral', 'attention_bias', true],
  ['qwen3', 'attention_bias', true],
  ['llama', 'mlp_bias', true],
  ['qwen2', 'use_sliding_window', true],
  ['qwen3', 'use_sliding_window', true],
  ['llama', 'sliding_window', 128],
  ['qwen3', 'layer_types', ['full_attention', 'sliding_attention', 'full_attention']],
  ['mistral', 'layer_types', ['sliding_attention', 'full_attention', 'sliding_attention']],
  ['llama', 'quantization_config', { quant_method: 'gptq' }],
  ['llama', 'compression_config', {}],
  ['llama', 'head_dim', 7],
  ['llama', 'partial_rotary_factor', 0.5],
  ['llama', 'rope_interleaved', true],
  ['llama', 'rope_scaling', { type: 'linear', factor: 2 }],
  ['llama', 'rope_scaling', { rope_type: 'yarn', factor: 2 }],
  ['llama', 'rope_scaling', { factor: 2 }],
  ['llama', 'rope_parameters', { full_attention: { rope_type: 'default' } }],
  ['llama', 'rope_parameters', { rope_type: 'dynamic' }],
  ['llama', 'rope_parameters', { rope_type: 'default', partial_rotary_factor: 0.25 }],
] as const)('%s with %s = %j is unsupported, by name', (architecture, field, value) => {
  const error = refusal(makeConfig(architecture, { [field]: value }))
  expect(error.code).toBe('MODEL_UNSUPPORTED')
  expect(error.where).toContain(`config.json: ${field}`)
})

test('what an architecture does not read is not refused', () => {
  expect(parseConfig(makeConfig('qwen2', { attention_bias: true }), 'x').qkvBias).toBe(true)
  expect(parseConfig(makeConfig('llama', { pretraining_tp: 2, max_window_layers: 1, wibble: {} }), 'x').numLayers).toBe(
    3,
  )
})

describe('wrong values are malformed, and named', () => {
  const sizes = [
    'vocab_size',
    'hidden_size',
    'intermediate_size',
    'num_hidden_layers',
    'num_attention_heads',
    'num_key_value_heads',
    'head_dim',
    'max_position_embeddings',
  ]
  test.each(sizes)('%s', (field) => {
    for (const value of [0, -1, 1.5, 2 ** 31, 1e300, '8', true, [8], {}]) {
      const error = refusal(makeConfig('llama', { [field]: value }))
      expect([error.code, error.where]).toEqual(['MODEL_MALFORMED', `config.json: ${field}`])
    }
  })

  test.each(sizes.slice(0, 5))('%s is required', (field) => {
    expect(refusal(makeConfig('llama', { [field]: undefined })).where).toBe(`config.json: ${field}`)
    expect(refusal(makeConfig('llama', { [field]: null })).where).toBe(`config.json: ${field}`)
  })

  test.each([
    ['architectures', undefined],
    ['architectures', []],
    ['architectures', 'LlamaForCausalLM'],
    ['architectures', [7]],
    ['model_type', 'mistral'],
    ['model_type', undefined],
    ['num_key_value_heads', 3],
    ['num_attention_heads', 6],
    ['rms_norm_eps', 0],
    ['rms_norm_eps', -1e-5],
    ['rms_norm_eps', '1e-5'],
    ['rms_norm_eps', 2],
    ['rope_theta', 0],
    ['rope_theta', -1],
    ['rope_theta', '1e4'],
    ['rope_theta', 1e300],
    ['tie_word_embeddings', 'yes'],
    ['tie_word_embeddings', 1],
    ['bos_token_id', 96],
    ['bos_token_id', -1],
    ['bos_token_id', 1.5],
    ['bos_token_id', [1]],
    ['eos_token_id', 96],
    ['eos_token_id', [1, 'x']],
    ['eos_token_id', {}],
    ['layer_types', ['full_attention']],
    ['layer_types', 'full_attention'],
    ['rope_scaling', 'llama3'],
    ['rope_scaling', []],
    ['rope_parameters', 7],
    ['rope_scaling: factor', { ...LLAMA3, factor: 0.5 }],
    ['rope_scaling: factor', { ...LLAMA3, factor: undefined }],
    ['rope_scaling: low_freq_factor', { ...LLAMA3, low_freq_factor: 0 }],
    ['rope_scaling: high_freq_factor', { ...LLAMA3, high_freq_factor: 1 }],
    ['rope_scaling: original_max_position_embeddings', { ...LLAMA3, original_max_position_embeddings: 1.5 }],
    ['rope_parameters: rope_theta', { rope_type: 'default', rope_theta: 500000 }],
  ])('%s = %j', (field, value) => {
    const changes = {
      [field.split(':')[0]]: value,
      ...(field === 'num_attention_heads' ? { head_dim: null } : {}),
    }
    const error = refusal(makeConfig('llama', changes))
    expect(error.code).toBe('MODEL_MALFORMED')
    // Six heads of no stated size: the quotient 32 / 6 is refused as the head_dim that it would be.
    expect(error.where).toBe(`config.json: ${field === 'num_attention_heads' ? 'head_dim' : field}`)
  })

  test('a window of Mistral', () => {
    for (const sliding_window of [0, -1, 1.5, '4096', 2 ** 30]) {
      expect(refusal(makeConfig('mistral', { sliding_window })).where).toBe('config.json: sliding_window')
    }
  })

  test('both spellings of RoPE at once', () => {
    const both = makeConfig('llama', { rope_scaling: LLAMA3, rope_parameters: { rope_type: 'default' } })
    expect(refusal(both)).toMatchObject({ code: 'MODEL_MALFORMED', where: 'config.json: rope_scaling' })
  })

  test('sizes that are fine one by one but not together', () => {
    const huge = {
      vocab_size: 2 ** 24,
      hidden_size: 2 ** 20,
      intermediate_size: 2 ** 24,
      num_hidden_layers: 4096,
    }
    expect(refusal(makeConfig('llama', huge)).code).toBe('MODEL_MALFORMED')
  })

  test('no object at all', () => {
    for (const json of [null, undefined, 7, 'x', [], true]) {
      expect(refusal(json)).toMatchObject({ code: 'MODEL_MALFORMED', where: 'config.json' })
    }
  })
})

test('parseEosTokens takes nothing, one or several, each once', () => {
  expect(parseEosTokens(undefined, 10, 'x')).toEqual([])
  expect(parseEosTokens(null, 10, 'x')).toEqual([])
  expect(parseEosTokens(0, 10, 'x')).toEqual([0])
  expect(parseEosTokens([9, 3, 9], 10, 'x')).toEqual([9, 3])
  expect(() => parseEosTokens(10, 10, 'x')).toThrow(PocError)
  expect(() => parseEosTokens(Array(2000).fill(1), 10, 'x')).toThrow('at most 1024')
})
