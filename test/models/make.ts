// Makes small Hugging Face model folders with seeded random weights. Written without any of lib/, so that tests
// hold the readers to something independent.
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export type Architecture = 'llama' | 'mistral' | 'qwen2' | 'qwen3'
export type Dtype = 'F32' | 'F16' | 'BF16'
export type Json = Record<string, unknown>

export interface MadeTensor {
  dtype: Dtype
  shape: number[]
  /** What the stored bytes stand for, exactly. */
  values: Float32Array
}

export interface MakeOptions {
  architecture?: Architecture
  seed?: number
  /** One for all tensors, or by name. */
  dtype?: Dtype | ((name: string) => Dtype)
  /** 1 (the default) writes model.safetensors, more write shards with an index. */
  shards?: number
  /** Fields of config.json that differ; undefined leaves a field out. Sizes take effect on the tensors. */
  config?: Json
  /** Changes weights (or the set of tensors) before they are written; assign through {@link setValues}. */
  edit?: (tensors: Map<string, MadeTensor>) => void
}

export interface MadeModel {
  dir: string
  /** As in config.json. */
  config: Json
  tensors: Map<string, MadeTensor>
}

const CLASSES = { llama: 'Llama', mistral: 'Mistral', qwen2: 'Qwen2', qwen3: 'Qwen3' }
const folders: string[] = []
if (typeof afterAll === 'function') {
  afterAll(() => {
    for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
  })
}

/** A new empty folder, removed after the test file's last test. */
export function makeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'poc-model-'))
  folders.push(folder)
  return folder
}

/** A model folder of `options`; the same options give the same bytes. */
export function makeModel(options: MakeOptions = {}): MadeModel {
  const { seed = 1, dtype = 'F32', shards = 1 } = options
  const config = makeConfig(options.architecture ?? 'llama', options.config)
  const tensors = new Map<string, MadeTensor>()
  for (const [name, shape] of tensorShapes(config)) {
    const stored = typeof dtype === 'string' ? dtype : dtype(name)
    tensors.set(name, { dtype: stored, shape, values: rounded(randomValues(name, shape, seed), stored) })
  }
  options.edit?.(tensors)
  const dir = makeFolder()
  writeFileSync(join(dir, 'config.json'), JSON.stringify(config, null, 1))
  writeWeights(dir, tensors, shards)
  return { dir, config, tensors }
}

/** A config.json: 3 layers, 4 query and 2 KV heads, vocabulary 96, unless `changes` says otherwise. */
export function makeConfig(architecture: Architecture = 'llama', changes: Json = {}): Json {
  return JSON.parse(
    JSON.stringify({
      architectures: [`${CLASSES[architecture]}ForCausalLM`],
      model_type: architecture,
      vocab_size: 96,
      hidden_size: 32,
      intermediate_size: 56,
      num_hidden_layers: 3,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      // Qwen3's q is wider than its hidden state.
      head_dim: architecture === 'qwen3' ? 16 : 8,
      hidden_act: 'silu',
      max_position_embeddings: 256,
      rms_norm_eps: 1e-5,
      rope_theta: 10000,
      ...(architecture === 'mistral' ? { sliding_window: 12 } : {}),
      tie_word_embeddings: false,
      bos_token_id: 1,
      eos_token_id: 2,
      ...changes,
    }),
  )
}

/** Gives a tensor new values, rounded to its dtype. */
export function setValues(tensor: MadeTensor, values: ArrayLike<number>): void {
  tensor.values = rounded(Float32Array.from(values), tensor.dtype)
}

/** Writes tensors as model.safetensors, or as `shards` files with an index. */
export function writeWeights(dir: string, tensors: Map<string, MadeTensor>, shards = 1): void {
  mkdirSync(dir, { recursive: true })
  if (shards === 1) {
    writeFileSync(join(dir, 'model.safetensors'), safetensors(tensors))
    return
  }
  const entries = [...tensors]
  const weight_map: Record<string, string> = {}
  for (let shard = 0; shard < shards; shard++) {
    const file = `model-${pad(shard + 1)}-of-${pad(shards)}.safetensors`
    const part = new Map(entries.filter((_, i) => Math.floor((i * shards) / entries.length) === shard))
    for (const name of part.keys()) weight_map[name] = file
    writeFileSync(join(dir, file), safetensors(part))
  }
  const total_size = entries.reduce((sum, [, tensor]) => sum + storedBytes(tensor).length, 0)
  const index = { metadata: { total_size }, weight_map }
  writeFileSync(join(dir, 'model.safetensors.index.json'), JSON.stringify(index))
}

const pad = (n: number) => String(n).padStart(5, '0')

/** The bytes of a safetensors file, the tensors in the map's order. */
export function safetensors(tensors: Map<string, MadeTensor>): Uint8Array {
  const header: Json = { __metadata__: { format: 'pt' } }
  const parts: Uint8Array[] = []
  let end = 0
  for (const [name, tensor] of tensors) {
    const bytes = storedBytes(tensor)
    header[name] = { dtype: tensor.dtype, shape: tensor.shape, data_offsets: [end, end + bytes.length] }
    parts.push(bytes)
    end += bytes.length
  }
  return rawSafetensors(JSON.stringify(header), Buffer.concat(parts))
}

