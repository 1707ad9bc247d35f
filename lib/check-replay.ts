// What a verdict says of replayed tokens, and which reasons a proof leaves to nobody.
import type { Report } from './check'
import type { Proof } from './proof'
import { MIN_SURPRISE } from './replay'
import type { ReasonCode, Verdict } from './verdict'

/** Reasons that cannot be found in such a proof, since it does not hold what they are about. */
export function impossibleReasons({ header }: Proof): ReasonCode[] {
  return [
    header.form === 'digest' ? 'sample_mismatch' : 'digest_mismatch',
    header.sampling === null ? 'token_mismatch' : 'improbable_tokens',
  ]
}

/** Whether replayed tokens go with the proof, the status and the reasons. */
export function checkReplay({ header, tokens }: Proof, { replay, status, reasons }: Verdict, report: Report): void {
  const has = (code: ReasonCode) => reasons.some((reason) => reason.code === code)
  const isExact = header.numerics === 'ieee32' // elsewhere a token that is not chosen may be near enough
  const isFound = replay !== null && replay.mismatched > 0
  // An opening that leads nowhere is told first.
  const isOverlooked = isExact && isFound && !has('token_mismatch') && !has('opening_mismatch')
  if (isOverlooked || (has('token_mismatch') && !isFound)) {
    report('replay', `${status}, with ${replay?.mismatched ?? 'no'} tokens that the sampler does not choose`)
  }
  if (has('improbable_tokens') && isExact && !((replay?.surprise ?? 0) < MIN_SURPRISE)) {
    report('replay', `${status} for a surprise of ${replay?.surprise ?? 'nobody'}`)
  }
  if (replay === null) return
  const { positions, mismatched, first } = replay
  if (positions < 1 || positions > tokens.length - header.promptLength || mismatched > positions) {
    report('replay', `${mismatched} of ${positions} tokens, but ${tokens.length - header.promptLength} were generated`)
  }
  const isPlace = first !== null && first.position >= header.promptLength && first.claimed === tokens[first.position]
  if (mismatched > 0 !== (isPlace && first.chosen !== first.claimed)) {
    report('replay', 'the first such token is not one of the proof')
  }
}
