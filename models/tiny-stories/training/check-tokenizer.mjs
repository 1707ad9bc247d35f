// Loads tokenizer.json with @huggingface/tokenizers: round trips, and the prompt ids of train.py.
//   node check-tokenizer.mjs [model folder with a reference.json of its own]
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Tokenizer } from '@huggingface/tokenizers'

const json = (path) => JSON.parse(readFileSync(path, 'utf8'))
const here = dirname(fileURLToPath(import.meta.url))
const folder = process.argv[2] ?? join(here, '..')
const reference = join(process.argv[2] ?? here, 'reference.json')
const tokenizer = new Tokenizer(json(join(folder, 'tokenizer.json')), json(join(folder, 'tokenizer_config.json')))

const texts = [
  '',
  ' ',
  'Once upon a time, there was a little girl named Lily.',
  '"Where is my ball?" cried Tom. He was sad.',
  '  two  spaces\n\n\tand a tab \r\n',
  "don't we'll I'm they've",
  'x_y = f(1234567890) ** 2; // ok!',
  "Zoë's café, naïve Ærøskøbing",
  'Straße Łódź Ελλάδα Привет мир',
  '日本語のテキスト 한국어 中文',
  'שלום مرحبا नमस्ते',
  '😀👩‍👩‍👧‍👦🇩🇪 e\u0301 \u00a0\u2028\ufeff ½ ² Ⅷ',
  '<s',
  '\u0000\u0007\u001b',
]
for (const text of texts) {
  const { ids } = tokenizer.encode(text)
  assert.equal(ids[0], 0, 'starts with <s>')
  assert.equal(tokenizer.decode(ids, { skip_special_tokens: true }), text)
  assert.deepEqual(tokenizer.encode(text, { add_special_tokens: false }).ids, ids.slice(1))
}
assert.equal(tokenizer.token_to_id('<s>'), 0)
assert.equal(tokenizer.token_to_id('</s>'), 1)
assert.deepEqual(tokenizer.encode('</s>', { add_special_tokens: false }).ids, [1])
for (const { prompt, ids } of json(reference)) assert.deepEqual(tokenizer.encode(prompt).ids, ids)
console.log(`${texts.length} round trips and the reference prompts are as expected`)
