// Which reasons of a verdict are true of its proof, as far as that can be seen without a model.
import { type PlannedProof, planOf } from './challenge'
import type { CheckOptions } from './check'
import { NO_PLAN, type Plan } from './plan'
import type { Proof } from './proof'
import { EXACT, unreplayable } from './replay'
import {
  contextFault,
  openingFault,
  planFault,
  requestFault,
  rootFault,
  terminationFault,
  unplannableFault,
} from './structure'
import { REASON_CODES, type ReasonCode, type Verdict } from './verdict'

/** Reasons that cannot be found in such a proof, since it does not hold what they are about. */
function impossibleReasons({ header }: Proof): ReasonCode[] {
  const ofSamples = header.form === 'digest' ? 'sample_mismatch' : 'digest_mismatch'
  if (header.sampling === null) return [ofSamples, 'token_mismatch']
  // Other numerics may not replay the sampler.
  return header.numerics === EXACT ? [ofSamples, 'improbable_tokens', 'not_replayable'] : [ofSamples]
}

/** The proof's plan; none where nobody can plan it and it is not what was asked for: it is rejected for that alone. */
export function planIfAsked(proof: Proof, options: CheckOptions): PlannedProof {
  try {
    return planOf(proof, options)
  } catch (error) {
    if (unplannableFault(error, proof, options.request) === null) throw error
    return { plan: NO_PLAN, seed: null }
  }
}

/** For each reason that can be judged without a model: is it true of this proof? */
export function structuralFaults(proof: Proof, verdict: Verdict, plan: Plan, options: CheckOptions) {
  if (plan === NO_PLAN) return new Map(REASON_CODES.map((code) => [code, code === 'request_mismatch']))
  const { nonce, beacon, root, request } = options
  const faults = new Map<ReasonCode, boolean>([
    ['model_mismatch', proof.header.modelDigest !== verdict.modelDigest],
    ['context_mismatch', contextFault(proof, plan) !== null],
    ['termination_mismatch', terminationFault(proof) !== null],
    ['plan_mismatch', planFault(proof, plan) !== null],
  ])
  for (const code of impossibleReasons(proof)) faults.set(code, false)
  if (nonce !== undefined) faults.set('nonce_mismatch', proof.header.nonce !== nonce.toLowerCase())
  if (beacon !== undefined) faults.set('beacon_mismatch', proof.beacon !== beacon.toLowerCase())
  if (request !== undefined) faults.set('request_mismatch', requestFault(proof, request) !== null)
  // Looked at only where nothing else is wrong.
  const isWhole = [...faults.values()].every((present) => !present)
  const isOther = rootFault(proof, root) !== null
  if (isWhole && (isOther || proof.header.form !== 'digest')) {
    faults.set('opening_mismatch', isOther || openingFault(proof) !== null)
  }
  // No fault of the proof's structure, all of which is looked at first.
  if (proof.header.numerics === EXACT) {
    faults.set('no_profile', false)
    faults.set('not_replayable', unreplayable(proof, options) !== null)
  }
  return faults
}
