// Files and lists that commands read, each refused by size before it is read.

import { type FileHandle, open } from 'node:fs/promises'
import type { ProofHeader } from '../binding'
import type { Claim } from '../challenge'
import { decodeClaim } from '../claim'
import { type ErrorCode, PocError, wrongValue } from '../errors'
import { DEFAULT_MAX_PROOF_BYTES, MAX_JSON_BYTES, MAX_TOKENS } from '../limits'
import { decodeProof, type Proof } from '../proof'
import { isBuiltInSampler } from '../sampler'

const MAX_IDS_BYTES = MAX_TOKENS * 12

/** Reads a proof and says how many bytes it has. */
export async function readProof(path: string): Promise<{ proof: Proof; bytes: number }> {
  const bytes = await readBounded(path, DEFAULT_MAX_PROOF_BYTES, 'PROOF_TOO_LARGE')
  try {
    return { proof: decodeProof(bytes), bytes: bytes.length }
  } catch (error) {
    throw isClaim(bytes) ? claimNotProof(path) : error
  }
}

function isClaim(bytes: Uint8Array): boolean {
  try {
    return decodeClaim(bytes) !== null
  } catch {
    return false
  }
}

function claimNotProof(path: string): PocError {
  const expected = 'a proof'
  const received = 'a claim, which has no samples yet'
  const hint = 'poc challenge shows what a beacon asks of it, poc open makes the proof'
  const message = `${path} must be ${expected}, received ${received}: ${hint}`
  return new PocError('PROOF_MALFORMED', message, { where: path, expected, received })
}

/** Reads a claim whose samplers are built in: a custom one is code that the command line does not have. */
export async function readClaim(path: string): Promise<Claim> {
  const claim = decodeClaim(await readBounded(path, DEFAULT_MAX_PROOF_BYTES, 'PROOF_TOO_LARGE'))
  checkBuiltIn(path, claim.header)
  return claim
}

/** As {@link readProof}, for commands that evaluate the samplers: a custom one is code that they do not have. */
export async function readEvaluableProof(path: string): Promise<Proof> {
  const { proof } = await readProof(path)
  checkBuiltIn(path, proof.header)
  return proof
}

/** Refuses custom samplers. */
export function checkBuiltIn(path: string, header: ProofHeader): void {
  for (const key of ['tokenSampler', 'layerSampler'] as const) {
    if (isBuiltInSampler(header[key])) continue
    throw wrongValue('PROOF_MALFORMED', `${path}: ${key}`, 'a built-in sampler on the command line', header[key])
  }
}

/** Reads a JSON file; `code` is the error of one that is no JSON or too large. */
export async function readJsonFile(path: string, code: ErrorCode, maxBytes = MAX_JSON_BYTES): Promise<unknown> {
  const bytes = await readBounded(path, maxBytes, code)
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (cause) {
    const received = cause instanceof Error ? cause.message : String(cause)
    throw new PocError(code, `${path} must be JSON: ${received}`, { where: path, expected: 'JSON', received, cause })
  }
}

/** Token ids from a flag: `1,2,3`, or `@FILE` with ids between commas, spaces or newlines. */
export async function readIds(value: string, flag: string): Promise<Uint32Array> {
  const isFile = value.startsWith('@')
  const path = value.slice(1)
  const text = isFile ? Buffer.from(await readBounded(path, MAX_IDS_BYTES, 'INVALID_ARGUMENT')).toString() : value
  const where = isFile ? path : flag
  const parts = text.trim().split(/\s*,\s*|\s+/)
  if (parts.length === 1 && parts[0] === '') return new Uint32Array(0)
  return Uint32Array.from(parts, (part, i) => {
    const id = /^[0-9]{1,10}$/.test(part) ? Number(part) : Number.NaN
    if (id <= 0xffffffff) return id
    throw wrongValue('INVALID_ARGUMENT', `${where}, id ${i}`, 'a token id', part)
  })
}

// Reads pipes too, whose size is not known beforehand.
async function readBounded(path: string, maxBytes: number, code: ErrorCode): Promise<Uint8Array> {
  const tooLarge = (received: string) => {
    const expected = `at most ${maxBytes} bytes`
    return new PocError(code, `${path} must be ${expected}, received ${received}`, { where: path, expected, received })
  }
  let file: FileHandle | undefined
  try {
    file = await open(path)
    const { size } = await file.stat()
    if (size > maxBytes) throw tooLarge(String(size))
    const chunks: Buffer[] = []
    let total = 0
    for await (const chunk of file.createReadStream({ end: maxBytes, autoClose: false })) {
      chunks.push(chunk)
      total += chunk.length
    }
    if (total > maxBytes) throw tooLarge('more')
    return new Uint8Array(Buffer.concat(chunks, total))
  } catch (cause) {
    throw cause instanceof PocError ? cause : unreadable(path, cause)
  } finally {
    await file?.close()
  }
}

function unreadable(path: string, cause: unknown): PocError {
  const received = (cause as NodeJS.ErrnoException).code ?? String(cause)
  const message = received === 'ENOENT' ? `${path} does not exist` : `${path} cannot be read: ${received}`
  return new PocError('FILE_NOT_FOUND', message, { where: path, expected: 'a readable file', received, cause })
}
