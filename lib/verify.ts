// The pipeline, and the file to read first: structure and binding, then one prefill, layer by layer, that stops
// at the first layer with a mismatch; behind the last layer, the sampler chooses the tokens again.
import { checkRun } from './arguments'
import { type Demands, examining } from './examination'
import type { Model } from './model'
import { checkNames } from './options'
import { openPass } from './pass'
import { copyProof, type Proof } from './proof'
import { inTurns } from './turns'
import type { Verdict } from './verdict'

export interface VerifyOptions extends Demands {
  /** Positions computed at a time; changes no result. */
  chunkSize?: number
  /** Aborted, the verdict is inconclusive. */
  signal?: AbortSignal
  onProgress?: (fraction: number) => void
}

/** The names of all options. */
export const VERIFY_OPTIONS: Readonly<Record<keyof VerifyOptions, true>> = {
  nonce: true,
  beacon: true,
  root: true,
  request: true,
  seen: true,
  replay: true,
  replaySeed: true,
  probabilityTest: true,
  tokenSampler: true,
  layerSampler: true,
  maxFlops: true,
  profile: true,
  chunkSize: true,
  signal: true,
  onProgress: true,
}

/**
 * Says whether `model` computed what the proof claims, and chose its tokens.
 *
 * Plan, digests and openings are recomputed first; a proof that contradicts itself, the request, or names another
 * model, is rejected without any model work. Then one prefill over prompt and output, compared bit for bit, layer by
 * layer; and where the proof states how its tokens were chosen, the sampler must choose them again.
 * @returns The same verdict for the same inputs, on every machine.
 * @throws {PocError} PROOF_MALFORMED, INVALID_ARGUMENT (a sampler that must be given; an unknown option),
 *   TOKEN_OUT_OF_RANGE, CONTEXT_OVERFLOW, OUT_OF_MEMORY, BACKEND_FAILED, CLOSED
 * @see Proof of Cache, section 3.2, "KV Cache-based Verification".
 */
export async function verify(model: Model, proof: Proof, options: VerifyOptions = {}): Promise<Verdict> {
  checkRun(model, options)
  checkNames(options, VERIFY_OPTIONS)
  const ours = copyProof(proof) // what the caller does to it from now on does not count
  const examination = await inTurns(examining(model, ours, options))
  if (examination.verdict) return examination.verdict

  const { kvDtype } = ours.header
  const { plan } = examination
  const pass = openPass(model, [{ tokens: ours.tokens, plan, parent: null, shared: 0 }], { ...options, kvDtype })
  try {
    for await (const [layer] of pass.layers()) {
      await examination.push(layer, pass, 0)
      if (examination.decided) break // leaving the loop stops the native work: early termination
    }
  } catch (error) {
    if (!options.signal?.aborted || error !== options.signal.reason) throw error
  }
  return examination.conclude()
}
