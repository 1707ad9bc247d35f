// The bounds of the formats. A value outside them is refused before any work or allocation depends on it.
import { type ErrorCode, wrongValue } from './errors'

/** Greatest `numLayers`. */
export const MAX_LAYERS = 4096
/** Greatest `numKvHeads`. */
export const MAX_KV_HEADS = 4096
/** Greatest `headDim`. */
export const MAX_HEAD_DIM = 4096
/** Fewest tokens in a proof: the last has no KV, so one position remains to sample. */
export const MIN_TOKENS = 2
/** Most tokens in a proof, prompt and generated. */
export const MAX_TOKENS = 2 ** 20
/** Most samples in a plan or a proof. */
export const MAX_SAMPLES = 2 ** 20
/** Longest seed, nonce and beacon. */
export const MAX_SEED_BYTES = 64
/** Greatest `topK`. */
export const MAX_TOP_K = 2 ** 32 - 1
/** Longest name of a custom sampler. */
export const MAX_SAMPLER_NAME = 64
/** Greatest `hiddenSize`. */
export const MAX_HIDDEN_SIZE = 2 ** 16
/** Most tokens that end a generation. */
export const MAX_STOP_TOKENS = 256
/** Longest name of an engine's numerics. */
export const MAX_NUMERICS_NAME = 64
/** Most layers that a `fixed:` layer sampler can name. */
export const MAX_FIXED_LAYERS = 256
/** Greatest encoded proof that is read or written unless the caller says otherwise: 256 MiB. */
export const DEFAULT_MAX_PROOF_BYTES = 2 ** 28
/** Greatest encoded proof that a caller can ask for: 2 GiB. */
export const MAX_PROOF_BYTES = 2 ** 31
/** Most base64 characters of a proof in an evidence bundle, which are 192 MiB of it. */
export const MAX_EVIDENCE_PROOF_CHARS = 2 ** 28
/** Greatest JSON file but an evidence bundle; a verdict on 2^20 samples has about 2^24 bytes. */
export const MAX_JSON_BYTES = 2 ** 26
/** Greatest evidence bundle: its proof, and all else. */
export const MAX_EVIDENCE_BYTES = MAX_EVIDENCE_PROOF_CHARS + MAX_JSON_BYTES

/** `value` as an integer in [min, max]. */
export function integerIn(value: unknown, min: number, max: number, where: string, code: ErrorCode): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
    throw wrongValue(code, where, `an integer in ${min}..${max}`, value)
  }
  return value + 0 // -0 is 0, as every encoding has it
}
