// The pipeline, and the file to read first: structure and binding, then one prefill, layer by layer, that stops
// at the first layer with a mismatch.
import { checkRun } from './arguments'
import type { Samplers } from './custom-sampler'
import { examine } from './examination'
import type { Model } from './model'
import { prefill } from './prefill'
import { copyProof, type Proof } from './proof'
import type { Verdict } from './verdict'

export interface VerifyOptions extends Samplers {
  /** The nonce that the user gave out, hex. Without it, nothing shows that the proof is fresh. */
  nonce?: string
  /** An upper bound on the work: a plan that costs more gives an inconclusive verdict. */
  maxFlops?: number
  /** Positions computed at a time; changes no result. */
  chunkSize?: number
  /** Aborted, the verdict is inconclusive. */
  signal?: AbortSignal
  onProgress?: (fraction: number) => void
}

/**
 * Says whether `model` computed what the proof claims.
 *
 * Plan and digests are recomputed first; a proof that contradicts itself, or names another model, is rejected
 * without any model work. Then one prefill over prompt and output, compared bit for bit, layer by layer.
 * @returns The same verdict for the same inputs, on every machine.
 * @throws {PocError} PROOF_MALFORMED, INVALID_ARGUMENT (a sampler that must be given), TOKEN_OUT_OF_RANGE,
 *   CONTEXT_OVERFLOW, OUT_OF_MEMORY, BACKEND_FAILED, CLOSED
 * @see Proof of Cache, section 3.2, "KV Cache-based Verification".
 */
export async function verify(model: Model, proof: Proof, options: VerifyOptions = {}): Promise<Verdict> {
  checkRun(model, options)
  const ours = copyProof(proof) // what the caller does to it from now on does not count
  const examination = examine(model, ours, options)
  if (examination.verdict) return examination.verdict

  const { plan, matcher, conclude } = examination
  const { chunkSize, signal, onProgress } = options
  const { kvDtype } = ours.header
  try {
    for await (const layer of prefill(model, ours.tokens, plan, { kvDtype, chunkSize, signal, onProgress })) {
      matcher.push(layer)
      if (matcher.decided) break // leaving the loop stops the native work: early termination
    }
  } catch (error) {
    if (!signal?.aborted || error !== signal.reason) throw error
  }
  return conclude()
}
