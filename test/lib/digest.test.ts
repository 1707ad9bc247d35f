import { createHash } from 'node:crypto'
import { appendFileSync, readFileSync, truncateSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { modelDigest } from '../../lib/digest'
import { PocError } from '../../lib/errors'
import { readCheckpoint } from '../../lib/safetensors'
import {
  type Json,
  type MadeModel,
  type MakeOptions,
  makeModel,
  setValues,
  sharedModel,
  storedBytes,
  writeWeights,
} from '../models/make'

const digestOf = async (dir: string) => modelDigest(await readCheckpoint(dir))

// docs/FORMATS.md, "Model digest", followed step by step with an encoder of its own.
function digestByHand({ config, tensors }: MadeModel): string {
  const hash = (use: string, ...parts: Uint8Array[]) =>
    createHash('sha256').update(`proof-of-cache/v1/${use}\0`).update(Buffer.concat(parts)).digest()
  const names = [...tensors.keys()].sort()
  const tensorDigests = names.map((name) => {
    const tensor = tensors.get(name)
    if (!tensor) throw new Error(name)
    const bytes = storedBytes(tensor)
    const leaves: Buffer[] = []
    for (let at = 0; at < bytes.length; at += 1048576) leaves.push(hash('model-leaf', bytes.subarray(at, at + 1048576)))
    const shape = list(tensor.shape.map(whole))
    return hash(
      'model-tensor',
      list([text(name), text(tensor.dtype.toLowerCase()), shape, blob(Buffer.concat(leaves))]),
    )
  })
  const scaling = config.rope_scaling as Json | null | undefined
  const fields: [string, Buffer][] = [
    ['headDim', whole(config.head_dim)],
    ['numHeads', whole(config.num_attention_heads)],
    ['tiedHead', Buffer.from([config.tie_word_embeddings ? 0xf5 : 0xf4])],
    ['numLayers', whole(config.num_hidden_layers)],
    ['ropeTheta', real(config.rope_theta)],
    ['vocabSize', whole(config.vocab_size)],
    ['hiddenSize', whole(config.hidden_size)],
    ['numKvHeads', whole(config.num_key_value_heads)],
    ['rmsNormEps', real(config.rms_norm_eps)],
    ['ropeScaling', scaling ? ropeScaling(scaling) : Buffer.from([0xf6])],
    ['architecture', text(String(config.model_type))],
    ['slidingWindow', config.sliding_window ? whole(config.sliding_window) : Buffer.from([0xf6])],
    ['intermediateSize', whole(config.intermediate_size)],
  ]
  return hash('model', list([map(fields), list(tensorDigests.map(blob))])).toString('hex')
}

const ropeScaling = (scaling: Json) =>
  map([
    ['type', text('llama3')],
    ['factor', real(scaling.factor)],
    ['lowFreqFactor', real(scaling.low_freq_factor)],
    ['highFreqFactor', real(scaling.high_freq_factor)],
    ['originalMaxPositions', whole(scaling.original_max_position_embeddings)],
  ])

function head(major: number, count: number): Buffer {
  if (count < 24) return Buffer.from([(major << 5) | count])
  const size = count < 2 ** 8 ? 1 : count < 2 ** 16 ? 2 : 4
  const bytes = Buffer.alloc(1 + size, (major << 5) | (size === 1 ? 24 : size === 2 ? 25 : 26))
  bytes.writeUIntBE(count, 1, size)
  return bytes
}

const whole = (value: unknown) => head(0, value as number)
const blob = (bytes: Uint8Array) => Buffer.concat([head(2, bytes.length), bytes])
const text = (value: string) => Buffer.concat([head(3, value.length), Buffer.from(value)])
const list = (items: Buffer[]) => Buffer.concat([head(4, items.length), ...items])
const map = (fields: [string, Buffer][]) =>
  Buffer.concat([head(5, fields.length), ...fields.flatMap(([name, value]) => [text(name), value])])

function real(value: unknown): Buffer {
  const bytes = Buffer.alloc(9, 0xfb)
  bytes.writeDoubleBE(value as number, 1)
  return bytes
}

const LLAMA3 = { rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4 }
const LARGE = { vocab_size: 40000, hidden_size: 32 } // two tensors of more than one leaf

test.each<[string, MakeOptions]>([
  ['llama', {}],
  [
    'llama 3 with a tied head',
    {
      dtype: 'BF16',
      config: {
        tie_word_embeddings: true,
        rope_scaling: { ...LLAMA3, original_max_position_embeddings: 8192 },
      },
    },
  ],
  ['mistral', { architecture: 'mistral', dtype: 'F16' }],
  ['qwen2', { architecture: 'qwen2', shards: 2 }],
  ['qwen3', { architecture: 'qwen3', dtype: (name) => (name.includes('norm') ? 'F32' : 'BF16') }],
  ['several leaves', { config: LARGE, shards: 2 }],
])('%s: the same as step by step', async (_, options) => {
  const model = makeModel(options)
  expect(await digestOf(model.dir)).toBe(digestByHand(model))
})

// One more fixed value, so that a change in both this test and the code is noticed.
test('a small model keeps its digest', async () => {
  const values = Float32Array.from({ length: 4096 }, (_, i) => i / 64 - 32)
  const edit: MakeOptions['edit'] = (tensors) => {
    for (const tensor of tensors.values()) setValues(tensor, values.subarray(0, tensor.values.length))
  }
  const config = { num_hidden_layers: 1, vocab_size: 64, max_position_embeddings: 64 }
  const { dir } = makeModel({ dtype: 'BF16', config, edit })
  expect(await digestOf(dir)).toBe('615287431c74bd583cbbc5117d49197e18a4ee79cb883ba610f3b2bcd306da87')
})

test('the spread over files, the order in them and what changes no value do not count', async () => {
  const model = makeModel()
  const digest = await digestOf(model.dir)
  const reversed = new Map([...model.tensors].reverse())
  for (const shards of [1, 2, 5]) {
    const other = makeModel({ shards: 7 })
    writeWeights(other.dir, reversed, shards)
    expect(await digestOf(other.dir)).toBe(digest)
  }
  const config = {
    max_position_embeddings: 99,
    bos_token_id: 7,
    eos_token_id: [8, 9],
    torch_dtype: 'float16',
    use_cache: false,
    attention_dropout: 0.1,
    rope_theta: undefined,
    rope_parameters: { rope_type: 'default', rope_theta: 10000 },
  }
  expect(await digestOf(makeModel({ config }).dir)).toBe(digest)
})

test('an unused second head does not count', async () => {
  const config = { tie_word_embeddings: true }
  const withHead = makeModel({
    config,
    edit: (tensors) => tensors.set('lm_head.weight', { dtype: 'F32', shape: [1], values: new Float32Array(1) }),
  })
  expect(await digestOf(withHead.dir)).toBe(await digestOf(makeModel({ config }).dir))
})

test('everything that changes a value counts', async () => {
  const name = 'model.layers.1.mlp.up_proj.weight'
  const scaling = { ...LLAMA3, original_max_position_embeddings: 64 }
  const llama3 = (changes: Json) => ({ config: { rope_scaling: { ...scaling, ...changes } } })
  const variants: MakeOptions[] = [
    {},
    { seed: 2 },
    { dtype: 'F16' },
    { dtype: 'BF16' },
    { dtype: (n) => (n === name ? 'BF16' : 'F32') },
    { config: { rms_norm_eps: 1e-6 } },
    { config: { rms_norm_eps: 1.0000000000000001e-5 * (1 + 2 ** -52) } },
    { config: { rope_theta: 10001 } },
    { config: { tie_word_embeddings: true } },
    { architecture: 'mistral' },
    { architecture: 'mistral', config: { sliding_window: null } },
    { architecture: 'mistral', config: { sliding_window: 13 } },
    { config: { num_attention_heads: 2, num_key_value_heads: 1, head_dim: 16 } },
    llama3({}),
    llama3({ factor: 9 }),
    llama3({ low_freq_factor: 2 }),
    llama3({ high_freq_factor: 5 }),
    llama3({ original_max_position_embeddings: 65 }),
    // The same bytes under each other's names, and a sign that only its bit tells.
    { edit: (tensors) => swap(tensors, name, 'model.layers.2.mlp.up_proj.weight') },
    { edit: (tensors) => tensors.get(name)?.values.fill(0) },
    { edit: (tensors) => tensors.get(name)?.values.fill(-0) },
  ]
  const digests = await Promise.all(variants.map((options) => digestOf(makeModel(options).dir)))
  expect(new Set(digests).size).toBe(variants.length)
})

function swap<T>(map: Map<string, T>, a: string, b: string) {
  const [first, second] = [map.get(a) as T, map.get(b) as T]
  map.set(a, second).set(b, first)
}

test('any single bit of the weights counts, in every leaf', async () => {
  const { dir } = makeModel({ config: LARGE })
  const { tensors, files } = await readCheckpoint(dir)
  const bytes = readFileSync(files[0])
  const embed = tensors[0]
  const places = [0, 2 ** 20 - 1, 2 ** 20, embed.bytes - 1].map((at) => embed.offset + at)
  const seen = new Set([await digestOf(dir)])
  for (const place of [...places, bytes.length - 1]) {
    bytes[place] ^= 0x10
    writeFileSync(files[0], bytes)
    seen.add(await digestOf(dir))
    bytes[place] ^= 0x10
  }
  expect(seen.size).toBe(places.length + 2)
})

test('progress goes up to the whole, in bytes', async () => {
  const { dir } = makeModel({ config: LARGE })
  const checkpoint = await readCheckpoint(dir)
  const total = checkpoint.tensors.reduce((sum, { bytes }) => sum + bytes, 0)
  const seen: number[] = []
  await modelDigest(checkpoint, {
    onProgress(progress) {
      expect(progress.total).toBe(total)
      seen.push(progress.done)
    },
  })
  expect(seen).toEqual([...seen].sort((a, b) => a - b))
  expect(seen.at(-1)).toBe(total)
})

describe('stopping', () => {
  test('before and while it runs, with the reason given', async () => {
    const checkpoint = await readCheckpoint(makeModel({ config: LARGE }).dir)
    const reason = new Error('enough')
    await expect(modelDigest(checkpoint, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    const controller = new AbortController()
    let calls = 0
    const onProgress = () => {
      calls++
      controller.abort(reason)
    }
    await expect(modelDigest(checkpoint, { signal: controller.signal, onProgress })).rejects.toBe(reason)
    // Pieces that were under way may still end, no new ones begin.
    expect(calls).toBeLessThanOrEqual(8)
  })

  test('an error thrown by onProgress is handed on', async () => {
    const checkpoint = await readCheckpoint(makeModel().dir)
    const error = new Error('mine')
    const onProgress = () => {
      throw error
    }
    await expect(modelDigest(checkpoint, { onProgress })).rejects.toBe(error)
  })
})

describe('files that change after their headers were read', () => {
  test.each<[string, (path: string) => void]>([
    ['shorter', (path) => truncateSync(path, 5000)],
    ['empty', (path) => truncateSync(path, 0)],
    ['longer', (path) => appendFileSync(path, 'x')],
  ])('%s', async (_, change) => {
    const { dir } = makeModel()
    const checkpoint = await readCheckpoint(dir)
    change(join(dir, 'model.safetensors'))
    await expect(modelDigest(checkpoint)).rejects.toMatchObject({ name: 'PocError', code: 'MODEL_MALFORMED' })
  })

  test.each<[string, (path: string) => void]>([
    ['shorter', (path) => truncateSync(path, 5000)],
    ['written to', (path) => utimesSync(path, 1, 1)],
  ])('%s while it is read', async (_, change) => {
    const { dir } = makeModel({ config: LARGE })
    const checkpoint = await readCheckpoint(dir)
    let error: unknown
    const onProgress = () => change(checkpoint.files[0])
    await modelDigest(checkpoint, { onProgress }).catch((e: unknown) => {
      error = e
    })
    expect(error).toBeInstanceOf(PocError)
    expect(error).toMatchObject({ code: 'MODEL_MALFORMED' })
  })
})

// Computed by a program in another language, from the description.
for (const [name, digest] of [
  ['stories260K/hf-f32', '9a83cefc754882a7cea5d9cf748add1e205a0e5f3ccc415a31a50e0cb05af8be'],
  ['stories260K/hf-bf16', '18c5e92e3e5d1bdaf2131a969e886c9aab3f69e7c5c2ccf5e6b62019c6a6fe64'],
]) {
  const dir = sharedModel(name)
  if (dir) test(name, async () => expect(await digestOf(dir)).toBe(digest))
}
