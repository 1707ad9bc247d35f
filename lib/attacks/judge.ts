// Hands a forgery to the verifier under attack, as a user would who has it from a stranger.
import { PocError } from '../errors'
import type { Model } from '../model'
import { decodeProof, encodeProof, type Proof } from '../proof'
import type { Verdict } from '../verdict'
import { type VerifyOptions, verify } from '../verify'
import type { Forgery } from './attack'
import type { Outcome } from './tally'
import type { Trial } from './trial'

/** The verifier under attack. */
export type Verifier = (proof: Proof, demands: VerifyOptions) => Promise<Verdict>

/** This library's own. */
export const verifierOf =
  (model: Model): Verifier =>
  (proof, demands) =>
    verify(model, proof, demands)

/**
 * What the verifier says of a forgery. An error of this library's type is an answer too; any other one is a crash.
 *
 * @throws the reason of the trial's signal, once it is aborted
 */
export async function judge(verifier: Verifier, trial: Trial, forgery: Forgery, chunkSize: number): Promise<Outcome> {
  const { signal } = trial
  const demands = { ...trial.demands(), ...forgery.demands, chunkSize, signal }
  const { expected } = forgery
  try {
    const proof = forgery.proof instanceof Uint8Array ? decodeProof(forgery.proof) : forgery.proof
    const verdict = await verifier(proof, demands)
    signal?.throwIfAborted() // a verdict that was cut short is none
    return { verdict, error: null, bytes: sizeOf(forgery.proof), expected }
  } catch (error) {
    signal?.throwIfAborted()
    return {
      verdict: null,
      error: error instanceof PocError && error.code !== 'INTERNAL' ? error.code : 'crash',
      bytes: sizeOf(forgery.proof),
      expected,
    }
  }
}

/** 0 for an object that has no encoding. */
function sizeOf(proof: Proof | Uint8Array): number {
  if (proof instanceof Uint8Array) return proof.length
  try {
    return encodeProof(proof).length
  } catch {
    return 0
  }
}
