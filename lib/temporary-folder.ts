// Folders for the time of one run.

import { rmSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface TemporaryFolder {
  readonly path: string
  remove(): Promise<void>
}

/**
 * A new folder of the user's own; `remove` takes it away, or the end of the process where that does not come, as when
 * a second signal does not wait.
 *
 * @param prefix - What its name begins with.
 */
export async function temporaryFolder(prefix: string): Promise<TemporaryFolder> {
  const path = await mkdtemp(join(tmpdir(), prefix))
  const options = { recursive: true, force: true }
  const atExit = () => rmSync(path, options)
  process.once('exit', atExit)
  return {
    path,
    async remove() {
      process.off('exit', atExit)
      await rm(path, options)
    },
  }
}
