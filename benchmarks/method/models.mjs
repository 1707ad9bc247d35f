// Models with seeded random weights: real widths, cut in depth. Made once, under build/benchmarks/models.
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { ggufWriter, safetensorsWriter } from './weight-files.mjs'

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '../../build/benchmarks/models')
const VOCABULARY = 259
const LARGE_VOCABULARY = 32000 // Llama 2's

const tinyLlama = { hidden: 2048, ffn: 5632, layers: 4, heads: 32, kvHeads: 4, headDim: 64 }
const deep = { hidden: 1024, ffn: 2816, layers: 22, heads: 16, kvHeads: 4, headDim: 64 }
const MODELS = {
  'tinyllama-f32': { ...tinyLlama, dtype: 'F32', gguf: true },
  'tinyllama-bf16': { ...tinyLlama, dtype: 'BF16', gguf: true },
  'deep-bf16': { ...deep, dtype: 'BF16' }, // TinyLlama-1.1B's depth, half its width
  'deep-bf16-other': { ...deep, dtype: 'BF16', seed: 2 }, // the same shape, other weights
  'deep-bf16-vocabulary': { ...deep, dtype: 'BF16', vocabulary: LARGE_VOCABULARY },
  'shallow-bf16': { ...deep, layers: 6, dtype: 'BF16' },
}

/** The folder of a model in MODELS, with a model.gguf where it has one. */
export function modelFolder(name) {
  const folder = path.join(root, name)
  if (existsSync(folder)) return folder
  const { seed = 1, dtype, gguf, ...shape } = MODELS[name]
  const config = configOf(shape)
  const building = `${folder}.part` // whole or not at all
  rmSync(building, { recursive: true, force: true })
  mkdirSync(building, { recursive: true })
  writeFileSync(path.join(building, 'config.json'), JSON.stringify(config, null, 1))
  const tensors = tensorsOf(shape).map(([name, ...dims]) => ({ name, shape: dims, dtype }))
  const writers = [safetensorsWriter(path.join(building, 'model.safetensors'), tensors)]
  if (gguf) writers.push(ggufWriter(path.join(building, 'model.gguf'), tensors, config))
  tensors.forEach(({ name, shape: dims }, i) => {
    const values = randomValues(name, dims, seed * 1000 + i)
    const bytes = dtype === 'F32' ? Buffer.from(values.buffer) : bfloat16(values)
    for (const writer of writers) writer.write(bytes)
  })
  for (const writer of writers) writer.close()
  renameSync(building, folder)
  return folder
}

/** Multiply-adds of one token in one layer's matrices and in its MLP; bytes of weights that a decoded token reads. */
export function sizesOf(name) {
  const { dtype, layers, ...shape } = MODELS[name]
  const matrices = tensorsOf({ ...shape, layers: 1 }).filter(([name, , cols]) => cols && /proj/.test(name))
  const perLayer = matrices.reduce((sum, [, rows, cols]) => sum + rows * cols, 0)
  const head = (shape.vocabulary ?? VOCABULARY) * shape.hidden
  const ffn = 3 * shape.hidden * shape.ffn
  return {
    perLayer,
    ffn,
    queries: 2 * shape.hidden * shape.heads * shape.headDim,
    layers,
    hidden: shape.hidden,
    decodedBytes: (perLayer * layers + head) * (dtype === 'F32' ? 4 : 2),
  }
}

/** Token ids of a prompt, from a seed. */
export function promptOf(length, seed = 1) {
  const next = randomWords(seed)
  return Uint32Array.from({ length }, () => 3 + (next() % 256))
}

function configOf({ hidden, ffn, layers, heads, kvHeads, headDim, vocabulary = VOCABULARY }) {
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    vocab_size: vocabulary,
    hidden_size: hidden,
    intermediate_size: ffn,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    head_dim: headDim,
    max_position_embeddings: 4096,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    hidden_act: 'silu',
    tie_word_embeddings: false,
    bos_token_id: 1,
    eos_token_id: 2,
    torch_dtype: 'float32',
  }
}

function tensorsOf({ hidden, ffn, layers, heads, kvHeads, headDim, vocabulary = VOCABULARY }) {
  const list = [['model.embed_tokens.weight', vocabulary, hidden]]
  for (let layer = 0; layer < layers; layer++) {
    const add = (name, ...dims) => list.push([`model.layers.${layer}.${name}.weight`, ...dims])
    add('input_layernorm', hidden)
    add('self_attn.q_proj', heads * headDim, hidden)
    add('self_attn.k_proj', kvHeads * headDim, hidden)
    add('self_attn.v_proj', kvHeads * headDim, hidden)
    add('self_attn.o_proj', hidden, heads * headDim)
    add('post_attention_layernorm', hidden)
    add('mlp.gate_proj', ffn, hidden)
    add('mlp.up_proj', ffn, hidden)
    add('mlp.down_proj', hidden, ffn)
  }
  list.push(['model.norm.weight', hidden], ['lm_head.weight', vocabulary, hidden])
  return list
}

// Norms about 1, matrices that keep a vector's size.
function randomValues(name, [rows, cols], seed) {
  if (cols === undefined) return nearNormal(rows, seed, 0.1, 1)
  return nearNormal(rows * cols, seed, name.includes('embed') ? 1 : 1 / Math.sqrt(cols))
}

/** Numbers from a seed, each a sum of four uniform ones. */
export function nearNormal(count, seed, deviation, mean = 0) {
  const next = randomWords(seed)
  const scale = (deviation * Math.sqrt(3)) / 2 ** 16
  const values = new Float32Array(count)
  for (let i = 0; i < count; i++) {
    const a = next()
    const b = next()
    values[i] = mean + ((a & 0xffff) + (a >>> 16) + (b & 0xffff) + (b >>> 16) - 0x1fffe) * scale
  }
  return values
}

/** Marsaglia's xorshift32. */
function randomWords(seed) {
  let state = Math.imul(seed + 1, 0x9e3779b1) | 1
  const next = () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return state >>> 0
  }
  for (let i = 0; i < 8; i++) next()
  return next
}

// The upper halves, so that all dtypes have the same values but for what bfloat16 cuts off.
function bfloat16(values) {
  const halves = new Uint16Array(values.buffer)
  const upper = new Uint16Array(values.length)
  for (let i = 0; i < upper.length; i++) upper[i] = halves[2 * i + 1]
  return Buffer.from(upper.buffer)
}
