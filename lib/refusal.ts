// A proof that nobody can judge: the error with which a verifier refuses it, as an event of a dispute. Otherwise bytes
// that are no proof would cost a generator less than handing over nothing.
// The rules: docs/PAYOFFS.md.
import { type ErrorCode, PocError } from './errors'
import { taggedHash } from './hash'
import type { EventOf } from './history'
import { bytesOf, hexFrom } from './hex'

/** Why a proof is refused before anything is recomputed; for the record, since any of them refutes it. */
export const REFUSAL_REASONS = [
  'proof_malformed', // bytes that are no well-formed proof
  'proof_too_large',
  'token_out_of_range', // a token that the model does not have
  'context_overflow', // more positions than the model has
  'unknown_sampler', // neither built in nor agreed on
  'model_mismatch', // of a blind proof; `verify` gives a verdict of this reason
] as const

export type RefusalReason = (typeof REFUSAL_REASONS)[number]

const REASON_OF_CODE: Partial<Record<ErrorCode, RefusalReason>> = {
  PROOF_MALFORMED: 'proof_malformed',
  PROOF_TOO_LARGE: 'proof_too_large',
  TOKEN_OUT_OF_RANGE: 'token_out_of_range',
  CONTEXT_OVERFLOW: 'context_overflow',
}

/**
 * The reason in an error of `decodeProof`, `verify`, `verifyAll`, `judge` or `recompute` that is about the proof;
 * null for any other, after which a verifier can only withdraw.
 *
 * It is about the proof only if whoever got it had what was agreed on: the model, custom samplers, the limits.
 */
export function refusalReason(error: unknown): RefusalReason | null {
  if (!(error instanceof PocError)) return null
  const { code, where = '' } = error.cause instanceof PocError ? error.cause : error // `verifyAll` wraps it
  if (code !== 'INVALID_ARGUMENT') return REASON_OF_CODE[code] ?? null
  if (/^header\.(token|layer)Sampler$/.test(where)) return 'unknown_sampler'
  return where.startsWith('blind.header.') ? 'model_mismatch' : null
}

/**
 * The event with which a verifier states that it refuses a proof; null for an error that is not about the proof.
 *
 * @param about - `proofDigest` of the bytes that were delivered, or of a blind verifier the `subject`; and the
 *   verifier's `modelDigest`, where the delivery names one.
 */
export function refusalOf(
  error: unknown,
  about: Omit<EventOf<'refusal'>, 'type' | 'reason'>,
): EventOf<'refusal'> | null {
  const reason = refusalReason(error)
  return reason && { type: 'refusal', ...about, reason }
}

/** What refusals of one proof have in place of a samples digest: all agree with each other, whatever their reasons. */
export function refusalDigest(proofDigest: string): string {
  return hexFrom(taggedHash('refusal', bytesOf(proofDigest)))
}
