// The run is honest; what is opened of it is not what the challenge asks for, or does not belong to its root.
import { leafIndex } from '../challenge'
import { hexFrom } from '../hex'
import type { KvSample } from '../kv'
import { createPlan } from '../plan'
import type { Proof } from '../proof'
import { bindingId } from '../registry'
import { type Attack, hasRows } from './attack'
import { type Cells, commitCells, sameCell } from './cells'
import { claimRestated, claimWithChance, indicesOf } from './claim'
import { madeUp } from './of-vectors'
import type { Random } from './random'
import type { Trial } from './trial'

/** Everything that the forger of an opening has: the honest proof is its own to change. */
interface Opened {
  trial: Trial
  random: Random
  proof: Proof
  cells: Cells
}

const opening = (
  name: string,
  about: string,
  change: (opened: Opened) => Promise<Partial<Proof> | null> | Partial<Proof> | null,
  fits?: Attack['fits'],
): Attack => ({
  name,
  reference: 'A5, A8',
  about,
  fits,
  async forge(trial, random) {
    const { cells } = await trial.honest()
    const proof = await trial.honestProof()
    const changed = await change({ trial, random, proof, cells })
    return changed && { proof: { ...proof, ...changed } }
  },
})

/** Samples with one replaced; null where the replacement is the same. */
function replaced(samples: readonly KvSample[], at: number, other: KvSample): Partial<Proof> | null {
  if (sameCell(samples[at], other)) return null
  return { samples: samples.map((sample, i) => (i === at ? { ...sample, k: other.k, v: other.v } : sample)) }
}

/** The honest path of some samples. */
async function pathOf({ trial, proof }: Opened, samples: readonly KvSample[]): Promise<Uint8Array> {
  const commitment = await trial.commitment()
  const indices = samples.map(({ layer, position }) => leafIndex(proof.header, layer, position))
  return commitment.tree.path(indices.sort((a, b) => a - b))
}

const ROOTS = 24

/** What a beacon that is known too early would allow, were the published root not compared. */
const LATE_COMMITMENT: Attack = {
  name: 'root-late',
  reference: 'A5',
  about: 'after the beacon, roots are made until one opens no made-up vector (a tenth is), in the place of the first',
  fits: (trial) => trial.header.challenge === 'beacon',
  async forge(trial, random) {
    const { tokens, cells } = await trial.honest()
    let published: string | null = null
    for (let i = 0; i < ROOTS; i++) {
      const isFalse = cells.map((_, index) => index === i % cells.length || random.chance(0.1))
      const made = cells.map((cell, index) => (isFalse[index] ? madeUp(trial, cell, random) : cell))
      const commitment = await commitCells(trial.header, { tokens, cells: made })
      const opened = indicesOf(trial.header, commitment.plan(trial.beacon))
      published ??= commitment.root
      if (published === commitment.root || opened.some((index) => isFalse[index])) continue
      return { proof: commitment.open(trial.beacon), demands: { root: published } }
    }
    return null
  },
}

