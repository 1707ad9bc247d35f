// Files that commands write: complete or not at all.

import { randomBytes } from 'node:crypto'
import { access, constants, open, rename, rm, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { PocError } from '../errors'

/** Refuses a place that cannot be written before the work that would be lost. */
export async function checkWritable(path: string): Promise<void> {
  try {
    await access(dirname(path), constants.W_OK)
  } catch (cause) {
    throw unwritable(path, cause)
  }
  const isFolder = await stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  )
  if (isFolder) throw unwritable(path, { code: 'EISDIR' })
}

/** Writes beside `path` and renames, so that a reader sees the old file or the whole new one. */
export async function writeAtomically(path: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`
  try {
    const file = await open(temporary, 'wx')
    try {
      await file.writeFile(bytes)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, path)
  } catch (cause) {
    await rm(temporary, { force: true })
    throw unwritable(path, cause)
  }
}

function unwritable(path: string, cause: unknown): PocError {
  const received = (cause as NodeJS.ErrnoException).code ?? String(cause)
  const expected = 'a file in a folder that can be written'
  return new PocError('INVALID_ARGUMENT', `--out must be ${expected}: ${path}: ${received}`, {
    where: '--out',
    expected,
    received,
    cause,
  })
}
