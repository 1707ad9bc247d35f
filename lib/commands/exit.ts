// Exit codes: those of a verdict, then those of BSD's sysexits.

import type { ErrorCode } from '../errors'
import type { VerdictStatus } from '../verdict'

export const EXIT_DONE = 0
export const EXIT_INVALID = 1 // a verdict that does not hold
export const EXIT_INCONCLUSIVE = 2
export const EXIT_USAGE = 64
export const EXIT_BAD_DATA = 65
export const EXIT_MISSING_INPUT = 66
export const EXIT_INTERNAL = 70
export const EXIT_INTERRUPTED = 130 // as a shell reports SIGINT

export const EXIT_OF_STATUS: Readonly<Record<VerdictStatus, number>> = {
  accepted: EXIT_DONE,
  rejected: 1,
  inconclusive: EXIT_INCONCLUSIVE,
}

export const EXIT_OF_ERROR: Readonly<Record<ErrorCode, number>> = {
  INVALID_ARGUMENT: EXIT_USAGE,
  BACKEND_UNAVAILABLE: EXIT_USAGE,
  EMPTY_PROMPT: EXIT_BAD_DATA,
  TOKEN_OUT_OF_RANGE: EXIT_BAD_DATA,
  CONTEXT_OVERFLOW: EXIT_BAD_DATA,
  MODEL_UNSUPPORTED: EXIT_BAD_DATA,
  MODEL_MALFORMED: EXIT_BAD_DATA,
  MODEL_NON_FINITE: EXIT_BAD_DATA,
  PROOF_MALFORMED: EXIT_BAD_DATA,
  PROOF_TOO_LARGE: EXIT_BAD_DATA,
  VERDICT_MALFORMED: EXIT_BAD_DATA,
  STATE_MALFORMED: EXIT_BAD_DATA,
  TERMS_INVALID: EXIT_BAD_DATA,
  DISPUTE_INVALID: EXIT_BAD_DATA,
  FILE_NOT_FOUND: EXIT_MISSING_INPUT,
  ADDON_UNAVAILABLE: EXIT_INTERNAL,
  BACKEND_FAILED: EXIT_INTERNAL,
  OUT_OF_MEMORY: EXIT_INTERNAL,
  CLOSED: EXIT_INTERNAL,
  INTERNAL: EXIT_INTERNAL,
  ABORTED: EXIT_INTERRUPTED,
}
