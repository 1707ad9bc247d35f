// Turns what a forger computed into what it hands over, and says when that is nothing but the honest answer.
import type { ProofHeader } from '../binding'
import { leafIndex } from '../challenge'
import { hexFrom } from '../hex'
import type { KvSample } from '../kv'
import { createPlan, type Plan } from '../plan'
import type { Forgery } from './attack'
import { type Cells, type Computed, commitCells, proofFromCells, sameCell, sameComputed, sameTokens } from './cells'
import type { Random } from './random'
import type { Trial } from './trial'

/** The proof of these tokens and cells; null where an honest generator would claim the same. */
export async function claimOf(trial: Trial, computed: Computed, header = trial.header): Promise<Forgery | null> {
  if (header === trial.header && sameComputed(computed, await trial.honest())) return null
  return { proof: await trial.proof(computed, header) }
}

const OTHER_BEACONS = 8

/** As {@link claimOf}, with the probability of being caught where the policy replays all tokens or none. */
export async function claimWithChance(trial: Trial, computed: Computed, random: Random): Promise<Forgery | null> {
  const forgery = await claimOf(trial, computed)
  const isKnown = trial.policy.replay === 'all' || trial.policy.replay === 'none'
  return forgery && { ...forgery, ...(isKnown ? { expected: await chanceOf(trial, computed, random) } : {}) }
}

/** Certain for other tokens, where all are replayed; else the share of beacons that open a false cell. */
async function chanceOf(trial: Trial, { tokens, cells }: Computed, random: Random): Promise<number> {
  const honest = await trial.honest()
  const isHonest = sameTokens(tokens, honest.tokens)
  if (!isHonest && trial.policy.replay === 'all') return 1
  const real = isHonest ? honest.cells : await trial.cells(trial.real, tokens)
  const opensFalse = (plan: Plan) => {
    return indicesOf(trial.header, plan).some((index) => !sameCell(cells[index], real[index]))
  }
  if (trial.header.challenge === 'context') return Number(opensFalse(createPlan(trial.header, tokens)))
  const commitment = await commitCells(trial.header, { tokens, cells })
  const plans = Array.from({ length: OTHER_BEACONS }, () => commitment.plan(hexFrom(random.bytes(32))))
  return plans.filter(opensFalse).length / OTHER_BEACONS
}

/** The leaves that a plan opens, in its order. */
export function indicesOf(header: ProofHeader, plan: Plan): number[] {
  return [...plan.layers].flatMap(([layer, positions]) => {
    return Array.from(positions, (position) => leafIndex(header, layer, position))
  })
}

export type CellChange = (cell: KvSample, index: number, cells: Cells) => KvSample

/** A change of every cell. */
export async function claimChanged(trial: Trial, change: CellChange): Promise<Forgery | null> {
  const { tokens, cells } = await trial.honest()
  return await claimOf(trial, { tokens, cells: cells.map(change) })
}

const TRIES = 64
/** Most changed cells are at the last position, where it does not take many beacons until one opens them. */
const ELSEWHERE = 0.25

/**
 * A change of one cell that the challenge opens: beacons are drawn until one does.
 *
 * @param isWanted - Which cells may be changed.
 */
export async function claimOpened(
  trial: Trial,
  random: Random,
  change: CellChange,
  isWanted: (cell: KvSample) => boolean = () => true,
): Promise<Forgery | null> {
  const { header } = trial
  const { tokens, cells } = await trial.honest()
  const changed = (index: number) => ({
    tokens,
    cells: cells.map((cell, i) => (i === index ? change(cell, i, cells) : cell)),
  })
  if (header.challenge === 'context') {
    const indices = indicesOf(header, createPlan(header, tokens)).filter((index) => isWanted(cells[index]))
    return indices.length === 0 ? null : await claimOf(trial, changed(random.of(indices)))
  }
  const anywhere = (await trial.commitment()).plan(trial.beacon)
  const likely = indicesOf(header, anywhere).filter((index) => isWanted(cells[index]))
  // The last position is opened in any case, at some of the layers from 1 on.
  const atEnd = cells
    .map((_, index) => index)
    .slice(-header.numLayers)
    .filter((index) => isWanted(cells[index]))
  const isElsewhere = likely.length > 0 && random.chance(ELSEWHERE)
  for (const index of [...(isElsewhere ? [random.of(likely)] : []), random.of(atEnd)]) {
    const computed = changed(index)
    if (sameComputed(computed, { tokens, cells })) continue
    const commitment = await commitCells(header, computed)
    for (let i = 0; i < TRIES; i++) {
      const beacon = hexFrom(random.bytes(32))
      if (!indicesOf(header, commitment.plan(beacon)).includes(index)) continue
      return { proof: commitment.open(beacon), demands: { beacon } }
    }
  }
  return null
}

/** An honest computation under a header that states something else; `demands` as the trial has them. */
export async function claimRestated(trial: Trial, header: ProofHeader, computed?: Computed): Promise<Forgery> {
  const beacon = header.challenge === 'beacon' ? trial.asked.beacon : ''
  return { proof: await proofFromCells(header, computed ?? (await trial.honest()), beacon) }
}
