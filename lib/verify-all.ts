// Verification of many proofs: as verify.ts, with the sequences of one pass packed, and what they share computed once.
import { setImmediate } from 'node:timers/promises'
import { checkRun } from './arguments'
import { type ErrorCode, PocError, wrongValue } from './errors'
import { examining, type OpenExamination } from './examination'
import { fieldsOf } from './header'
import { integerIn } from './limits'
import type { Model } from './model'
import { checkNames } from './options'
import { pack, type PackedPass } from './packing'
import { openPass, pageSlots } from './pass'
import { copyProof, type Proof } from './proof'
import { inTurns } from './turns'
import type { Verdict } from './verdict'
import { VERIFY_OPTIONS, type VerifyOptions } from './verify'

/** As for one proof; `maxFlops` bounds each of them, `signal` and `onProgress` are about all. */
export interface VerifyAllOptions extends Omit<VerifyOptions, 'nonce' | 'beacon' | 'root'> {
  /** The nonce that all proofs were asked for with, hex; or one for each proof, `undefined` where there was none. */
  nonce?: string | readonly (string | undefined)[]
  /** The beacon that all were opened for, or one for each, likewise. */
  beacon?: string | readonly (string | undefined)[]
  /** The root of each proof as it was published, likewise. */
  root?: string | readonly (string | undefined)[]
  /**
   * Most positions in one pass, which bounds memory; a proof that has more is computed by itself. Changes no verdict.
   * Default 32768.
   */
  maxPositions?: number
}

const DEFAULT_MAX_POSITIONS = 2 ** 15
const MAX_POSITIONS = 2 ** 30

/**
 * Says of each proof whether `model` computed what it claims, with the verdicts of {@link verify}.
 *
 * Proofs whose tokens begin alike, as after one system prompt, have that part computed once; all share each read of
 * the weights. A proof that is decided is not computed any deeper. `computed` in a verdict is what its proof costs
 * alone.
 * @param proofs - Each is copied when its turn to be looked at comes; until then it must stay as it is.
 * @returns In the order of the proofs: its verdict, or the error with which {@link verify} refuses it or fails on it
 *   (MODEL_NON_FINITE among its values), `where` beginning with its place, such as `proofs[2]`. Neither takes anything
 *   from the others.
 * @throws {PocError} What is not about one proof: INVALID_ARGUMENT, OUT_OF_MEMORY, BACKEND_FAILED, CLOSED
 * @see Proof of Cache, section 3.2, "KV Cache-based Verification".
 */
export async function verifyAll(
  model: Model,
  proofs: readonly Proof[],
  options: VerifyAllOptions = {},
): Promise<(Verdict | PocError)[]> {
  fieldsOf(options, 'options', 'INVALID_ARGUMENT')
  checkNames(options, { ...VERIFY_OPTIONS, maxPositions: true })
  const { nonce, beacon, root, maxPositions = DEFAULT_MAX_POSITIONS, ...shared } = options
  checkRun(model, shared)
  integerIn(maxPositions, 1, MAX_POSITIONS, 'options.maxPositions', 'INVALID_ARGUMENT')
  if (!Array.isArray(proofs)) throw wrongValue('INVALID_ARGUMENT', 'proofs', 'an array', proofs)
  const nonces = oneForEach(proofs.length, nonce, 'nonce')
  const beacons = oneForEach(proofs.length, beacon, 'beacon')
  const roots = oneForEach(proofs.length, root, 'root')
  const results: (Verdict | PocError)[] = []
  const entries: Entry[] = []
  for (const [index, proof] of [...proofs].entries()) {
    const demands = { ...shared, nonce: nonces[index], beacon: beacons[index], root: roots[index] }
    try {
      const examination = await inTurns(examining(model, copyProof(proof), demands))
      if (examination.verdict) results[index] = examination.verdict
      else entries.push({ index, examination, error: null })
    } catch (error) {
      results[index] = errorOf(index, error)
    }
    await setImmediate() // copying and hashing a proof takes a moment: others get their turn between two
  }
  await compareAll(model, entries, { ...shared, maxPositions })
  for (const { index, examination, error } of entries) results[index] = error ?? examination.conclude()
  return results
}

