// The options that all long-running functions share, checked before any work is done.
import { PocError, wrongValue } from './errors'
import { bernoulli } from './token-sampler'

/** Options that several functions share; `unknown` where a caller may have got it wrong. */
interface RunOptions {
  signal?: unknown
  onProgress?: unknown
  onToken?: unknown
  chunkSize?: unknown
  nonce?: unknown
  seed?: unknown
  maxFlops?: unknown
  beacon?: unknown
  root?: unknown
  replay?: unknown
  replaySeed?: unknown
  probabilityTest?: unknown
  request?: unknown
  seen?: unknown
  previousRoot?: unknown
}

const MAX_CHUNK = 2 ** 20

/**
 * Refuses options of a wrong type; fields that are absent pass.
 *
 * @throws {PocError} INVALID_ARGUMENT
 */
export function checkOptions(options: unknown): void {
  if (typeof options !== 'object' || options === null) {
    throw wrongValue('INVALID_ARGUMENT', 'options', 'an object', options)
  }
  const { signal, onProgress, onToken, chunkSize, maxFlops, probabilityTest, request, seen } = options as RunOptions
  const must = (name: string, value: unknown, expected: string, valid: boolean) => {
    if (value !== undefined && !valid) throw wrongValue('INVALID_ARGUMENT', `options.${name}`, expected, value)
  }
  must('signal', signal, 'an AbortSignal', signal instanceof AbortSignal)
  must('onProgress', onProgress, 'a function', typeof onProgress === 'function')
  must('onToken', onToken, 'a function', typeof onToken === 'function')
  const isChunk = Number.isInteger(chunkSize) && (chunkSize as number) > 0 && (chunkSize as number) <= MAX_CHUNK
  must('chunkSize', chunkSize, `an integer from 1 to ${MAX_CHUNK}`, isChunk)
  for (const name of ['nonce', 'seed', 'beacon', 'root', 'replaySeed', 'previousRoot'] as const) {
    const value = (options as RunOptions)[name]
    // An empty beacon or root would be that of every proof that has none.
    const isSaid = value !== '' || (name !== 'beacon' && name !== 'root')
    must(name, value, 'a string of hex digits', typeof value === 'string' && isSaid)
  }
  const { replay } = options as RunOptions
  // Also where the proof has nothing to replay: what is misspelt must not pass for a replay that cannot be.
  const isShare = typeof replay === 'string' && (['all', 'none'].includes(replay) || bernoulli(replay) !== null)
  must('replay', replay, "'all', 'none' or a share such as '1/8'", isShare)
  must('probabilityTest', probabilityTest, 'true or false', typeof probabilityTest === 'boolean')
  must('request', request, 'an object', typeof request === 'object' && request !== null)
  const isStore = typeof (seen as Set<string>)?.has === 'function' && typeof (seen as Set<string>)?.add === 'function'
  must('seen', seen, 'an object with has() and add()', isStore)
  must('maxFlops', maxFlops, 'a number that is not negative', typeof maxFlops === 'number' && maxFlops >= 0)
}

/**
 * Refuses options with another name than these: a demand whose name is misspelt would not be made.
 *
 * @param names - All names; the compiler holds them to the type.
 * @throws {PocError} INVALID_ARGUMENT
 */
export function checkNames<T extends object>(options: T, names: Readonly<Record<keyof T, true>>): void {
  const unknown = Object.keys(options).find((name) => !Object.hasOwn(names, name))
  if (unknown === undefined) return
  const value = options[unknown as keyof T]
  throw wrongValue('INVALID_ARGUMENT', `options.${unknown}`, 'absent, there is no such option', value)
}

/** The signal's reason in the place of the error by which an aborted run ends. */
export function reasonOf(error: unknown, signal: AbortSignal | undefined): unknown {
  return signal?.aborted && error instanceof PocError && error.code === 'ABORTED' ? signal.reason : error
}
