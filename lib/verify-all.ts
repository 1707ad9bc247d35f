// Verification of many proofs: as verify.ts, with the sequences of one pass packed, and what they share computed once.
import { setImmediate } from 'node:timers/promises'
import { checkRun } from './arguments'
import { PocError, wrongValue } from './errors'
import { type Examination, examine, type OpenExamination } from './examination'
import { fieldsOf } from './header'
import { integerIn } from './limits'
import type { Model } from './model'
import { pack, type PackedPass } from './packing'
import { openPass, pageSlots } from './pass'
import { copyProof, type Proof } from './proof'
import type { Verdict } from './verdict'
import type { VerifyOptions } from './verify'

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
 * @returns In the order of the proofs: its verdict, or the error with which {@link verify} refuses it, `where`
 *   beginning with its place, such as `proofs[2]`. One that is refused takes nothing from the others.
 * @throws {PocError} What is not about one proof: INVALID_ARGUMENT, OUT_OF_MEMORY, BACKEND_FAILED, CLOSED
 * @see Proof of Cache, section 3.2, "KV Cache-based Verification".
 */
export async function verifyAll(
  model: Model,
  proofs: readonly Proof[],
  options: VerifyAllOptions = {},
): Promise<(Verdict | PocError)[]> {
  fieldsOf(options, 'options', 'INVALID_ARGUMENT')
  const { nonce, beacon, root, maxPositions = DEFAULT_MAX_POSITIONS, ...shared } = options
  checkRun(model, shared)
  integerIn(maxPositions, 1, MAX_POSITIONS, 'options.maxPositions', 'INVALID_ARGUMENT')
  if (!Array.isArray(proofs)) throw wrongValue('INVALID_ARGUMENT', 'proofs', 'an array', proofs)
  const nonces = oneForEach(proofs.length, nonce, 'nonce')
  const beacons = oneForEach(proofs.length, beacon, 'beacon')
  const roots = oneForEach(proofs.length, root, 'root')
  const examinations: (Examination | PocError)[] = []
  for (const [i, proof] of [...proofs].entries()) {
    const demands = { ...shared, nonce: nonces[i], beacon: beacons[i], root: roots[i] }
    examinations.push(refusalOr(i, () => examine(model, copyProof(proof), demands)))
    await setImmediate() // copying and hashing a proof takes a moment: others get their turn between two
  }
  await compareAll(model, examinations.filter(isOpen), { ...shared, maxPositions })
  return examinations.map((one) => (one instanceof PocError ? one : (one.verdict ?? one.conclude())))
}

function isOpen(one: Examination | PocError): one is OpenExamination {
  return !(one instanceof PocError) && one.verdict === null
}

/** Passes over all of them, until each matcher is decided or the signal aborts. */
async function compareAll(model: Model, open: OpenExamination[], options: VerifyAllOptions): Promise<void> {
  const { maxPositions = DEFAULT_MAX_POSITIONS, signal, onProgress } = options
  const passes = pack(open.map(packable), { maxPositions, pageSlots: (kvDtype) => pageSlots(model, kvDtype) })
  const total = passes.reduce((sum, { numPositions }) => sum + numPositions, 0)
  let done = 0
  try {
    for (const pass of passes) {
      const examinations = pass.places.map(({ index }) => open[index])
      const progress = (fraction: number) => onProgress?.((done + fraction * pass.numPositions) / total)
      await comparePass(model, pass, examinations, { ...options, onProgress: progress })
      done += pass.numPositions
    }
  } catch (error) {
    if (!signal?.aborted || error !== signal.reason) throw error
  }
}

async function comparePass(
  model: Model,
  { kvDtype, places }: PackedPass,
  examinations: OpenExamination[],
  { chunkSize, signal, onProgress }: VerifyAllOptions,
): Promise<void> {
  const parts = places.map(({ parent, shared }, i) => {
    const { proof, plan } = examinations[i]
    return { tokens: proof.tokens, plan, parent, shared }
  })
  const pass = openPass(model, parts, { kvDtype, chunkSize, signal, onProgress })
  for await (const layer of pass.layers()) {
    for (const [i, examination] of examinations.entries()) {
      if (examination.decided || layer[i].positions.length === 0) continue
      await examination.push(layer[i], pass, i)
      if (examination.decided) pass.drop(i)
    }
    if (examinations.every(({ decided }) => decided)) break
  }
}

function packable({ proof, plan }: OpenExamination) {
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

/** What `work` gives, or the error with which it refuses the proof, naming it. */
function refusalOr<T>(index: number, work: () => T): T | PocError {
  try {
    return work()
  } catch (error) {
    if (!(error instanceof PocError)) throw error
    const { code, message, where, expected, received } = error
    const proof = `proofs[${index}]`
    const details = { where: where ? `${proof}: ${where}` : proof, expected, received, cause: error }
    return new PocError(code, `${proof}: ${message}`, details)
  }
}
