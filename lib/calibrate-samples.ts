// How many samples a proof must have for a cheat to be told apart: by draws of fewer samples from held-out proofs.

import { createHash } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import { type Draw, uniformIntegers } from './draw'
import { DETECTION, type ProofErrors, strainOf } from './fit-limits'
import type { LayerLimits } from './strain'

/** Draws of each number of samples, over all proofs: a share of 95 % has then a standard error below 1 %. */
const DRAWS = 1000
/** Greatest number of samples that is tried. */
const MAX_COUNT = 512

/** Held-out proofs: of each sequence those of all honest sources, and those of all cheats, in their order. */
export interface HeldOutProofs {
  honest: readonly (readonly ProofErrors[])[]
  cheats: readonly (readonly ProofErrors[])[]
}

/**
 * For each cheat the least of 1, 2, 4, ... samples at which, and at every greater number tried, {@link DETECTION} of
 * its drawn proofs are over the limits while at most `maxHonestShare` of the sequences' honest ones are; else null.
 *
 * A drawn proof is that many (layer, position) pairs of a whole one, without repetition; every source's proof of a
 * sequence is cut to the same pairs. Numbers are tried as long as half of the sequences have as many samples. The
 * draws are the same in every run.
 */
export async function samplesNeeded(
  limits: readonly LayerLimits[],
  { honest, cheats }: HeldOutProofs,
  maxHonestShare: number,
  signal?: AbortSignal,
): Promise<(number | null)[]> {
  const sizes = honest.map(([first]) => first.length)
  const median = [...sizes].sort((a, b) => b - a)[Math.ceil(sizes.length / 2) - 1] ?? 0
  const found: (number | null)[] = (cheats[0] ?? []).map(() => null)
  const isOver = (errors: ProofErrors, drawn: Uint32Array) => {
    return (
      strainOf(
        limits,
        Array.from(drawn, (at) => errors[at]).sort((a, b) => a.layer - b.layer),
      ) > 1
    )
  }
  for (let count = 1; count <= Math.min(median, MAX_COUNT); count *= 2) {
    const overOf = found.map(() => 0)
    let [draws, honestOver] = [0, 0]
    const long = [...sizes.keys()].filter((sequence) => sizes[sequence] >= count)
    const perProof = Math.ceil(DRAWS / long.length)
    for (const sequence of long) {
      await setImmediate() // the event loop is not kept
      signal?.throwIfAborted()
      const draw = drawsOf(count, sequence)
      for (let i = 0; i < perProof; i++, draws++) {
        const drawn = choose(count, sizes[sequence], draw)
        if (honest[sequence].some((errors) => isOver(errors, drawn))) honestOver++
        cheats[sequence].forEach((errors, cheat) => void (isOver(errors, drawn) && overOf[cheat]++))
      }
    }
    const isHonestAccepted = honestOver <= maxHonestShare * draws
    overOf.forEach((over, cheat) => {
      found[cheat] = isHonestAccepted && over >= DETECTION * draws ? (found[cheat] ?? count) : null
    })
  }
  return found
}

function drawsOf(count: number, sequence: number): Draw {
  const start = new Uint8Array(Uint32Array.of(count, sequence).buffer)
  const hash = (context: Uint8Array, counter = 0) => {
    const input = createHash('sha256').update('samples needed').update(context)
    return new Uint8Array(input.update(Uint32Array.of(counter)).digest())
  }
  return uniformIntegers(hash, start)
}

/** `count` different integers below `size`, every set of them equally likely. */
function choose(count: number, size: number, draw: Draw): Uint32Array {
  const all = Uint32Array.from({ length: size }, (_, i) => i)
  for (let i = 0; i < count; i++) {
    const other = i + draw(size - i)
    ;[all[i], all[other]] = [all[other], all[i]]
  }
  return all.subarray(0, count)
}
