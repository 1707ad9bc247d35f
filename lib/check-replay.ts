// What a verdict says of replayed tokens.
import type { Report } from './check'
import type { Proof } from './proof'
import { EXACT, MAX_SURPRISE, type ReplayDemands, replayPositions } from './replay'
import type { ReasonCode, Verdict } from './verdict'

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
  const isImprobable = header.sampling === null && (replay?.surprise ?? 0) > MAX_SURPRISE
  const isWrong = has('improbable_tokens') ? !isImprobable : isImprobable && !has('opening_mismatch')
  if (isExact && isWrong) report('replay', `${status} at a surprise of ${replay?.surprise ?? 'nobody'}`)
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

/** Whether the tokens that had to be replayed for an accepted verdict were. */
export function checkReplayed(
  proof: Proof,
  { status, replay }: Verdict,
  seed: Uint8Array | null,
  demands: ReplayDemands,
  report: Report,
): void {
  const { sampling, numerics } = proof.header
  if (status !== 'accepted' || numerics !== EXACT) return
  const isReplayed = sampling !== null || demands.probabilityTest === true
  const wanted = (isReplayed ? replayPositions(proof, seed, demands)?.length : undefined) ?? 0
  const given = replay?.positions ?? 0
  if (wanted !== given) report('replay', `${given} tokens were replayed, asked for were ${wanted}`)
  const isUntested = demands.probabilityTest === true && replay?.surprise === null
  if (isUntested) report('replay', 'how probable the tokens are was asked for, and is not said')
}
