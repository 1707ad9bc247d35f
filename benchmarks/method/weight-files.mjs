// Writes one set of weights as model.safetensors, as Hugging Face folders have it, and as a GGUF file for llama.cpp.
// Formats: huggingface/safetensors README; ggml docs/gguf.md, version 3.
import { closeSync, openSync, writeSync } from 'node:fs'

const ALIGNMENT = 32
const GGUF_F32 = 0
const GGUF_BF16 = 30
const KINDS = { u32: 4, i32: 5, f32: 6, string: 8, array: 9 }
const BYTE_TOKEN = 6
const CONTROL_TOKEN = 3
const NORMAL_TOKEN = 1
const aligned = (n) => Math.ceil(n / ALIGNMENT) * ALIGNMENT

/** An open file that is written from front to back. */
function fileWriter(path) {
  const file = openSync(path, 'w')
  const write = (bytes) => {
    for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at, Math.min(bytes.length - at, 1 << 28))
  }
  return { write, close: () => closeSync(file) }
}

/** @param tensors - name, shape and dtype ('F32' or 'BF16') of each; bytes follow by `write`, in this order. */
export function safetensorsWriter(path, tensors) {
  const header = {}
  let at = 0
  for (const { name, shape, dtype } of tensors) {
    const bytes = shape.reduce((a, b) => a * b, dtype === 'F32' ? 4 : 2)
    header[name] = { dtype, shape, data_offsets: [at, at + bytes] }
    at += bytes
  }
  const text = Buffer.from(JSON.stringify(header))
  const size = Buffer.alloc(8)
  size.writeBigUInt64LE(BigInt(text.length))
  const file = fileWriter(path)
  file.write(size)
  file.write(text)
  return file
}

/** As {@link safetensorsWriter}, for the same tensors in the same order; vectors are stored as F32 there. */
export function ggufWriter(path, tensors, config) {
  const stored = tensors.map(({ name, shape, dtype }) => {
    const isF32 = dtype === 'F32' || shape.length === 1
    return { name: ggufName(name), shape, isF32, bytes: shape.reduce((a, b) => a * b, isF32 ? 4 : 2) }
  })
  const file = fileWriter(path)
  const head = ggufHeader(stored, config, tensors[0].dtype)
  file.write(head)
  file.write(Buffer.alloc(aligned(head.length) - head.length))
  let next = 0
  const write = (bytes) => {
    const { shape, isF32, bytes: expected } = stored[next]
    const { name } = tensors[next++]
    let out = bytes
    if (isF32 && bytes.length < expected) out = widened(bytes)
    if (/[qk]_proj\.weight$/.test(name)) out = pairsInterleaved(out, shape, config.head_dim)
    file.write(out)
    file.write(Buffer.alloc(aligned(out.length) - out.length))
  }
  return { write, close: file.close }
}

/** Rows of q and k as llama.cpp's RoPE wants them: partners beside one another, not half a head apart. */
function pairsInterleaved(bytes, [rows], headDim) {
  const rowBytes = bytes.length / rows
  const out = Buffer.alloc(bytes.length)
  for (let row = 0; row < rows; row++) {
    const inHead = row % headDim
    const half = headDim / 2
    const to = row - inHead + (inHead < half ? 2 * inHead : 2 * (inHead - half) + 1)
    out.set(bytes.subarray(row * rowBytes, (row + 1) * rowBytes), to * rowBytes)
  }
  return out
}

function widened(bytes) {
  const out = Buffer.alloc(bytes.length * 2)
  for (let i = 0; i < bytes.length; i += 2) out.set(bytes.subarray(i, i + 2), 2 * i + 2)
  return out
}

