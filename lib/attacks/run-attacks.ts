// Runs attacks against a verifier: trial after trial, each a fresh request, until every attack has had its number.
import { integerIn } from '../limits'
import type { Model } from '../model'
import { checkOptions } from '../options'
import type { Attack } from './attack'
import {
  ALLOWED_ATTACKS,
  ATTACKS,
  CHANCE_ATTACKS,
  COMPARED_ATTACKS,
  TOKENS_NEEDED,
  WEAKER_POLICIES,
} from './attack-lists'
import { choiceOf } from './choice'
import { type HonestRow, runHonest } from './honest'
import { judge, type Verifier, verifierOf } from './judge'
import { createModelPool, type ModelPool } from './model-pool'
import { createRandom, type Random } from './random'
import { type AttackRow, createTally, type Tally } from './tally'
import { measureTokensNeeded, type TokensNeededRow } from './tokens-needed'
import { Trial } from './trial'
import { drawRequest, type Policy, RECOMMENDED } from './user-request'
import { runVerdictAttacks } from './lying-verifiers'

export interface AttackOptions {
  /** Forgeries of each attack; default 20. */
  trials?: number
  /** Honest proofs, which all must be accepted; default ten times `trials`. */
  honest?: number
  /** Hex or any text: equal seeds give equal trials. */
  seed?: string
  /**
   * Attacks to run, default all of the kit's: names of those, or your own, which stand in a report's first list and
   * count there.
   */
  attacks?: readonly (string | Attack)[]
  /** The verifier under attack; default {@link verify} with the model. */
  verifier?: Verifier
  /** Folder of a cheaper model of the same shape, in the place of the int8 copy. */
  cheapModel?: string
  /** Threads of the CPU backend for the copies, as those of the real model; default one per available core. */
  threads?: number
  signal?: AbortSignal
  /** Called with the share of the work that is done. */
  onProgress?: (fraction: number) => void
}

/** A weaker policy, and what it lets through. */
export interface ModeRow extends AttackRow {
  policy: string
}

export interface AttackReport {
  /** Digest of the real model. */
  model: string
  policy: Policy
  seed: string
  /** Each must be caught in every trial. */
  attacks: AttackRow[]
  honest: HonestRow
  /** Lying verifiers, which the user's own check of a verdict must find. */
  verdicts: AttackRow[]
  /** Caught with a probability, which `expected` states. */
  chance: AttackRow[]
  /** What cannot be caught, and is not counted. */
  allowed: AttackRow[]
  /** What weaker policies make of some attacks; not counted. */
  modes: ModeRow[]
  /** How many tokens of a cheap model it takes until the sampler chooses another. */
  tokensNeeded: TokensNeededRow[]
  /** Every attack and every lie was tried and caught in every trial, and no honest proof was rejected. */
  allCaught: boolean
}

/** A trial is drawn anew for an attack that it does not fit, or under which it is harmless: at most so often. */
const MAX_DRAWS = 50

/**
 * Attacks a verifier, and shows it honest proofs too.
 *
 * Each trial draws a request (prompt, lengths, sampling, samplers, dtype), and every attack that still needs one is
 * tried on it, so that what honest and cheap models compute for it is computed once.
 * @param model - The real one; changed copies of it are written to a folder for temporary files.
 * @throws {PocError} INVALID_ARGUMENT, and what loading and running models throws; aborted, it rejects with the
 *   signal's reason.
 */