export const OPENING_ATTACKS: readonly Attack[] = [
  opening('path-changed', 'one bit of the path', ({ random, proof }) => {
    if (proof.path.length === 0) return null
    const path = new Uint8Array(proof.path)
    path[random.below(path.length)] ^= 1 << random.below(8)
    return { path }
  }),
  opening('path-cut', 'a path without its last node', ({ proof }) => {
    return proof.path.length === 0 ? null : { path: proof.path.slice(0, -32) }
  }),
  opening('path-longer', 'a path with a node too many', ({ proof, random }) => {
    return { path: new Uint8Array([...proof.path, ...random.bytes(32)]) }
  }),
  opening(
    'rows-exchanged',
    "two opened vectors in each other's places",
    ({ proof, random }) => {
      const { samples } = proof
      const at = random.below(samples.length)
      const other = samples.findIndex((sample, i) => i !== at && sample.k.length === samples[at].k.length)
      if (other < 0 || sameCell(samples[at], samples[other])) return null
      const first = replaced(samples, at, samples[other])?.samples ?? samples
      return replaced(first, other, samples[at])
    },
    hasRows,
  ),
  opening(
    'row-elsewhere',
    'a committed vector of another position',
    ({ proof, random, cells }) => {
      const at = random.below(proof.samples.length)
      const { layer, position } = proof.samples[at]
      const others = cells.filter((cell) => cell.layer === layer && cell.position !== position)
      return others.length === 0 ? null : replaced(proof.samples, at, random.of(others))
    },
    hasRows,
  ),
  opening(
    'rows-of-others',
    'vectors of another run from the middle on',
    async ({ trial, proof }) => {
      const other = (await trial.others()).cells
      const samples = proof.samples.map((sample, i) => {
        return i < proof.samples.length >> 1 ? sample : other[leafIndex(proof.header, sample.layer, sample.position)]
      })
      return { samples }
    },
    hasRows,
  ),
  opening(
    'samples-fewer',
    'one sample left out, with a path for the others',
    async (opened) => {
      const { samples } = opened.proof
      if (samples.length === 1) return null
      const at = opened.random.below(samples.length)
      const left = samples.filter((_, i) => i !== at)
      return { samples: left, path: await pathOf(opened, left) }
    },
    hasRows,
  ),
  opening('samples-none', 'no samples at all', () => ({ samples: [], path: new Uint8Array(0) }), hasRows),
  opening(
    'samples-twice',
    'one sample once more, behind the others',
    ({ proof, random }) => {
      return { samples: [...proof.samples, random.of(proof.samples)] }
    },
    hasRows,
  ),
  opening(
    'digest-made-up',
    'a digest of nothing',
    ({ random }) => ({ samplesDigest: hexFrom(random.bytes(32)) }),
    (trial) => !hasRows(trial),
  ),
  opening('root-made-up', 'a root of nothing', ({ random }) => ({ root: hexFrom(random.bytes(32)) })),
  opening('root-of-others', 'the root of another run', async ({ trial }) => {
    return { root: (await commitCells(trial.header, await trial.others())).root }
  }),
  opening('beacon-own', "opened for a beacon of the generator's choice", async ({ trial, random }) => {
    const commitment = await trial.commitment()
    return commitment.open(hexFrom(random.bytes(32)))
  }),
  opening('beacon-relabelled', 'opened for another beacon, with the name of the right one', async (opened) => {
    const { trial, random, proof } = opened
    const commitment = await trial.commitment()
    const other = commitment.open(hexFrom(random.bytes(32)))
    const isSame =
      indicesOf(trial.header, commitment.plan(proof.beacon)).join() ===
      indicesOf(trial.header, commitment.plan(other.beacon)).join()
    return isSame ? null : { ...other, beacon: proof.beacon }
  }),
  {
    name: 'nonce-ground',
    reference: 'A5, A8',
    about: 'a nonce of its own choice, under which no made-up vector is opened',
    forge: ground,
  },
  LATE_COMMITMENT,
]

const NONCES = 8

/** Half of the vectors are made up; of many nonces, the one that opens fewest of them. */
async function ground(trial: Trial, random: Random) {
  const { tokens, cells } = await trial.honest()
  const isFalse = cells.map(() => random.chance(0.5))
  const computed = { tokens, cells: cells.map((cell, i) => (isFalse[i] ? madeUp(trial, cell, random) : cell)) }
  let best = trial.header
  let fewest = Number.POSITIVE_INFINITY
  for (let i = 0; i < NONCES && fewest > 0; i++) {
    const header = { ...trial.header, nonce: hexFrom(random.bytes(16)) }
    const plan =
      header.challenge === 'context'
        ? createPlan(header, tokens)
        : (await commitCells(header, computed)).plan(trial.beacon)
    const opened = indicesOf(header, plan).filter((index) => isFalse[index]).length
    if (opened >= fewest) continue
    best = header
    fewest = opened
  }
  return await claimRestated(trial, best, computed)
}

/** Honest only where the tokens say that samples will be, as the paper's generator knows. */
export const PREDICTABLE: Attack = {
  name: 'predictable',
  reference: 'A5',
  about: "vectors are the model's where a plan drawn from the tokens looks, and made up elsewhere",
  async forge(trial, random) {
    const { tokens, cells } = await trial.honest()
    const { header } = trial
    const depth = header.depth.startsWith('random') ? 'full' : header.depth
    const known = header.challenge === 'context' ? header : { ...header, challenge: 'context' as const, depth }
    const real = new Set(indicesOf(header, createPlan(known, tokens)))
    const made = cells.map((cell, i) => (real.has(i) ? cell : madeUp(trial, cell, random)))
    return await claimWithChance(trial, { tokens, cells: made }, random)
  },
}

/** One request answered, and charged for, twice: who remembers bindings notices, since the request had a nonce. */
export const RECOMMITTED: Attack = {
  name: 'recommitted',
  reference: 'A8',
  about: 'an answer that was accepted before, under another root: one made-up vector that stays closed',
  fits: (trial) => trial.header.challenge === 'beacon',
  async forge(trial, random) {
    const { tokens, cells } = await trial.honest()
    const before = await trial.honestProof()
    const seen = new Set([bindingId(before.header, before.root)])
    for (let i = 0; i < ROOTS; i++) {
      const at = random.below(cells.length)
      const made = cells.map((cell, index) => (index === at ? madeUp(trial, cell, random) : cell))
      const commitment = await commitCells(trial.header, { tokens, cells: made })
      if (indicesOf(trial.header, commitment.plan(trial.beacon)).includes(at)) continue
      return { proof: commitment.open(trial.beacon), demands: { seen } }
    }
    return null
  },
}
