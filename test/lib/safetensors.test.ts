import { copyFileSync, mkdirSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import fc from 'fast-check'
import { parseConfig } from '../../lib/config'
import { PocError } from '../../lib/errors'
import { expectedTensors, readCheckpoint } from '../../lib/safetensors'
import {
  type Json,
  type MadeModel,
  makeConfig,
  makeFolder,
  makeModel,
  rawSafetensors,
  safetensors,
  sharedModel,
  storedBytes,
  writeWeights,
} from '../models/make'

async function refusal(dir: unknown): Promise<PocError> {
  const started = performance.now()
  const error = await readCheckpoint(dir as string).then(
    () => undefined,
    (e: unknown) => e,
  )
  expect(error).toBeInstanceOf(PocError)
  expect(performance.now() - started).toBeLessThan(1000)
  return error as PocError
}

// A folder whose one weight file has this header and data.
function folderOf(headerText: string, data = new Uint8Array(0), length?: bigint): string {
  const dir = makeFolder()
  writeFileSync(join(dir, 'config.json'), JSON.stringify(makeConfig()))
  writeFileSync(join(dir, 'model.safetensors'), rawSafetensors(headerText, data, length))
  return dir
}

const entry = (dtype: string, shape: unknown, data_offsets: unknown) => ({ dtype, shape, data_offsets })

describe('a folder that is right', () => {
  test.each([
    ['llama', 'F32', 1],
    ['mistral', 'F16', 1],
    ['qwen2', 'BF16', 3],
    ['qwen3', 'F32', 7],
  ] as const)('%s in %s, %d files', async (architecture, dtype, shards) => {
    const model = makeModel({ architecture, dtype, shards })
    const checkpoint = await readCheckpoint(model.dir)
    expect(checkpoint.files).toHaveLength(shards)
    expect(checkpoint.config).toEqual(parseConfig(model.config, ''))
    expect(checkpoint.tensors.map(({ name }) => name).sort()).toEqual([...model.tensors.keys()].sort())
    const files = checkpoint.files.map((path) => readFileSync(path))
    expect(checkpoint.fileSizes).toEqual(files.map((file) => file.length))
    for (const { name, dtype: stored, shape, file, offset, bytes } of checkpoint.tensors) {
      const made = model.tensors.get(name)
      if (!made) throw new Error(name)
      expect([stored.toUpperCase(), shape]).toEqual([made.dtype, made.shape])
      expect(files[file].subarray(offset, offset + bytes).equals(storedBytes(made))).toBe(true)
    }
  })

  test('tensors come in the order of the computation, whatever the order in the file', async () => {
    const model = makeModel({ config: { tie_word_embeddings: true } })
    writeWeights(model.dir, new Map([...model.tensors].reverse()))
    const { tensors, config } = await readCheckpoint(model.dir)
    expect(tensors.map(({ name, shape }) => ({ name, shape }))).toEqual(expectedTensors(config))
    expect(tensors[0].name).toBe('model.embed_tokens.weight')
    expect(tensors.at(-1)?.name).toBe('model.norm.weight')
  })

  test('generation_config.json decides on the end of a text', async () => {
    const { dir } = makeModel()
    expect((await readCheckpoint(dir)).config.eosTokenIds).toEqual([2])
    writeFileSync(join(dir, 'generation_config.json'), '{"eos_token_id": [5, 6]}')
    expect((await readCheckpoint(dir)).config.eosTokenIds).toEqual([5, 6])
    writeFileSync(join(dir, 'generation_config.json'), '{"do_sample": true}')
    expect((await readCheckpoint(dir)).config.eosTokenIds).toEqual([2])
    writeFileSync(join(dir, 'generation_config.json'), '{"eos_token_id": 96}')
    expect(await refusal(dir)).toMatchObject({
      code: 'MODEL_MALFORMED',
      where: expect.stringMatching(/generation/),
    })
  })

  test('what transformers does not read is not used', async () => {
    const { dir, tensors } = makeModel({
      config: { tie_word_embeddings: true },
      edit(all) {
        all.set('lm_head.weight', { dtype: 'F32', shape: [1], values: new Float32Array(1) })
        const values = new Float32Array(4)
        all.set('model.layers.2.self_attn.rotary_emb.inv_freq', { dtype: 'F32', shape: [4], values })
      },
    })
    const checkpoint = await readCheckpoint(dir)
    expect(checkpoint.tensors).toHaveLength(tensors.size - 2)
    expect(checkpoint.tensors.some(({ name }) => /inv_freq|lm_head/.test(name))).toBe(false)
  })

  test('weights at odd offsets, and links to files elsewhere as in a download cache', async () => {
    const model = makeModel({ dtype: 'BF16', config: { vocab_size: 96 } })
    const bytes = readFileSync(join(model.dir, 'model.safetensors'))
    const length = Number(bytes.readBigUInt64LE())
    const odd = Buffer.concat([bytes.subarray(0, 8 + length), Buffer.from(' '), bytes.subarray(8 + length)])
    odd.writeBigUInt64LE(BigInt(length + 1))
    const blob = join(makeFolder(), 'blob')
    writeFileSync(blob, odd)
    rmSync(join(model.dir, 'model.safetensors'))
    symlinkSync(blob, join(model.dir, 'model.safetensors'))
    expect((await readCheckpoint(model.dir)).tensors[0].offset).toBe(8 + length + 1)
  })

  test('a single file counts before an index', async () => {
    const { dir } = makeModel()
    writeFileSync(join(dir, 'model.safetensors.index.json'), '{"weight_map": {"x": "absent.safetensors"}}')
    expect((await readCheckpoint(dir)).files).toHaveLength(1)
  })

  for (const name of ['stories260K/hf-f32', 'stories260K/hf-bf16']) {
    const dir = sharedModel(name)
    if (dir) {
      test(name, async () => {
        const { tensors, config } = await readCheckpoint(dir)
        const valueBytes = name.endsWith('f32') ? 4 : 2
        expect(tensors.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(260_032 * valueBytes)
        expect(config).toMatchObject({ numLayers: 5, numHeads: 8, numKvHeads: 4, headDim: 8, tiedHead: true })
      })
    }
  }
})

test('expectedTensors counts the parameters of published models', () => {
  const count = (changes: Json, architecture: 'llama' | 'qwen2' | 'qwen3') =>
    expectedTensors(parseConfig(makeConfig(architecture, changes), ''))
      .map(({ shape }) => shape.reduce((product, length) => product * length))
      .reduce((sum, size) => sum + size)
  const shape = (sizes: number[], tie_word_embeddings: boolean) => {
    const [hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, num_key_value_heads] = sizes
    const [head_dim, vocab_size] = sizes.slice(5)
    return {
      hidden_size,
      intermediate_size,
      num_hidden_layers,
      num_attention_heads,
      num_key_value_heads,
      head_dim,
      vocab_size,
      tie_word_embeddings,
    }
  }
  // As the models' cards state them.
  expect(count(shape([2048, 8192, 16, 32, 8, 64, 128256], true), 'llama')).toBe(1_235_814_400)
  expect(count(shape([4096, 14336, 32, 32, 8, 128, 128256], false), 'llama')).toBe(8_030_261_248)
  expect(count(shape([896, 4864, 24, 14, 2, 64, 151936], true), 'qwen2')).toBe(494_032_768)
  expect(count(shape([1024, 3072, 28, 16, 8, 128, 151936], true), 'qwen3')).toBe(596_049_920)
})

describe('files that are not there', () => {
  test('folder, config, weights, shard', async () => {
    const empty = makeFolder()
    expect(await refusal(join(empty, 'nothing'))).toMatchObject({ code: 'FILE_NOT_FOUND' })
    expect(await refusal(empty)).toMatchObject({ code: 'FILE_NOT_FOUND', where: join(empty, 'config.json') })
    const whole = makeModel()
    expect(await refusal(join(whole.dir, 'config.json'))).toMatchObject({ code: 'FILE_NOT_FOUND' })
    rmSync(join(whole.dir, 'model.safetensors'))
    expect((await refusal(whole.dir)).message).toMatch(/neither model.safetensors nor model.safetensors.index.json/)
    const sharded = makeModel({ shards: 3 })
    const shard = join(sharded.dir, 'model-00002-of-00003.safetensors')
    rmSync(shard)
    expect(await refusal(sharded.dir)).toMatchObject({ code: 'FILE_NOT_FOUND', where: shard })
  })

  test('folders and pipes in the place of files', async () => {
    for (const name of ['config.json', 'model.safetensors', 'generation_config.json']) {
      const { dir } = makeModel()
      rmSync(join(dir, name), { force: true })
      mkdirSync(join(dir, name))
      expect(await refusal(dir)).toMatchObject({ code: 'MODEL_MALFORMED', where: join(dir, name) })
      rmSync(join(dir, name), { recursive: true })
      execFileSync('mkfifo', [join(dir, name)])
      expect(await refusal(dir)).toMatchObject({ code: 'MODEL_MALFORMED', where: join(dir, name) })
    }
  })

  test('arguments that are no path', async () => {
    for (const dir of ['', 'a\0b', 7, null, undefined, {}]) {
      expect(await refusal(dir)).toMatchObject({ code: 'INVALID_ARGUMENT', where: 'dir' })
    }
  })
})

describe('headers that are wrong', () => {
  const tiny = JSON.stringify({ a: entry('F32', [2], [0, 8]) })

  test.each([
    ['zero', 0n],
    ['one', 1n],
    ['one more than the file', 9999n],
    ['over the limit', 100_000_001n],
    ['the greatest signed number', 2n ** 63n - 1n],
    ['negative', 2n ** 63n],
    ['all ones', 2n ** 64n - 1n],
  ])('header length: %s', async (_, length) => {
    const error = await refusal(folderOf(tiny, new Uint8Array(8), length))
    expect([error.code, error.where]).toEqual(['MODEL_MALFORMED', expect.stringMatching(/header length$/)])
  })

  test.each([
    ['no JSON', '{"a'],
    ['a list', '[]'],
    ['a number', '12345678'],
    ['text after it', `${tiny} x`],
    ['a byte order mark', `\ufeff${tiny}`],
    ['spaces first', ` ${tiny}`],
    ['zero bytes', '\0'.repeat(16)],
    ['an entry that is a list', '{"a":[]}'],
    ['an entry that is null', '{"a":null}'],
    ['no dtype', '{"a":{"shape":[],"data_offsets":[0,0]}}'],
    ['a number for dtype', '{"a":{"dtype":7}}'],
    ['metadata that is a list', '{"__metadata__":[]}'],
    ['metadata of numbers', '{"__metadata__":{"a":1}}'],
    ['100,000 levels', `{"a":${'['.repeat(1e5)}${']'.repeat(1e5)}}`],
    ['unclosed levels', `{"a":${'['.repeat(1e6)}`],
    ['a repeated tensor', `{"a":${JSON.stringify(entry('F32', [2], [0, 8]))},${tiny.slice(1)}`],
    ['a repeated field', '{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}'],
    [
      'a repeated field in another spelling',
      '{"a":{"dtype":"F32","\\u0064type":"F32","shape":[2],"data_offsets":[0,8]}}',
    ],
  ])('%s', async (_, text) => {
    expect((await refusal(folderOf(text, new Uint8Array(8)))).code).toBe('MODEL_MALFORMED')
  })

  test('bytes that are not UTF-8', async () => {
    const dir = folderOf(tiny, new Uint8Array(8))
    const path = join(dir, 'model.safetensors')
    const bytes = readFileSync(path)
    bytes[10] = 0xff
    writeFileSync(path, bytes)
    expect((await refusal(dir)).code).toBe('MODEL_MALFORMED')
  })

  test.each([
    ['no list', 'x'],
    ['a negative length', [-2]],
    ['a fraction', [0.5]],
    ['a string', ['2']],
    ['too large a length', [1e300]],
    ['2^31 three times', [2 ** 31, 2 ** 31, 2 ** 31]],
    ['a product of 2^64', [2 ** 32, 2 ** 32]],
    ['a product beyond any number', Array(40).fill(2 ** 53 - 1)],
    ['that and zero', [...Array(40).fill(2 ** 53 - 1), 0]],
    ['one short', [1]],
    ['one more', [3]],
  ])('shape: %s', async (_, shape) => {
    const error = await refusal(folderOf(JSON.stringify({ a: entry('F32', shape, [0, 8]) }), new Uint8Array(8)))
    expect([error.code, error.where]).toEqual(['MODEL_MALFORMED', expect.stringMatching(/tensor "a"/)])
  })

  test.each([
    ['none', undefined],
    ['one', [0]],
    ['three', [0, 8, 8]],
    ['reversed', [8, 0]],
    ['negative', [-8, 0]],
    ['fractions', [0.5, 8.5]],
    ['strings', ['0', '8']],
    ['a hole before', [8, 16]],
    ['beyond the file', [0, 2 ** 53 - 1]],
    ['far beyond the file', [2 ** 53 - 9, 2 ** 53 - 1]],
    ['infinite', [0, null]],
  ])('offsets: %s', async (_, offsets) => {
    const text = JSON.stringify({ a: entry('F32', [2], offsets) }).replace('null', '1e999')
    const error = await refusal(folderOf(text, new Uint8Array(16)))
    expect(error.code).toBe('MODEL_MALFORMED')
  })

  test.each([
    ['overlap', [0, 8], [4, 12], 12],
    ['same place', [0, 8], [0, 8], 8],
    ['hole between', [0, 8], [12, 20], 20],
    ['bytes left over', [0, 8], [8, 16], 17],
    ['bytes missing', [0, 8], [8, 16], 15],
  ])('two tensors: %s', async (_, a, b, size) => {
    const text = JSON.stringify({ a: entry('F32', [2], a), b: entry('F32', [2], b) })
    expect((await refusal(folderOf(text, new Uint8Array(size)))).code).toBe('MODEL_MALFORMED')
  })

  test.each([
    'F64',
    'I8',
    'F8_E4M3',
    'BOOL',
    'f32',
    '__proto__',
    '',
  ])('dtype %s is unsupported, by name', async (dtype) => {
    const error = await refusal(folderOf(JSON.stringify({ a: entry(dtype, [2], [0, 8]) }), new Uint8Array(8)))
    expect(error).toMatchObject({ code: 'MODEL_UNSUPPORTED', received: JSON.stringify(dtype) })
    expect(error.where).toContain('"a"')
  })
})

describe('a header of this model, but of other tensors', () => {
  const name = 'model.layers.1.self_attn.k_proj.weight'

  test('one missing', async () => {
    const { dir } = makeModel({ edit: (tensors) => tensors.delete(name) })
    const error = await refusal(dir)
    expect(error).toMatchObject({ code: 'MODEL_MALFORMED', expected: 'there, of shape [16, 32]' })
    expect(error.where).toContain(name)
  })

  test('one of another shape', async () => {
    for (const shape of [[32, 16], [512], [16, 32, 1], []]) {
      const { dir } = makeModel({
        edit(tensors) {
          const count = shape.reduce((product, length) => product * length, 1)
          tensors.set(name, { dtype: 'F32', shape, values: new Float32Array(count) })
        },
      })
      const error = await refusal(dir)
      expect(error).toMatchObject({ code: 'MODEL_MALFORMED', received: `"[${shape.join(', ')}]"` })
      expect(error.where).toContain(name)
    }
  })

  test.each([
    ['llama', 'model.layers.0.self_attn.q_proj.bias'],
    ['llama', 'model.layers.3.mlp.up_proj.weight'],
    ['qwen2', 'model.layers.0.self_attn.q_norm.weight'],
    ['qwen3', 'model.layers.0.self_attn.rotary_emb.inv_freqs'],
    ['llama', '__proto__'],
    ['llama', 'constructor'],
  ] as const)('%s with %s', async (architecture, extra) => {
    const tensor = { dtype: 'F32' as const, shape: [1], values: new Float32Array(1) }
    const { dir, tensors } = makeModel({ architecture })
    // Plain assignment in the maker would lose a tensor called __proto__.
    const bytes = Buffer.from(safetensors(new Map([...tensors, ['extra', tensor]])))
    writeFileSync(join(dir, 'model.safetensors'), renamed(bytes, 'extra', extra))
    const error = await refusal(dir)
    expect([error.code, error.received]).toEqual(['MODEL_UNSUPPORTED', JSON.stringify(extra)])
  })

  test('the biases of Qwen2 are not optional', async () => {
    const { dir } = makeModel({
      architecture: 'qwen2',
      edit: (all) => all.delete('model.layers.2.self_attn.v_proj.bias'),
    })
    expect((await refusal(dir)).where).toContain('model.layers.2.self_attn.v_proj.bias')
  })
})

function renamed(file: Buffer, from: string, to: string): Uint8Array {
  const length = Number(file.readBigUInt64LE())
  const header = file
    .toString('utf8', 8, 8 + length)
    .trimEnd()
    .replace(`"${from}"`, `"${to}"`)
  return rawSafetensors(header, file.subarray(8 + length))
}

describe('an index that is wrong', () => {
  const indexOf = ({ dir }: MadeModel) => join(dir, 'model.safetensors.index.json')
  const readIndex = (model: MadeModel) => JSON.parse(readFileSync(indexOf(model), 'utf8'))
  const name = 'model.norm.weight'

  test.each([
    '../model.safetensors',
    '/etc/passwd',
    'a/b.safetensors',
    'a\\b.safetensors',
    '..',
    '.',
    '',
    '.safetensors',
    'model.bin',
    'a\0.safetensors',
    7,
    null,
    {},
    `${'x'.repeat(5000)}/.safetensors`,
  ])('a shard called %j', async (shard) => {
    const model = makeModel({ shards: 2 })
    const index = readIndex(model)
    index.weight_map[name] = shard
    writeFileSync(indexOf(model), JSON.stringify(index))
    const error = await refusal(model.dir)
    expect([error.code, error.where]).toEqual(['MODEL_MALFORMED', expect.stringContaining(name)])
  })

  test('tensors in another file than it says, in none, in two', async () => {
    const model = makeModel({ shards: 2 })
    const index = readIndex(model)
    const [first, second] = [1, 2].map((n) => `model-0000${n}-of-00002.safetensors`)
    const write = (changes: Json) =>
      writeFileSync(indexOf(model), JSON.stringify({ weight_map: { ...index.weight_map, ...changes } }))
    write({ [name]: first })
    expect((await refusal(model.dir)).code).toBe('MODEL_MALFORMED')
    write({ ghost: second })
    expect(await refusal(model.dir)).toMatchObject({
      code: 'MODEL_MALFORMED',
      message: expect.stringContaining('ghost'),
    })
    write({ [name]: undefined })
    expect(await refusal(model.dir)).toMatchObject({
      code: 'MODEL_MALFORMED',
      received: JSON.stringify(name),
    })
    write({})
    expect((await readCheckpoint(model.dir)).files).toHaveLength(2)
    copyFileSync(join(model.dir, second), join(model.dir, first))
    expect((await refusal(model.dir)).code).toBe('MODEL_MALFORMED')
  })

  test.each([
    ['empty', ''],
    ['no JSON', '{'],
    ['a list', '[]'],
    ['no map', '{}'],
    ['a map that is a list', '{"weight_map":[]}'],
    ['an empty map', '{"weight_map":{}}'],
    ['deep', `{"weight_map":${'{"a":'.repeat(1e5)}`],
    ['over the limit', ' '.repeat(2 ** 24 + 1)],
  ])('%s', async (_, text) => {
    const model = makeModel({ shards: 2 })
    writeFileSync(indexOf(model), text)
    expect((await refusal(model.dir)).code).toBe('MODEL_MALFORMED')
  })
})

test.each([
  ['empty', ''],
  ['no JSON', '{"a": NaN}'],
  ['a list', '[]'],
  ['null', 'null'],
  ['deep', '['.repeat(2 ** 20)],
  ['deep and closed', `${'['.repeat(2 ** 18)}${']'.repeat(2 ** 18)}`],
  ['over the limit', `{}${' '.repeat(2 ** 20)}`],
  ['a repeated field', JSON.stringify(makeConfig()).replace('{', '{"vocab_size":7,')],
])('a config.json that is %s', async (_, text) => {
  const { dir } = makeModel()
  writeFileSync(join(dir, 'config.json'), text)
  expect((await refusal(dir)).code).toBe('MODEL_MALFORMED')
})

test('a file cut anywhere is refused', async () => {
  const { dir } = makeModel({ config: { num_hidden_layers: 1 } })
  const path = join(dir, 'model.safetensors')
  const bytes = readFileSync(path)
  const lengths = [0, 1, 7, 8, 9, 100, Number(bytes.readBigUInt64LE()) + 8, bytes.length / 2, bytes.length - 1]
  for (const length of lengths) {
    writeFileSync(path, bytes)
    truncateSync(path, length)
    expect((await refusal(dir)).code).toBe('MODEL_MALFORMED')
  }
})

test('any change of one byte of a header gives a checkpoint or a PocError', async () => {
  const { dir } = makeModel({ dtype: 'BF16', config: { num_hidden_layers: 1 } })
  const path = join(dir, 'model.safetensors')
  const bytes = readFileSync(path)
  const headerEnd = 8 + Number(bytes.readBigUInt64LE())
  await fc.assert(
    fc.asyncProperty(fc.nat(headerEnd - 1), fc.integer({ min: 1, max: 255 }), async (at, mask) => {
      const changed = Buffer.from(bytes)
      changed[at] ^= mask
      writeFileSync(path, changed)
      const error = await readCheckpoint(dir).then(
        () => null,
        (e: unknown) => e,
      )
      expect(error === null || error instanceof PocError).toBe(true)
    }),
    { numRuns: 300 },
  )
})

test('a hostile header of many megabytes costs no more than it weighs', async () => {
  const dir = folderOf(`{"a":${'['.repeat(4e7)}`, new Uint8Array(8))
  const before = process.memoryUsage().rss
  expect((await refusal(dir)).code).toBe('MODEL_MALFORMED')
  expect(process.memoryUsage().rss - before).toBeLessThan(2e8)
})
