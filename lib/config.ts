// The model's config.json as this library reads it: the shape of the network, and nothing about its weights.
// What the engine does not compute exactly as Hugging Face transformers defines it is refused by name.
import { shown, wrongValue } from './errors'

/** Architectures that the engine implements. */
export type Architecture = 'llama' | 'mistral' | 'qwen2' | 'qwen3'

/** RoPE frequencies stretched for long contexts as in Llama 3.1 (`rope_type` llama3). */
export interface RopeScaling {
  type: 'llama3'
  factor: number
  lowFreqFactor: number
  highFreqFactor: number
  originalMaxPositions: number
}

/** A decoder-only transformer of the Llama family. */
export interface ModelConfig {
  architecture: Architecture
  vocabSize: number
  hiddenSize: number
  intermediateSize: number
  numLayers: number
  numHeads: number
  /** Divides `numHeads`. */
  numKvHeads: number
  /** Even; may differ from `hiddenSize / numHeads`. */
  headDim: number
  maxPositions: number
  rmsNormEps: number
  ropeTheta: number
  ropeScaling: RopeScaling | null
  /** A query sees this many keys, its own included; null: all. */
  slidingWindow: number | null
  /** q, k and v projections add a bias (Qwen2). */
  qkvBias: boolean
  /** Every head of q and k goes through an RMSNorm before RoPE (Qwen3). */
  qkNorm: boolean
  /** The output head is the embedding matrix. */
  tiedHead: boolean
  bosTokenId: number | null
  eosTokenIds: number[]
}

const ARCHITECTURES: Readonly<Record<string, { modelType: Architecture; maxPositions: number }>> = {
  LlamaForCausalLM: { modelType: 'llama', maxPositions: 2048 },
  MistralForCausalLM: { modelType: 'mistral', maxPositions: 131072 },
  Qwen2ForCausalLM: { modelType: 'qwen2', maxPositions: 32768 },
  Qwen3ForCausalLM: { modelType: 'qwen3', maxPositions: 32768 },
}

/**
 * Reads a parsed config.json, in the spelling of transformers 4 or 5. Fields that may be left out have the
 * defaults of transformers; unknown fields are ignored, for the tensors they would bring are refused later.
 *
 * @param where - What error messages call the file.
 * @throws {PocError} MODEL_UNSUPPORTED, MODEL_MALFORMED
 */
export function parseConfig(json: unknown, where: string): ModelConfig {
  const fields = fieldsOf(json, where)
  const { modelType: architecture, maxPositions } = architectureOf(fields)
  refuseUnsupported(fields, architecture)
  const shape = shapeOf(fields, architecture)
  const rope = ropeOf(fields)
  const bos = fields.get('bos_token_id')
  return {
    architecture,
    ...shape,
    maxPositions: fields.integer('max_position_embeddings', 2 ** 24, maxPositions),
    rmsNormEps: fields.number('rms_norm_eps', 1e-30, 1, 1e-6),
    ropeTheta: rope.theta,
    ropeScaling: rope.scaling,
    slidingWindow: slidingWindowOf(fields, architecture, shape.numLayers),
    qkvBias: architecture === 'qwen2',
    qkNorm: architecture === 'qwen3',
    tiedHead: fields.flag('tie_word_embeddings', false),
    bosTokenId: bos === null ? null : tokenId(bos, shape.vocabSize, `${where}: bos_token_id`),
    eosTokenIds: parseEosTokens(fields.get('eos_token_id'), shape.vocabSize, where),
  }
}

/**
 * The `eos_token_id` of a config.json or generation_config.json: absent or null, a token id, or several.
 *
 * @throws {PocError} MODEL_MALFORMED
 */
export function parseEosTokens(value: unknown, vocabSize: number, where: string): number[] {
  if (value === undefined || value === null) return []
  const name = `${where}: eos_token_id`
  if (!Array.isArray(value)) return [tokenId(value, vocabSize, name)]
  if (value.length > 1024) throw wrongValue('MODEL_MALFORMED', name, 'at most 1024 token ids', value)
  return [...new Set(value.map((id) => tokenId(id, vocabSize, name)))]
}

function tokenId(value: unknown, vocabSize: number, where: string): number {
  const id = Number.isInteger(value) ? (value as number) : -1
  if (id >= 0 && id < vocabSize) return id
  throw wrongValue('MODEL_MALFORMED', where, `a token id below vocab_size ${vocabSize}`, value)
}

type Fields = ReturnType<typeof fieldsOf>

// Typed access to the fields of a JSON object; null counts as absent, and every refusal names the field.
function fieldsOf(json: unknown, where: string) {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw wrongValue('MODEL_MALFORMED', where, 'a JSON object', json)
  }
  const record = json as Record<string, unknown>
  const get = (name: string): unknown => record[name] ?? null
  const malformed = (name: string, expected: string, value = get(name)) =>
    wrongValue('MODEL_MALFORMED', `${where}: ${name}`, expected, value)
  const unsupported = (name: string, expected: string, value = get(name)) =>
    wrongValue('MODEL_UNSUPPORTED', `${where}: ${name}`, expected, value)
  function number(name: string, min: number, max: number, fallback?: number): number {
    const value = get(name) ?? fallback
    if (typeof value === 'number' && value >= min && value <= max) return value
    throw malformed(name, `a number from ${min} to ${max}`, value)
  }
  function integer(name: string, max: number, fallback?: number): number {
    const value = get(name) ?? fallback
    if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= max) return value
    throw malformed(name, `an integer from 1 to ${max}`, value)
  }
  function flag(name: string, fallback: boolean): boolean {
    const value = get(name) ?? fallback
    if (typeof value === 'boolean') return value
    throw malformed(name, 'true or false', value)
  }
  /** Refuses any value but the one that this library implements; absent means that one. */
  function only(name: string, supported: string | number | boolean | null) {
    if ((get(name) ?? supported) !== supported) throw unsupported(name, shown(supported))
  }
  return { record, where, get, malformed, unsupported, number, integer, flag, only }
}