/** A file of any header text, padded with spaces to 8 bytes, and any data; `length` may lie. */
export function rawSafetensors(headerText: string, data: Uint8Array, length?: bigint): Uint8Array {
  const header = Buffer.from(headerText)
  const padded = Buffer.concat([header, Buffer.alloc(-header.length & 7, ' ')])
  const prefix = Buffer.alloc(8)
  prefix.writeBigUInt64LE(length ?? BigInt(padded.length))
  return Buffer.concat([prefix, padded, data])
}

/** A tensor's values in its dtype, little-endian. */
export function storedBytes({ dtype, values }: MadeTensor): Uint8Array {
  const bytes = Buffer.alloc(values.length * (dtype === 'F32' ? 4 : 2))
  values.forEach((value, i) => {
    if (dtype === 'F32') bytes.writeFloatLE(value, i * 4)
    else bytes.writeUInt16LE(dtype === 'BF16' ? float32Bits(value) >>> 16 : float16Bits(value), i * 2)
  })
  return bytes
}

/** Where a folder of the shared model data is; null, with a line that says so, where it is absent. */
export function sharedModel(name: string): string | null {
  const folder = join(process.env.POC_MODELS ?? join(__dirname, '../../../shared/models'), name)
  if (existsSync(folder)) return folder
  console.warn(`skipped, as there is no ${folder} (POC_MODELS says where the model data is)`)
  return null
}

function tensorShapes(config: Json): [string, number[]][] {
  const [vocab, hidden, ffn, layers, heads, kvHeads, dim] = [
    'vocab_size',
    'hidden_size',
    'intermediate_size',
    'num_hidden_layers',
    'num_attention_heads',
    'num_key_value_heads',
    'head_dim',
  ].map((name) => config[name] as number)
  const list: [string, number[]][] = [['model.embed_tokens.weight', [vocab, hidden]]]
  for (let n = 0; n < layers; n++) {
    const add = (name: string, ...shape: number[]) => list.push([`model.layers.${n}.${name}`, shape])
    add('input_layernorm.weight', hidden)
    add('self_attn.q_proj.weight', heads * dim, hidden)
    add('self_attn.k_proj.weight', kvHeads * dim, hidden)
    add('self_attn.v_proj.weight', kvHeads * dim, hidden)
    add('self_attn.o_proj.weight', hidden, heads * dim)
    if (config.model_type === 'qwen2') {
      add('self_attn.q_proj.bias', heads * dim)
      add('self_attn.k_proj.bias', kvHeads * dim)
      add('self_attn.v_proj.bias', kvHeads * dim)
    }
    if (config.model_type === 'qwen3') {
      add('self_attn.q_norm.weight', dim)
      add('self_attn.k_norm.weight', dim)
    }
    add('post_attention_layernorm.weight', hidden)
    add('mlp.gate_proj.weight', ffn, hidden)
    add('mlp.up_proj.weight', ffn, hidden)
    add('mlp.down_proj.weight', hidden, ffn)
  }
  list.push(['model.norm.weight', [hidden]])
  if (!config.tie_word_embeddings) list.push(['lm_head.weight', [vocab, hidden]])
  return list
}

// Norm weights near 1, biases near 0.1, matrices that keep a vector's size; none with a mean of exactly zero.
function randomValues(name: string, shape: number[], seed: number): Float32Array {
  const random = uniform(name, seed)
  const count = shape.reduce((product, length) => product * length, 1)
  const [mean, spread] = name.endsWith('norm.weight')
    ? [1, 0.3]
    : name.endsWith('.bias')
      ? [0.1, 0.3]
      : [0.01, name.includes('embed') ? 1 : Math.sqrt(3 / shape[1])]
  return Float32Array.from({ length: count }, () => mean + spread * random())
}

/** Numbers in [-1, 1) from a seed and a name: Marsaglia's xorshift32, its state a sum over the name. */
function uniform(name: string, seed: number): () => number {
  const mixed = [...name].reduce((sum, c) => Math.imul(sum + c.charCodeAt(0), 0x9e3779b1), seed + 0x5bd1e995)
  let state = mixed | 1
  const next = () => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return state / 2 ** 31
  }
  for (let i = 0; i < 8; i++) next()
  return next
}

function rounded(values: Float32Array, dtype: Dtype): Float32Array {
  if (dtype === 'F32') return values
  return values.map((value) => (dtype === 'BF16' ? nearest(value, 8, -133) : nearest(value, 11, -24)))
}

// The nearest number with `digits` binary digits whose last one is worth at least 2^smallest; ties to even.
function nearest(value: number, digits: number, smallest: number): number {
  if (value === 0 || !Number.isFinite(value)) return value
  const exponent = Math.floor(Math.log2(Math.abs(value)))
  const unit = 2 ** Math.max(exponent - digits + 1, smallest)
  const below = Math.floor(value / unit)
  const rest = value / unit - below
  return (rest > 0.5 || (rest === 0.5 && below % 2 !== 0) ? below + 1 : below) * unit
}

const scratch = new DataView(new ArrayBuffer(4))

function float32Bits(value: number): number {
  scratch.setFloat32(0, value)
  return scratch.getUint32(0)
}

// `value` is a binary16 number already, or not finite.
function float16Bits(value: number): number {
  const sign = Object.is(Math.sign(value), -1) || Object.is(value, -0) ? 0x8000 : 0
  const size = Math.abs(value)
  if (Number.isNaN(value)) return 0x7e00
  if (size > 65504) return sign | 0x7c00
  if (size < 2 ** -14) return sign | (size * 2 ** 24)
  const exponent = Math.floor(Math.log2(size))
  return sign | ((exponent + 15) << 10) | ((size / 2 ** exponent - 1) * 1024)
}