export async function runAttacks(model: Model, options: AttackOptions = {}): Promise<AttackReport> {
  checkOptions(options)
  const { signal, seed = '', verifier = verifierOf(model), onProgress } = options
  const trials = integerIn(options.trials ?? 20, 1, 2 ** 20, 'options.trials', 'INVALID_ARGUMENT')
  const honest = integerIn(options.honest ?? trials * 10, 0, 2 ** 24, 'options.honest', 'INVALID_ARGUMENT')
  const { isChosen, own } = choiceOf(options.attacks)
  const models = createModelPool(model, options.cheapModel, { threads: options.threads, signal })
  const random = createRandom(seed)
  const work = { models, verifier, signal, trials }
  const steps = progressOf([7, 2, 1, 2, 1, 2], onProgress)
  try {
    const lists = [ATTACKS, CHANCE_ATTACKS, ALLOWED_ATTACKS].map((list) => list.filter(isChosen))
    lists[0].push(...own)
    const rows = await runLists(lists, { ...work, policy: RECOMMENDED, random: random.fork('attacks') }, steps(0))
    const honestRow = await runHonest({ ...work, trials: honest, random: random.fork('honest') }, steps(1))
    const verdicts = await runVerdictAttacks({ ...work, random: random.fork('verdicts'), isChosen }, steps(2))
    const modes = await runModes(work, isChosen, random.fork('modes'), steps(3))
    const tokensNeeded = isChosen({ name: TOKENS_NEEDED }) ? await measureTokensNeeded(work, random, steps(4)) : []
    onProgress?.(1)
    const [attacks, chance, allowed] = rows
    const allCaught = [...attacks, ...verdicts.found].every(isCaught) && honestRow.rejected === 0
    return {
      model: model.digest,
      policy: RECOMMENDED,
      seed,
      attacks,
      honest: honestRow,
      verdicts: verdicts.found,
      chance,
      allowed: [...allowed, ...verdicts.hidden],
      modes,
      tokensNeeded,
      allCaught,
    }
  } finally {
    await models.close()
  }
}

/** An attack of which every draw was harmless was not seen to be caught; one that fits no trial is none here. */
function isCaught({ trials, caught, harmless }: AttackRow): boolean {
  return caught === trials && (trials > 0 || harmless === 0)
}

/** What the parts of a run share. */
export interface Work {
  models: ModelPool
  verifier: Verifier
  signal?: AbortSignal
  trials: number
  random: Random
}

async function runLists(
  lists: readonly (readonly Attack[])[],
  work: Work & { policy: Policy },
  onProgress: (fraction: number) => void,
): Promise<AttackRow[][]> {
  const tallies = new Map(lists.flat().map((attack) => [attack, createTally(attack)]))
  const { models, policy, random, signal, trials } = work
  for (let n = 0; n < trials * MAX_DRAWS; n++) {
    const waiting = [...tallies].filter(([, tally]) => tally.trials < trials)
    if (waiting.length === 0) break
    signal?.throwIfAborted()
    const draws = random.fork(`${n}`)
    const asked = await drawRequest(models.real, policy, draws)
    const trial = new Trial(models, asked, policy, signal)
    for (const [attack, tally] of waiting) await attackOnce(attack, tally, trial, draws.fork(attack.name), work)
    onProgress(Math.min(1, [...tallies.values()].reduce((sum, tally) => sum + tally.trials, 0) / trials / tallies.size))
  }
  return lists.map((list) => list.map((attack) => (tallies.get(attack) as Tally).row()))
}

const CHUNK_SIZES = [8, 40, 512]

async function attackOnce(attack: Attack, tally: Tally, trial: Trial, random: Random, { verifier }: Work) {
  if (attack.fits && !attack.fits(trial)) return
  const forgery = await attack.forge(trial, random)
  if (forgery) tally.add(await judge(verifier, trial, forgery, random.of(CHUNK_SIZES)))
  else tally.addHarmless()
}

/** One tenth of the trials of some attacks, under each policy. */
async function runModes(
  work: Omit<Work, 'random'>,
  isChosen: (named: { name: string }) => boolean,
  random: Random,
  onProgress: (fraction: number) => void,
): Promise<ModeRow[]> {
  const attacks = COMPARED_ATTACKS.filter(isChosen)
  const trials = Math.ceil(work.trials / 10)
  const rows: ModeRow[] = []
  if (attacks.length === 0) return rows
  for (const [i, policy] of WEAKER_POLICIES.entries()) {
    const [found] = await runLists([attacks], { ...work, trials, policy, random }, (fraction) => {
      onProgress((i + fraction) / WEAKER_POLICIES.length)
    })
    rows.push(...found.map((row) => ({ policy: policy.name, ...row })))
  }
  return rows
}

/** Parts of one progress, each with its weight. */
function progressOf(weights: number[], onProgress: ((fraction: number) => void) | undefined) {
  const total = weights.reduce((sum, weight) => sum + weight, 0)
  return (part: number) => {
    const before = weights.slice(0, part).reduce((sum, weight) => sum + weight, 0)
    return (fraction: number) => onProgress?.((before + fraction * weights[part]) / total)
  }
}