function architectureOf(fields: Fields) {
  const names = fields.get('architectures')
  const name: unknown = Array.isArray(names) ? names[0] : undefined
  if (typeof name !== 'string') throw fields.malformed('architectures', "a list with the model's class")
  if (!Object.hasOwn(ARCHITECTURES, name)) {
    throw fields.unsupported('architectures', `one of ${Object.keys(ARCHITECTURES).join(', ')}`, name)
  }
  const found = ARCHITECTURES[name]
  if (fields.get('model_type') === found.modelType) return found
  throw fields.malformed('model_type', `${shown(found.modelType)}, as architectures says`)
}

function refuseUnsupported(fields: Fields, architecture: Architecture) {
  fields.only('quantization_config', null)
  fields.only('compression_config', null)
  fields.only('hidden_act', 'silu')
  fields.only('partial_rotary_factor', 1)
  fields.only('rope_interleaved', false)
  // Qwen2 always has these biases and does not read the field.
  if (architecture !== 'qwen2') fields.only('attention_bias', false)
  fields.only('mlp_bias', false)
  fields.only('use_sliding_window', false)
}

function shapeOf(fields: Fields, architecture: Architecture) {
  const vocabSize = fields.integer('vocab_size', 2 ** 24)
  const hiddenSize = fields.integer('hidden_size', 2 ** 20)
  const intermediateSize = fields.integer('intermediate_size', 2 ** 24)
  const numLayers = fields.integer('num_hidden_layers', 4096)
  const numHeads = fields.integer('num_attention_heads', 4096)
  const numKvHeads = fields.integer('num_key_value_heads', numHeads, numHeads)
  if (numHeads % numKvHeads !== 0) throw fields.malformed('num_key_value_heads', `a divisor of ${numHeads}`)
  // Where hidden_size / num_attention_heads is no integer, the check of the field refuses it.
  const headDim = fields.integer('head_dim', 4096, architecture === 'qwen3' ? 128 : hiddenSize / numHeads)
  if (headDim % 2 !== 0) throw fields.unsupported('head_dim', 'even', headDim)
  const perLayer = hiddenSize * (2 * headDim * (numHeads + numKvHeads) + 3 * intermediateSize)
  const numParameters = 2 * vocabSize * hiddenSize + numLayers * perLayer
  // Keeps every count of bytes below 2^53, where a number stops being exact.
  if (numParameters > 2 ** 48) {
    throw fields.malformed('hidden_size', 'one of a model of at most 2^48 parameters', numParameters)
  }
  return { vocabSize, hiddenSize, intermediateSize, numLayers, numHeads, numKvHeads, headDim }
}

// All layers are of one kind. Only Mistral has a window: 4096 if the field is missing, none if it is null.
function slidingWindowOf(fields: Fields, architecture: Architecture, numLayers: number): number | null {
  if (architecture === 'llama') fields.only('sliding_window', null)
  const windowed = architecture === 'mistral' && fields.record.sliding_window !== null
  const kind = windowed ? 'sliding_attention' : 'full_attention'
  const kinds = fields.get('layer_types') ?? Array(numLayers).fill(kind)
  if (!Array.isArray(kinds) || kinds.length !== numLayers) {
    throw fields.malformed('layer_types', `a list of ${numLayers}`)
  }
  const other: unknown = kinds.find((item) => item !== kind)
  if (other !== undefined) throw fields.unsupported('layer_types', `${shown(kind)} in every layer`, other)
  return windowed ? fields.integer('sliding_window', 2 ** 24, 4096) : null
}

// Told by rope_theta and rope_scaling (transformers 4) or by rope_parameters (5).
function ropeOf(fields: Fields): { theta: number; scaling: RopeScaling | null } {
  const name = fields.get('rope_parameters') === null ? 'rope_scaling' : 'rope_parameters'
  if (name === 'rope_parameters' && fields.get('rope_scaling') !== null) {
    throw fields.malformed('rope_scaling', 'absent beside rope_parameters')
  }
  const rope = fieldsOf(fields.get(name) ?? {}, `${fields.where}: ${name}`)
  const theta = fields.number('rope_theta', 1, 1e12, 10000)
  const innerTheta = rope.number('rope_theta', 1, 1e12, theta)
  if (fields.get('rope_theta') !== null && innerTheta !== theta) {
    throw rope.malformed('rope_theta', `${theta}, as outside it`)
  }
  return { theta: innerTheta, scaling: ropeScalingOf(rope) }
}

function ropeScalingOf(rope: Fields): RopeScaling | null {
  rope.only('partial_rotary_factor', 1)
  const bare = Object.keys(rope.record).every((name) => name === 'rope_theta')
  const type = rope.get('rope_type') ?? rope.get('type') ?? (bare ? 'default' : null)
  if (type === 'default') return null
  if (type !== 'llama3') throw rope.unsupported('rope_type', "'default' or 'llama3'", type)
  const factor = rope.number('factor', 1, 1e6)
  const lowFreqFactor = rope.number('low_freq_factor', 1e-6, 1e6)
  const highFreqFactor = rope.number('high_freq_factor', 1e-6, 1e6)
  if (highFreqFactor <= lowFreqFactor) throw rope.malformed('high_freq_factor', `above ${lowFreqFactor}`)
  const originalMaxPositions = rope.integer('original_max_position_embeddings', 2 ** 24)
  return { type, factor, lowFreqFactor, highFreqFactor, originalMaxPositions }
}
