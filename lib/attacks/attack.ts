// What an attack is: a function that turns a run of the protocol into a proof that should not pass.
import type { Proof } from '../proof'
import type { Random } from './random'
import type { Demands, Trial } from './trial'

/** What a cheating generator hands over. */
export interface Forgery {
  /** Bytes are decoded by the verifier's side. */
  proof: Proof | Uint8Array
  /** What the user demands here, where that is not what the trial says. */
  demands?: Partial<Demands>
  /** Probability of being caught, where the policy only gives one. */
  expected?: number
}

export interface Attack {
  /** Such as `prefill-int8`. */
  name: string
  /** The attack's number in docs/SECURITY.md, such as 'A2'. */
  reference: string
  about: string
  /** Whether a trial has what the attack needs; another is drawn where it has not. Default: it has. */
  fits?(trial: Trial): boolean
  /** null where the answer comes out as an honest generator's: such a trial is harmless, and another one is drawn. */
  forge(trial: Trial, random: Random): Promise<Forgery | null>
}

/** Whether the proof holds whole vectors, so that they can be exchanged after the challenge. */
export const hasRows = (trial: Trial) => trial.header.form === 'rows'

/** Whether at least so many tokens were to be generated. */
export const generates = (count: number) => (trial: Trial) => (trial.header.stop?.maxNewTokens ?? 0) >= count
