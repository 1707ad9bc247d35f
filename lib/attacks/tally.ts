// What came of an attack's trials.
import type { Verdict } from '../verdict'

/** How one forged proof ended: a verdict, or the error with which the verifier refused it. */
export interface Outcome {
  verdict: Verdict | null
  /** Code of a typed error; `crash` for any other. */
  error: string | null
  /** Of the encoded proof. */
  bytes: number
  expected?: number
}

/** One row of a report. */
export interface AttackRow {
  attack: string
  reference: string
  about: string
  /** Forgeries handed to the verifier; runs that came out honest are not among them. */
  trials: number
  /** Rejected, or refused by a typed error. */
  caught: number
  /** How many by which check: the verdict's first reason, or the error's code. */
  by: Record<string, number>
  /** Accepted. */
  accepted: number
  /** Neither: a verdict without a decision, or an error that is none of the library's. */
  undecided: number
  /** Runs whose forgery would have been the honest answer. */
  harmless: number
  /** Means over the trials: layers computed until the verdict, share of a full prefill, bytes of the proof. */
  layers: number
  share: number
  bytes: number
  /** Mean probability of being caught, for attacks that the policy catches by chance. */
  expected?: number
}

/** What a row's numbers are made of. */
export interface Tally {
  add(outcome: Outcome): void
  addHarmless(): void
  readonly trials: number
  row(): AttackRow
}

export function createTally({ name, reference, about }: { name: string; reference: string; about: string }): Tally {
  const sums = { caught: 0, accepted: 0, undecided: 0, harmless: 0, layers: 0, share: 0, bytes: 0, expected: 0 }
  const by = new Map<string, number>()
  let trials = 0
  let hasChance = false
  return {
    get trials() {
      return trials
    },
    addHarmless() {
      sums.harmless++
    },
    add({ verdict, error, bytes, expected }) {
      trials++
      const kind = kindOf(verdict, error)
      sums[kind]++
      if (kind !== 'accepted') {
        const code = error ?? verdict?.reasons[0]?.code ?? 'none'
        by.set(code, (by.get(code) ?? 0) + 1)
      }
      sums.layers += verdict?.computed.layers ?? 0
      sums.share += verdict?.computed.share ?? 0
      sums.bytes += bytes
      sums.expected += expected ?? 0
      hasChance ||= expected !== undefined
    },
    row() {
      const { caught, accepted, undecided, harmless } = sums
      const mean = (sum: number) => (trials === 0 ? 0 : sum / trials)
      return {
        attack: name,
        reference,
        about,
        trials,
        caught,
        by: Object.fromEntries([...by].sort(([, a], [, b]) => b - a)),
        accepted,
        undecided,
        harmless,
        layers: mean(sums.layers),
        share: mean(sums.share),
        bytes: mean(sums.bytes),
        ...(hasChance ? { expected: mean(sums.expected) } : {}),
      }
    },
  }
}

function kindOf(verdict: Verdict | null, error: string | null): 'caught' | 'accepted' | 'undecided' {
  if (error !== null) return error === 'crash' ? 'undecided' : 'caught'
  if (verdict?.status === 'accepted') return 'accepted'
  return verdict?.status === 'rejected' ? 'caught' : 'undecided'
}