/** A proof whose samples are compared. */
interface Entry {
  /** Among the caller's proofs. */
  readonly index: number
  readonly examination: OpenExamination
  /** What ended its examination before it was decided. */
  error: PocError | null
}

/** Passes over all of them, until each matcher is decided or the signal aborts. */
async function compareAll(model: Model, entries: Entry[], options: VerifyAllOptions): Promise<void> {
  const { maxPositions = DEFAULT_MAX_POSITIONS, signal, onProgress } = options
  const passes = pack(entries.map(packable), { maxPositions, pageSlots: (kvDtype) => pageSlots(model, kvDtype) })
  const total = passes.reduce((sum, { numPositions }) => sum + numPositions, 0)
  let done = 0
  try {
    for (const pass of passes) {
      const inPass = pass.places.map(({ index }) => entries[index])
      const progress = (fraction: number) => onProgress?.((done + fraction * pass.numPositions) / total)
      await comparePass(model, pass, inPass, { ...options, onProgress: progress })
      done += pass.numPositions
    }
  } catch (error) {
    if (!signal?.aborted || error !== signal.reason) throw error
  }
}

async function comparePass(
  model: Model,
  { kvDtype, places }: PackedPass,
  entries: Entry[],
  { chunkSize, signal, onProgress }: VerifyAllOptions,
): Promise<void> {
  const parts = places.map(({ parent, shared }, i) => {
    const { proof, plan } = entries[i].examination
    return { tokens: proof.tokens, plan, parent, shared }
  })
  const pass = openPass(model, parts, { kvDtype, chunkSize, signal, onProgress })
  for await (const layer of pass.layers()) {
    for (const [i, entry] of entries.entries()) {
      if (isDone(entry) || layer[i].positions.length === 0) continue
      try {
        await entry.examination.push(layer[i], pass, i)
      } catch (error) {
        if (error === signal?.reason) throw error
        entry.error = errorOf(entry.index, error)
      }
      if (isDone(entry)) pass.drop(i)
    }
    if (entries.every(isDone)) break
  }
}

function isDone({ examination, error }: Entry): boolean {
  return error !== null || examination.decided
}

function packable({ examination: { proof, plan } }: Entry) {
  return { tokens: proof.tokens.subarray(0, plan.numPositions), kvDtype: proof.header.kvDtype }
}

function oneForEach(count: number, given: VerifyAllOptions['nonce'], name: string): (string | undefined)[] {
  if (given !== undefined && typeof given !== 'string' && !Array.isArray(given)) {
    throw wrongValue('INVALID_ARGUMENT', `options.${name}`, 'a string of hex digits, or a list of them', given)
  }
  const list = Array.isArray(given) ? [...given] : new Array(count).fill(given)
  if (list.length !== count) {
    throw wrongValue('INVALID_ARGUMENT', `options.${name}`, `a list of ${count}, one for each proof`, given)
  }
  for (const [i, each] of list.entries()) {
    if (each === undefined || typeof each === 'string') continue
    throw wrongValue('INVALID_ARGUMENT', `options.${name}[${i}]`, 'a string of hex digits', each)
  }
  return list
}

/** Codes of errors that say nothing about the proof at which they came up. */
const ABOUT_ALL: readonly ErrorCode[] = ['OUT_OF_MEMORY', 'BACKEND_FAILED', 'CLOSED', 'ABORTED', 'INTERNAL']

/** An error about one proof, naming it; any other is thrown on. */
function errorOf(index: number, error: unknown): PocError {
  if (!(error instanceof PocError) || ABOUT_ALL.includes(error.code)) throw error
  const { code, message, where, expected, received } = error
  const proof = `proofs[${index}]`
  const details = { where: where ? `${proof}: ${where}` : proof, expected, received, cause: error }
  return new PocError(code, `${proof}: ${message}`, details)
}