function ggufName(name) {
  const whole = { 'model.embed_tokens': 'token_embd', 'model.norm': 'output_norm', lm_head: 'output' }
  const parts = {
    input_layernorm: 'attn_norm',
    'self_attn.q_proj': 'attn_q',
    'self_attn.k_proj': 'attn_k',
    'self_attn.v_proj': 'attn_v',
    'self_attn.o_proj': 'attn_output',
    post_attention_layernorm: 'ffn_norm',
    'mlp.gate_proj': 'ffn_gate',
    'mlp.up_proj': 'ffn_up',
    'mlp.down_proj': 'ffn_down',
  }
  const bare = name.replace(/\.weight$/, '')
  const [, layer, part] = bare.match(/^model\.layers\.(\d+)\.(.*)$/) ?? []
  return `${layer === undefined ? whole[bare] : `blk.${layer}.${parts[part]}`}.weight`
}

/** A tokenizer that nobody uses, but llama.cpp wants one: three special tokens, one a byte, and names. */
function vocabulary(size) {
  const hex = (byte) => byte.toString(16).toUpperCase().padStart(2, '0')
  const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${hex(byte)}>`)
  const names = Array.from({ length: size - 259 }, (_, i) => `token${i}`)
  const special = ['<unk>', '<s>', '</s>']
  const types = [special.map(() => CONTROL_TOKEN), bytes.map(() => BYTE_TOKEN), names.map(() => NORMAL_TOKEN)]
  return { tokens: [...special, ...bytes, ...names], types: types.flat() }
}

function ggufHeader(tensors, config, dtype) {
  const { tokens, types } = vocabulary(config.vocab_size)
  const fields = [
    ['general.architecture', 'string', 'llama'],
    ['general.file_type', 'u32', dtype === 'F32' ? 0 : 32],
    ['llama.vocab_size', 'u32', config.vocab_size],
    ['llama.context_length', 'u32', config.max_position_embeddings],
    ['llama.embedding_length', 'u32', config.hidden_size],
    ['llama.block_count', 'u32', config.num_hidden_layers],
    ['llama.feed_forward_length', 'u32', config.intermediate_size],
    ['llama.attention.head_count', 'u32', config.num_attention_heads],
    ['llama.attention.head_count_kv', 'u32', config.num_key_value_heads],
    ['llama.attention.layer_norm_rms_epsilon', 'f32', config.rms_norm_eps],
    ['llama.rope.dimension_count', 'u32', config.head_dim],
    ['llama.rope.freq_base', 'f32', config.rope_theta],
    ['tokenizer.ggml.model', 'string', 'llama'],
    ['tokenizer.ggml.tokens', 'string', tokens],
    ['tokenizer.ggml.scores', 'f32', tokens.map((_, i) => -i)],
    ['tokenizer.ggml.token_type', 'i32', types],
    ['tokenizer.ggml.bos_token_id', 'u32', 1],
    ['tokenizer.ggml.eos_token_id', 'u32', 2],
  ]
  const parts = [Buffer.from('GGUF'), number(3, 'u32'), u64(tensors.length), u64(fields.length)]
  for (const [key, kind, given] of fields) {
    const list = [given].flat()
    parts.push(number(key, 'string'))
    if (Array.isArray(given)) parts.push(number(KINDS.array, 'u32'), number(KINDS[kind], 'u32'), u64(list.length))
    else parts.push(number(KINDS[kind], 'u32'))
    for (const value of list) parts.push(number(value, kind))
  }
  let offset = 0
  for (const { name, shape, isF32, bytes } of tensors) {
    parts.push(number(name, 'string'), number(shape.length, 'u32'), ...[...shape].reverse().map(u64))
    parts.push(number(isF32 ? GGUF_F32 : GGUF_BF16, 'u32'), u64(offset))
    offset += aligned(bytes)
  }
  return Buffer.concat(parts)
}

function number(value, kind) {
  if (kind === 'string') return Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)])
  const bytes = Buffer.alloc(4)
  if (kind === 'f32') bytes.writeFloatLE(value)
  else if (kind === 'i32') bytes.writeInt32LE(value)
  else bytes.writeUInt32LE(value)
  return bytes
}

function u64(value) {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}
