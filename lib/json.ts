// Files of a model folder: opened only when regular, JSON read within limits of size and depth.
import { access, type FileHandle, open, stat } from 'node:fs/promises'
import { PocError, wrongValue } from './errors'

const MAX_JSON_DEPTH = 64

/** The error for a model file that is not as it must be. */
export function badFile(where: string, expected: string, value: unknown): PocError {
  return wrongValue('MODEL_MALFORMED', where, expected, value)
}

/** A value that must be a JSON object. */
export function asRecord(value: unknown, where: string): Record<string, unknown> {
  const isRecord = typeof value === 'object' && value !== null && !Array.isArray(value)
  if (!isRecord) throw badFile(where, 'a JSON object', value)
  return value as Record<string, unknown>
}

/** Whether anything of this name is there. */
export async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

/**
 * Opens a regular file (links are followed); its size in bytes and the time of its last change in ms.
 *
 * @throws {PocError} FILE_NOT_FOUND, MODEL_MALFORMED
 */
export async function openFile(path: string): Promise<{ handle: FileHandle; size: number; modified: number }> {
  try {
    const info = await stat(path) // before opening, which would wait for ever on a pipe
    if (!info.isFile()) throw badFile(path, 'a regular file', info.isDirectory() ? 'a folder' : 'no file')
    return { handle: await open(path, 'r'), size: info.size, modified: info.mtimeMs }
  } catch (cause) {
    if (cause instanceof PocError) throw cause
    const reason = (cause as NodeJS.ErrnoException).code ?? String(cause)
    throw new PocError('FILE_NOT_FOUND', `${path} cannot be read: ${reason}`, { where: path, cause })
  }
}

/**
 * Fills `into` from `position` on.
 *
 * @throws {PocError} MODEL_MALFORMED where the file is shorter.
 */
export async function readExactly<T extends Uint8Array>(
  handle: FileHandle,
  path: string,
  position: number,
  into: T,
): Promise<T> {
  let filled = 0
  while (filled < into.length) {
    const { bytesRead } = await handle.read(into, filled, into.length - filled, position + filled)
    if (bytesRead === 0) throw badFile(`${path}: file size`, 'as when it was opened', position + filled)
    filled += bytesRead
  }
  return into
}

/**
 * Reads a JSON file of at most `maxBytes`, as {@link parseJson} does.
 *
 * @throws {PocError} FILE_NOT_FOUND, MODEL_MALFORMED
 */
export async function readJson(path: string, maxBytes: number): Promise<unknown> {
  const { handle, size } = await openFile(path)
  try {
    if (size > maxBytes) throw badFile(`${path}: file size`, `at most ${maxBytes}`, size)
    return parseJson(await readExactly(handle, path, 0, new Uint8Array(size)), path)
  } finally {
    await handle.close()
  }
}

// Deep nesting is refused before JSON.parse, which would spend seconds and gigabytes on it. Repeated keys are
// refused because readers disagree on which one counts: two verifiers must not see two models in one file.
export function parseJson(bytes: Uint8Array, where: string): unknown {
  const numKeys = scanJson(bytes, where)
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (cause) {
    throw new PocError('MODEL_MALFORMED', `${where} is not JSON in UTF-8`, { where, expected: 'JSON', cause })
  }
  if (countKeys(value) !== numKeys) throw badFile(where, 'JSON without repeated keys', 'a repeated key')
  return value
}

// Checks the depth and counts the colons outside strings, of which valid JSON has one for every key.
function scanJson(bytes: Uint8Array, where: string): number {
  let depth = 0
  let numKeys = 0
  let inString = false
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at]
    if (byte === 0x22) inString = !inString
    else if (inString) at += byte === 0x5c ? 1 : 0
    else if (byte === 0x3a) numKeys++
    else if (byte === 0x7d || byte === 0x5d) depth--
    else if ((byte === 0x7b || byte === 0x5b) && ++depth > MAX_JSON_DEPTH) {
      throw badFile(where, `JSON at most ${MAX_JSON_DEPTH} levels deep`, 'a deeper one')
    }
  }
  return numKeys
}

function countKeys(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0
  const items: unknown[] = Object.values(value)
  return items.reduce<number>((sum, item) => sum + countKeys(item), Array.isArray(value) ? 0 : items.length)
}
