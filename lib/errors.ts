// The one error class of the library. Codes are API: they never change meaning between releases.

/** Stable codes of {@link PocError}. */
export type ErrorCode =
  | 'INVALID_ARGUMENT' // a value of the wrong type, range or form passed to the library
  | 'EMPTY_PROMPT' // no token to start from
  | 'TOKEN_OUT_OF_RANGE' // a token id outside the model's vocabulary
  | 'CONTEXT_OVERFLOW' // more positions than the model (or the stated limit) allows
  | 'FILE_NOT_FOUND' // a file or folder that is not there
  | 'MODEL_UNSUPPORTED' // an architecture, option or tensor this library does not implement
  | 'MODEL_MALFORMED' // a config or weight file that contradicts itself or is damaged
  | 'MODEL_NON_FINITE' // weights, or values computed from them, that are NaN or infinite
  | 'PROOF_MALFORMED' // bytes that are not a well-formed proof
  | 'PROOF_TOO_LARGE' // a proof over the stated limits
  | 'VERDICT_MALFORMED' // JSON that is not a verdict
  | 'EVIDENCE_MALFORMED' // JSON that is not an evidence bundle
  | 'STATE_MALFORMED' // bytes that are not a foreign engine's saved state, or not one of this model's
  | 'TERMS_INVALID' // payoff terms that break a rule
  | 'DISPUTE_INVALID' // an event that the dispute's state does not allow, or a malformed history
  | 'ADDON_UNAVAILABLE' // the native addon is missing or does not load
  | 'BACKEND_UNAVAILABLE' // a backend that this machine or build does not have
  | 'BACKEND_FAILED' // a device that failed while it worked
  | 'OUT_OF_MEMORY' // an allocation failed
  | 'CLOSED' // the object was closed
  | 'ABORTED' // stopped by the caller
  | 'INTERNAL' // a bug in this library

/** What a {@link PocError} was about. */
export interface ErrorDetails {
  /** Where the value came from: an argument's name, a file, a tensor, a byte offset. */
  where?: string
  /** What would have been right. */
  expected?: string
  /** What came instead, shortened. */
  received?: string
  cause?: unknown
}

/** Every error that this library throws or rejects with. `code` is stable; the message is for people. */
export class PocError extends Error {
  readonly code: ErrorCode
  readonly where?: string
  readonly expected?: string
  readonly received?: string

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.name = 'PocError'
    this.code = code
    this.where = details.where
    this.expected = details.expected
    this.received = details.received
  }
}

/** A value in an error message: short, and never a throw of its own. */
export function shown(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}...` : value)
  if (typeof value === 'bigint') return `${value}n`
  if (typeof value === 'function') return 'a function'
  if (typeof value === 'symbol') return 'a symbol'
  if (Array.isArray(value)) return `an array of ${value.length}`
  if (ArrayBuffer.isView(value)) return `${value.constructor.name} of ${value.byteLength} bytes`
  if (typeof value === 'object' && value !== null) return 'an object'
  return String(value)
}

/** The uniform error for a wrong value: "`where` must be `expected`, received `value`". */
export function wrongValue(code: ErrorCode, where: string, expected: string, value: unknown): PocError {
  const received = shown(value)
  return new PocError(code, `${where} must be ${expected}, received ${received}`, { where, expected, received })
}
