// The bundled model is data that proofs refer to: it must stay what it is, byte by byte.
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { modelDigest } from '../../lib/digest'
import { readCheckpoint } from '../../lib/safetensors'
import { loadTokenizer, type Tokenizer } from '../../lib/tokenizer'

const dir = join(__dirname, '../../models/tiny-stories')
const training = join(dir, 'training')

test.each([
  ['config.json', '364536f741b0aff380c143f638590bde1c26cde7b68136db068f9cb23e89014c'],
  ['generation_config.json', 'f7adfe53c4e1241f8b5bc7d5930fed6a6fc8833374f941f9701ffbaf312ae468'],
  ['model.safetensors', '6205103d63348be965a989c1f165fe11eff65f777431baf8be914d935593f109'],
  ['tokenizer.json', 'f45b2470bd71c4e57109009c92553e5483c9199018b5e272f9557cd26e95b8bd'],
  ['tokenizer_config.json', 'b63c347fef60dd9a2f8d9f704b015952505ea696ac2c693001de725333f345f8'],
])('%s keeps its SHA-256', (name, sha256) => {
  expect(
    createHash('sha256')
      .update(readFileSync(join(dir, name)))
      .digest('hex'),
  ).toBe(sha256)
})

test('its checkpoint and its digest, as in docs/FORMATS.md', async () => {
  const checkpoint = await readCheckpoint(dir)
  expect(checkpoint.config).toEqual({
    architecture: 'llama',
    vocabSize: 1024,
    hiddenSize: 128,
    intermediateSize: 232,
    numLayers: 6,
    numHeads: 8,
    numKvHeads: 4,
    headDim: 16,
    maxPositions: 512,
    rmsNormEps: 1e-5,
    ropeTheta: 10000,
    ropeScaling: null,
    slidingWindow: null,
    qkvBias: false,
    qkNorm: false,
    tiedHead: true,
    bosTokenId: 0,
    eosTokenIds: [1],
  })
  expect(checkpoint.tensors.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(2 * 962_176)
  const digest = 'b1d713ebf38d2cff8fc878ba8da1ee9a7adc78422013a3dcb58dd531d675f54f'
  expect(await modelDigest(checkpoint)).toBe(digest)
  expect(readFileSync(join(__dirname, '../../docs/FORMATS.md'), 'utf8')).toContain(digest)
})

describe('its tokenizer', () => {
  let tokenizer: Tokenizer
  beforeAll(async () => {
    const loaded = await loadTokenizer(dir)
    if (!loaded) throw new Error('has no tokenizer.json')
    tokenizer = loaded
  })

  test.each([
    ' ',
    'Once upon a time, there was a little girl named Lily.',
    '"Where is my ball?" cried Tom. He was sad.',
    '  two  spaces\n\n\tand a tab \r\n',
    "don't we'll I'm they've",
    'x_y = f(1234567890) ** 2; // ok!',
    "Zoë's café, naïve Ærøskøbing, Straße Łódź Ελλάδα Привет мир",
    '日本語のテキスト 한국어 中文 שלום مرحبا नमस्ते',
    '😀👩‍👩‍👧‍👦🇩🇪 e\u0301 \u00a0\u2028\ufeff ½ ² Ⅷ',
    '<s',
    '\u0000\u0007\u001b',
  ])('%j comes back', (text) => {
    const ids = tokenizer.encode(text)
    expect(ids[0]).toBe(0)
    expect(tokenizer.decode(ids, { skipSpecialTokens: true })).toBe(text)
    expect(tokenizer.decode(ids)).toBe(`<s>${text}`)
  })

  // From the tokenizer written in Python that the model was trained with.
  test('the prompts of the reference have the ids that the model was trained with', () => {
    const reference: { prompt: string; ids: number[] }[] = JSON.parse(
      readFileSync(join(training, 'reference.json'), 'utf8'),
    )
    expect(reference).toHaveLength(4)
    for (const { prompt, ids } of reference) expect(tokenizer.encode(prompt)).toEqual(ids)
  })
})

test('it stays small enough to ship', () => {
  const names = ['config.json', 'model.safetensors', 'tokenizer.json', 'training/reference.json', 'training/stories.py']
  expect(names.reduce((sum, name) => sum + statSync(join(dir, name)).size, 0)).toBeLessThan(2.1e6)
})

test('its checks pass with plain node, from any folder', async () => {
  const run = (name: string) => promisify(execFile)(process.execPath, [join(training, name)], { cwd: '/' })
  const [forward, tokens] = await Promise.all([run('check.mjs'), run('check-tokenizer.mjs')])
  expect(forward.stdout.match(/100 of 100 ids the same/g)).toHaveLength(4)
  expect(tokens.stdout).toContain('as expected')
})
