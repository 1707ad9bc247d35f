import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { PocError } from '../../lib/errors'
import { loadTokenizer } from '../../lib/tokenizer'
import { makeFolder } from '../models/make'

const bundled = join(__dirname, '../../models/tiny-stories')

async function load(dir: string) {
  const tokenizer = await loadTokenizer(dir)
  if (!tokenizer) throw new Error('has no tokenizer.json')
  return tokenizer
}

function folderOf(tokenizerJson: string, configJson?: string): string {
  const dir = makeFolder()
  writeFileSync(join(dir, 'tokenizer.json'), tokenizerJson)
  if (configJson !== undefined) writeFileSync(join(dir, 'tokenizer_config.json'), configJson)
  return dir
}

test('a folder without tokenizer.json has none', async () => {
  expect(await loadTokenizer(makeFolder())).toBeNull()
})

test('any text comes back', async () => {
  const tokenizer = await load(bundled)
  // Markup of the special tokens itself is the one text that reads differently.
  const text = fc.string({ unit: 'grapheme', maxLength: 60 }).filter((s) => !/<\/?s>/.test(s))
  fc.assert(
    fc.property(text, (s) => {
      expect(tokenizer.decode(tokenizer.encode(s), { skipSpecialTokens: true })).toBe(s)
    }),
    { numRuns: 300 },
  )
})

test('text that is not well-formed Unicode, or empty', async () => {
  const tokenizer = await load(bundled)
  expect(tokenizer.encode('')).toEqual([0])
  expect(tokenizer.decode([])).toBe('')
  expect(tokenizer.decode(tokenizer.encode('a\ud800b'), { skipSpecialTokens: true })).toBe('a\ufffdb')
})

test('any ids give some text, also from typed arrays and beyond the vocabulary', async () => {
  const tokenizer = await load(bundled)
  fc.assert(
    fc.property(fc.array(fc.nat(1500), { maxLength: 40 }), (ids) => {
      const inVocabulary = ids.filter((id) => id < 1024)
      expect(tokenizer.decode(Uint32Array.from(ids))).toBe(tokenizer.decode(inVocabulary))
    }),
  )
})

test('without tokenizer_config.json, spaces before punctuation stay', async () => {
  const dir = makeFolder()
  copyFileSync(join(bundled, 'tokenizer.json'), join(dir, 'tokenizer.json'))
  const tokenizer = await load(dir)
  const text = "well , is n't it ?"
  expect(tokenizer.decode(tokenizer.encode(text), { skipSpecialTokens: true })).toBe(text)
})

test('wrong arguments', async () => {
  const tokenizer = await load(bundled)
  for (const text of [undefined, null, 7, ['a']]) {
    expect(() => tokenizer.encode(text as never)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
  }
  for (const ids of [undefined, null, 7, 'ab', {}, [-1], [1.5], [1, '2'], [1n], [Number.NaN]]) {
    expect(() => tokenizer.decode(ids as never)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
  }
  for (const dir of [undefined, '', 7]) {
    await expect(loadTokenizer(dir as never)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      name: 'PocError',
    })
  }
})

describe('files that are wrong', () => {
  const good = readFileSync(join(bundled, 'tokenizer.json'), 'utf8')
  const nested = (levels: number) => '[{"type":"Sequence","decoders":'.repeat(levels)

  test.each([
    ['empty', ''],
    ['cut', good.slice(0, 5000)],
    ['a list', '[]'],
    ['null', 'null'],
    ['deep', nested(1e4)],
    ['with a repeated key', good.replace('{', '{"version":"1.0",')],
  ])('tokenizer.json: %s', async (_, text) => {
    await expect(loadTokenizer(folderOf(text))).rejects.toMatchObject({
      code: 'MODEL_MALFORMED',
      name: 'PocError',
    })
  })

  test.each([
    ['no model', '{}'],
    ['a model that is null', '{"model":null}'],
    ['an unknown model', '{"model":{"type":"Magic"}}'],
    ['an unknown normalizer', JSON.stringify({ ...JSON.parse(good), normalizer: { type: 'Magic' } })],
    ['a vocabulary that is null', '{"added_tokens":[],"model":{"type":"BPE","vocab":null,"merges":null}}'],
  ])('tokenizer.json: %s', async (_, text) => {
    await expect(loadTokenizer(folderOf(text))).rejects.toMatchObject({
      code: 'MODEL_UNSUPPORTED',
      name: 'PocError',
    })
  })

  test('tokenizer_config.json that is no JSON, or a folder', async () => {
    await expect(loadTokenizer(folderOf(good, '{'))).rejects.toMatchObject({ code: 'MODEL_MALFORMED' })
    const dir = folderOf(good)
    mkdirSync(join(dir, 'tokenizer_config.json'))
    await expect(loadTokenizer(dir)).rejects.toMatchObject({ code: 'MODEL_MALFORMED' })
  })

  test('any damage gives a tokenizer or a PocError', async () => {
    const small = JSON.parse(good)
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...Object.keys(small)), fc.jsonValue(), async (key, value) => {
        const outcome = await loadTokenizer(folderOf(JSON.stringify({ ...small, [key]: value }))).then(
          (tokenizer) => {
            try {
              return tokenizer?.encode('Once upon')
            } catch (error) {
              return error
            }
          },
          (error: unknown) => error,
        )
        expect(Array.isArray(outcome) || outcome instanceof PocError).toBe(true)
      }),
      { numRuns: 60 },
    )
  })
})
