// Which reasons of a verdict are true of its proof, as far as that can be seen without a model.
import type { CheckOptions } from './check'
import type { Plan } from './plan'
import type { Proof } from './proof'
import { EXACT, unreplayable } from './replay'
import { contextFault, openingFault, planFault, requestFault, rootFault, terminationFault } from './structure'
import type { ReasonCode, Verdict } from './verdict'

/** Reasons that cannot be found in such a proof, since it does not hold what they are about. */
function impossibleReasons({ header }: Proof): ReasonCode[] {
  const ofSamples = header.form === 'digest' ? 'sample_mismatch' : 'digest_mismatch'
  if (header.sampling === null) return [ofSamples, 'token_mismatch']
  // Other numerics may not replay the sampler.
  return header.numerics === EXACT ? [ofSamples, 'improbable_tokens', 'not_replayable'] : [ofSamples]
}

/** For each reason that can be judged without a model: is it true of this proof? */
export function structuralFaults(proof: Proof, verdict: Verdict, plan: Plan, options: CheckOptions) {
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
  if (proof.header.numerics === EXACT) {
    faults.set('no_profile', false)
    faults.set('not_replayable', unreplayable(proof, options) !== null)
  }
  // Looked at only where nothing else is wrong.
  const isWhole = [...faults.values()].every((present) => !present)
  const isOther = rootFault(proof, root) !== null
  if (isWhole && (isOther || proof.header.form !== 'digest')) {
    faults.set('opening_mismatch', isOther || openingFault(proof) !== null)
  }
  return faults
}
