// Packed weights kept in a file between loads, so that opening a model neither reads nor hashes its weights. The
// file's bytes: docs/FORMATS.md. Nothing that goes wrong with it fails a load. What is trusted: docs/SECURITY.md.
import { createHash, randomUUID } from 'node:crypto'
import { mkdir, open, rename, rm } from 'node:fs/promises'
import { endianness } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { fromNative, info } from './addon'
import type { PocError } from './errors'
import { checkUnchanged, type Fingerprint } from './fingerprint'
import { bytesOf, hexFrom } from './hex'
import { openFile, readExactly } from './json'
import type { NativeModel } from './native'
import type { Checkpoint } from './safetensors'

/** What became of a model's file of packed weights. */
export interface WeightCache {
  path: string
  /** The file of an earlier load was `used`, this load has `written` it, or it is `unavailable`. */
  status: 'used' | 'written' | 'unavailable'
  /** Why it is unavailable; the model was loaded without it. */
  reason?: string
}

const MAGIC = Buffer.from('poc-weights-v1\0\0', 'latin1')
const KEY_AT = MAGIC.length
const DIGEST_AT = KEY_AT + 32
const CHECK_AT = DIGEST_AT + 32
const HEADER_BYTES = CHECK_AT + 32

/** The cache file of one model folder, for the files as they are now. */
export class CacheFile {
  readonly path: string
  private readonly dir: string
  private readonly checkpoint: Checkpoint
  private readonly before: readonly Fingerprint[]
  private readonly native: NativeModel
  private readonly key: Uint8Array

  /** @param before - Of the checkpoint's files, before anything of them is digested or packed. */
  constructor(dir: string, checkpoint: Checkpoint, before: readonly Fingerprint[], native: NativeModel) {
    this.dir = resolve(dir)
    this.checkpoint = checkpoint
    this.before = before
    this.native = native
    this.key = sourceKey(checkpoint, before, native.packedLayout())
    const id = sha256(Buffer.from(checkpoint.dir)).toString('hex').slice(0, 16)
    this.path = join(this.dir, `${basename(checkpoint.dir).slice(0, 60)}-${id}.poc-weights`)
  }

  /** Loads from a file that is there and belongs to these weights; the model digest, or undefined without one. */
  async load(): Promise<string | undefined> {
    const header = await this.readHeader()
    if (!header || (await this.map(header)) !== '') return undefined
    return hexFrom(header.subarray(DIGEST_AT, CHECK_AT))
  }

  /**
   * Writes the file anew and loads from it; where that is not possible, loads from the weight files.
   *
   * @param digesting - The model digest, computed meanwhile.
   */
  async build(digesting: Promise<string>): Promise<WeightCache> {
    const { path } = this
    const temporary = `${path}.${randomUUID()}.tmp`
    try {
      // Not with its parents: Node's own loop for that never ends in some places, such as /proc.
      await attempt(() => mkdir(this.dir, { mode: 0o700 }))
      let reason = await typed(this.native.writePacked(temporary))
      if (reason === '') {
        const header = this.header(bytesOf(await digesting))
        await checkUnchanged(this.checkpoint.files, this.before)
        reason = (await attempt(() => publish(temporary, path, header))) || (await this.map(header))
      }
      if (reason === '') return { path, status: 'written' }
      await typed(this.native.load())
      return { path, status: 'unavailable', reason }
    } finally {
      await attempt(() => rm(temporary, { force: true }))
    }
  }

  private async readHeader(): Promise<Uint8Array | undefined> {
    try {
      const { handle } = await openFile(this.path)
      try {
        const header = await readExactly(handle, this.path, 0, new Uint8Array(HEADER_BYTES))
        const expected = this.header(header.subarray(DIGEST_AT, CHECK_AT))
        return Buffer.compare(header, expected) === 0 ? header : undefined
      } finally {
        await handle.close()
      }
    } catch {
      return undefined // whatever it is, it is not a file to use
    }
  }

  private header(digest: Uint8Array): Uint8Array {
    const checked = Buffer.concat([MAGIC, this.key, digest])
    return new Uint8Array(Buffer.concat([checked, sha256(checked)]))
  }

  // Why the file cannot be used, or ''. The native side compares the header again: by now another process may have
  // put another file there.
  private async map(header: Uint8Array): Promise<string> {
    try {
      await typed(this.native.loadPacked(this.path, header))
      return ''
    } catch (error) {
      const { code, message } = error as PocError
      // Memory may have run out for the mapping alone; where there is none at all, the load that follows says so.
      if (code === 'FILE_NOT_FOUND' || code === 'MODEL_MALFORMED' || code === 'OUT_OF_MEMORY') return message
      throw error
    }
  }
}

// Everything that the packed bytes and the digest follow from, as far as can be seen without reading the weights.
// Which device and inode a file has may differ from one start of a machine to the next.
function sourceKey({ config, files, tensors }: Checkpoint, before: readonly Fingerprint[], layout: string): Uint8Array {
  const stored = files.map((path, i) => [basename(path), before[i].size, before[i].modifiedNs, before[i].changedNs])
  return sha256(Buffer.from(JSON.stringify([info().version, layout, endianness(), config, stored, tensors])))
}

// The header comes last, and the name when all is on the disk: there is never a file that only looks complete.
async function publish(temporary: string, path: string, header: Uint8Array): Promise<void> {
  const handle = await open(temporary, 'r+')
  try {
    await handle.write(header, 0, header.length, 0)
    await handle.sync()
  } finally {
    await handle.close()
  }
  await rename(temporary, path)
}

async function typed<T>(work: Promise<T>): Promise<T> {
  return work.catch((error) => {
    throw fromNative(error)
  })
}

// Why a call on the file system failed, or ''.
async function attempt(call: () => Promise<unknown>): Promise<string> {
  return call().then(
    () => '',
    (error: Error) => error.message,
  )
}

function sha256(bytes: Uint8Array): Buffer {
  return createHash('sha256').update(bytes).digest()
}
