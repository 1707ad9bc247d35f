// Folders for the time of one run.

import { rmSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface TemporaryFolder {
  readonly path: string
  remove(): Promise<void>
}

const REMOVE = { recursive: true, force: true }
/** Those that are there: one listener for all, of which Node warns when there are many. */
const paths = new Set<string>()

function removeAll(): void {
  for (const path of paths) rmSync(path, REMOVE)
}

/**
 * A new folder of the user's own; `remove` takes it away, or the end of the process where that does not come, as when
 * a second signal does not wait.
 *
 * @param prefix - What its name begins with.
 */
export async function temporaryFolder(prefix: string): Promise<TemporaryFolder> {
  const path = await mkdtemp(join(tmpdir(), prefix))
  if (paths.size === 0) process.once('exit', removeAll)
  paths.add(path)
  return {
    path,
    async remove() {
      await rm(path, REMOVE)
      paths.delete(path)
      if (paths.size === 0) process.off('exit', removeAll)
    },
  }
}
