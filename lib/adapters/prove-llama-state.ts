// A proof of what llama.cpp computed, from the state that it saves: for services that generate with node-llama-cpp.

import type { ProofHeader } from '../binding'
import type { Samplers } from '../custom-sampler'
import { wrongValue } from '../errors'
import { createPlan } from '../plan'
import type { Proof } from '../proof'
import { checkFinite, proofOf, tokenIds } from '../prove'
import { type LlamaState, llamaSamples } from './llama-state'

/** What headers of such proofs state as numerics. */
export const LLAMA_NUMERICS = 'llama.cpp'

/**
 * The header of a proof by llama.cpp, from one for the same model and request by this engine. What it states of
 * sampling and stopping stays. Greedy choice is what a verifier can let choose again, within the profile's limit on
 * token gaps; llama.cpp draws by random numbers of its own, so that at other temperatures `sampling` must be null.
 *
 * @param header - Of {@link proofHeader}, in challenge mode `context`.
 * @throws {PocError} INVALID_ARGUMENT where sampling is stated at another temperature than 0: dropping it in silence
 *   would make a proof without replay of one for which it was asked.
 */
export function llamaHeader(header: ProofHeader, state: Pick<LlamaState, 'kvDtype'>): ProofHeader {
  const { sampling } = header
  if (sampling !== null && sampling.temperature !== 0) {
    const expected = "0 (greedy), or sampling null: llama.cpp's random choices cannot be made again"
    throw wrongValue('INVALID_ARGUMENT', 'header.sampling.temperature', expected, sampling.temperature)
  }
  return { ...header, numerics: LLAMA_NUMERICS, kvDtype: state.kvDtype }
}

/**
 * A proof of tokens whose K and V llama.cpp computed and saved. Verifiers compare it within a tolerance profile.
 *
 * @param header - As {@link llamaHeader} makes it; `rows` or `sketch`.
 * @param tokens - Prompt then output. The last one need not have been evaluated; the state must be of all others.
 * @throws {PocError} INVALID_ARGUMENT, EMPTY_PROMPT, TOKEN_OUT_OF_RANGE, MODEL_NON_FINITE, PROOF_TOO_LARGE
 */
export function proveLlamaState(
  header: ProofHeader,
  tokens: ArrayLike<number>,
  state: LlamaState,
  samplers: Samplers = {},
): Proof {
  const ids = tokenIds(tokens, 'tokens')
  if (header.kvDtype !== state.kvDtype) {
    throw wrongValue('INVALID_ARGUMENT', 'header.kvDtype', `'${state.kvDtype}', as saved`, header.kvDtype)
  }
  const other = ids.subarray(0, ids.length - 1).findIndex((token, i) => token !== state.tokens[i])
  if (other >= 0)
    throw wrongValue('INVALID_ARGUMENT', `tokens[${other}]`, `${state.tokens[other]}, as saved`, ids[other])
  const plan = createPlan(header, ids, samplers)
  const samples = llamaSamples(state, plan)
  checkFinite(samples, header.kvDtype)
  return proofOf(header, ids, plan, samples)
}
