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
export interface VerifyAllOptions extends Omit<VerifyOptions, 'nonce'> {
  /** The nonce that all proofs were asked for with, hex; or one for each proof, `undefined` where there was none. */
  nonce?: string | readonly (string | undefined)[]
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
 * @returns Verdicts in the order of the proofs.
 * @throws {PocError} As {@link verify}; `where` begins with the proof it is about, such as `proofs[2]`. Proofs that
 *   are no proofs are refused before any model work.
 * @see Proof of Cache, section 3.2, "KV Cache-based Verification".
 */
export async function verifyAll(
  model: Model,
  proofs: readonly Proof[],
  options: VerifyAllOptions = {},
): Promise<Verdict[]> {
  fieldsOf(options, 'options', 'INVALID_ARGUMENT')
  const { nonce, maxPositions = DEFAULT_MAX_POSITIONS, ...shared } = options
  checkRun(model, shared)
  integerIn(maxPositions, 1, MAX_POSITIONS, 'options.maxPositions', 'INVALID_ARGUMENT')
  if (!Array.isArray(proofs)) throw wrongValue('INVALID_ARGUMENT', 'proofs', 'an array', proofs)
  const nonces = noncesFor(proofs.length, nonce)
  const ours = Array.from(proofs, (proof, i) => aboutProof(i, () => copyProof(proof)))
  const examinations: Examination[] = []
  for (const [i, proof] of ours.entries()) {
    examinations.push(aboutProof(i, () => examine(model, proof, { ...shared, nonce: nonces[i] })))
    await setImmediate() // hashing a proof takes a moment: others get their turn between two
  }
  const open = examinations.filter((examination): examination is OpenExamination => examination.verdict === null)
  await compareAll(model, open, { ...shared, maxPositions })
  return examinations.map((examination) => examination.verdict ?? examination.conclude())
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
    for (const [i, { matcher }] of examinations.entries()) {
      if (matcher.decided || layer[i].positions.length === 0) continue
      matcher.push(layer[i])
      if (matcher.decided) pass.drop(i)
    }
    if (examinations.every(({ matcher }) => matcher.decided)) break
  }
}

function packable({ proof, plan }: OpenExamination) {
  return { tokens: proof.tokens.subarray(0, plan.numPositions), kvDtype: proof.header.kvDtype }
}

function noncesFor(count: number, nonce: VerifyAllOptions['nonce']): (string | undefined)[] {
  const nonces = Array.isArray(nonce) ? [...nonce] : new Array(count).fill(nonce)
  if (nonces.length !== count) {
    throw wrongValue('INVALID_ARGUMENT', 'options.nonce', `a list of ${count}, one for each proof`, nonce)
  }
  for (const [i, each] of nonces.entries()) {
    if (each === undefined || typeof each === 'string') continue
    const where = Array.isArray(nonce) ? `options.nonce[${i}]` : 'options.nonce'
    throw wrongValue('INVALID_ARGUMENT', where, 'a string of hex digits', each)
  }
  return nonces
}

/** Names the proof that an error is about. */
function aboutProof<T>(index: number, work: () => T): T {
  try {
    return work()
  } catch (error) {
    if (!(error instanceof PocError)) throw error
    const { code, message, where, expected, received } = error
    const proof = `proofs[${index}]`
    const details = { where: where ? `${proof}: ${where}` : proof, expected, received, cause: error }
    throw new PocError(code, `${proof}: ${message}`, details)
  }
}
