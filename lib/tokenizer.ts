// Text to token ids and back, where the model's folder has a tokenizer; everything else works on ids alone.
import { join } from 'node:path'
import { PocError, wrongValue } from './errors'
import { exists, readJson } from './json'

/** A model folder's tokenizer.json. */
export interface Tokenizer {
  /**
   * The token ids of a text, with the special tokens that the tokenizer puts around it.
   *
   * @throws {PocError} INVALID_ARGUMENT, MODEL_UNSUPPORTED
   */
  encode(text: string): number[]
  /**
   * The text of token ids. Ids that have no token, such as those that pad a vocabulary, give no text.
   *
   * @throws {PocError} INVALID_ARGUMENT, MODEL_UNSUPPORTED
   */
  decode(ids: ArrayLike<number>, options?: { skipSpecialTokens?: boolean }): string
}

// The package's own declarations do not resolve under node16 module resolution; this is what is used of them.
interface HfTokenizer {
  encode(text: string): { ids: number[] }
  decode(ids: number[], options: { skip_special_tokens: boolean }): string
  id_to_token(id: number): string | undefined
}
interface HfTokenizers {
  Tokenizer: new (tokenizer: object, config: object) => HfTokenizer
}

const MAX_TOKENIZER_BYTES = 2 ** 26

/**
 * Loads tokenizer.json, and tokenizer_config.json where present, from a model folder.
 *
 * @returns null where there is no tokenizer.json.
 * @throws {PocError} INVALID_ARGUMENT, MODEL_UNSUPPORTED, MODEL_MALFORMED
 */
export async function loadTokenizer(dir: string): Promise<Tokenizer | null> {
  if (typeof dir !== 'string' || dir === '') {
    throw wrongValue('INVALID_ARGUMENT', 'dir', "a model folder's path", dir)
  }
  const path = join(dir, 'tokenizer.json')
  if (!(await exists(path))) return null
  const json = await readRecord(path)
  const configPath = join(dir, 'tokenizer_config.json')
  const stated = (await exists(configPath)) ? await readRecord(configPath) : {}
  // Unless told otherwise, the package removes spaces before punctuation; transformers does not.
  const config = { clean_up_tokenization_spaces: false, ...stated }
  const { Tokenizer } = require('@huggingface/tokenizers') as HfTokenizers
  const hf = attempt(path, 'load', () => new Tokenizer(json, config))
  return {
    encode(text) {
      if (typeof text !== 'string') throw wrongValue('INVALID_ARGUMENT', 'text', 'a string', text)
      const { ids } = attempt(path, 'encode', () => hf.encode(text))
      return ids
    },
    decode(ids, { skipSpecialTokens = false } = {}) {
      const known = checkIds(ids).filter((id) => hf.id_to_token(id) !== undefined)
      if (known.length === 0) return ''
      return attempt(path, 'decode', () => hf.decode(known, { skip_special_tokens: skipSpecialTokens }))
    },
  }
}

async function readRecord(path: string): Promise<Record<string, unknown>> {
  const json = await readJson(path, MAX_TOKENIZER_BYTES)
  const isRecord = typeof json === 'object' && json !== null && !Array.isArray(json)
  if (isRecord) return json as Record<string, unknown>
  throw wrongValue('MODEL_MALFORMED', path, 'a JSON object', json)
}

function checkIds(ids: ArrayLike<number>): number[] {
  if (typeof ids !== 'object' || ids === null || !Number.isSafeInteger(ids.length)) {
    throw wrongValue('INVALID_ARGUMENT', 'ids', 'token ids', ids)
  }
  const wrong = Array.prototype.findIndex.call(ids, (id) => !Number.isInteger(id) || id < 0)
  if (wrong >= 0) throw wrongValue('INVALID_ARGUMENT', `ids[${wrong}]`, 'a token id', ids[wrong])
  return Array.from(ids)
}

// The package throws plain errors, on contents that are wrong and on kinds that it does not know alike.
function attempt<T>(path: string, action: string, run: () => T): T {
  try {
    return run()
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    const message = `${path}: the tokenizer cannot ${action}: ${reason}`
    throw new PocError('MODEL_UNSUPPORTED', message, { where: path, cause })
  }
}
