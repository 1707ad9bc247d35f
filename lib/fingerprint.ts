// Whether files were left alone while they were read: the digest and the backend do so through handles of their own.
import { stat } from 'node:fs/promises'
import { PocError, wrongValue } from './errors'

/** What changes when a file is written, replaced or renamed; numbers as text. */
export interface Fingerprint {
  device: string
  inode: string
  size: string
  modifiedNs: string
  changedNs: string
}

/** @throws {PocError} FILE_NOT_FOUND */
export async function fingerprints(paths: readonly string[]): Promise<Fingerprint[]> {
  return Promise.all(
    paths.map(async (path) => {
      const info = await stat(path, { bigint: true }).catch((cause) => {
        throw new PocError('FILE_NOT_FOUND', `${path} cannot be read: ${cause.code}`, { where: path, cause })
      })
      const { dev, ino, size, mtimeNs, ctimeNs } = info
      const [device, inode, bytes, modifiedNs, changedNs] = [dev, ino, size, mtimeNs, ctimeNs].map(String)
      return { device, inode, size: bytes, modifiedNs, changedNs }
    }),
  )
}

/** @throws {PocError} FILE_NOT_FOUND; MODEL_MALFORMED where a file is not the one it was. */
export async function checkUnchanged(paths: readonly string[], before: readonly Fingerprint[]): Promise<void> {
  const now = await fingerprints(paths)
  const at = now.findIndex((one, i) => JSON.stringify(one) !== JSON.stringify(before[i]))
  if (at >= 0) throw wrongValue('MODEL_MALFORMED', paths[at], 'left alone while read', 'a change')
}
