// Proofs that carry sketches: of vectors that are not the model's, or changed in themselves. Sketches go with positions
// from the context, so a trial's run is proven once more that way.
import type { KvSample } from '../kv'
import { createPlan } from '../plan'
import type { Proof } from '../proof'
import { sketchSample } from '../sketch'
import type { Attack } from './attack'
import { cellsOfPlan, sameCell, sameTokens } from './cells'
import { claimOpened } from './claim'
import { MODEL_ATTACKS } from './of-models'
import { FILL_ATTACKS } from './of-vectors'
import type { Random } from './random'
import type { Trial } from './trial'
import type { Policy } from './user-request'

const SKETCHES: Policy = { name: 'sketches', challenge: 'context', depth: 'full', replay: 'all', form: 'sketch' }

/** An attack on a proof of sketches. Where all sketches come out as the honest ones, it is the honest proof. */
const sketched = (name: string, reference: string, about: string, forge: Attack['forge']): Attack => ({
  name: `sketch-${name}`,
  reference,
  about,
  async forge(trial, random) {
    const ours = trial.under(SKETCHES)
    const forgery = await forge(ours, random)
    if (!forgery || isSame(forgery.proof as Proof, await ours.honestProof())) return null
    return { proof: forgery.proof, demands: ours.demands() }
  },
})

function isSame({ tokens, samples }: Proof, honest: Proof): boolean {
  if (!sameTokens(tokens, honest.tokens) || samples.length !== honest.samples.length) return false
  return samples.every((sample, i) => sameCell(sample, honest.samples[i]))
}

/** One sketch of the honest proof, changed. */
const changed = (name: string, about: string, change: (sketch: DataView, random: Random) => void): Attack =>
  sketched(name, 'A8', `one sketch: ${about}`, async (trial, random) => {
    const proof = await trial.honestProof()
    const at = random.below(proof.samples.length)
    const part = proof.samples[at].v.length > 0 && random.chance(0.5) ? 'v' : 'k'
    const bytes = new Uint8Array(proof.samples[at][part])
    change(new DataView(bytes.buffer), random)
    return { proof: { ...proof, samples: proof.samples.map((one, i) => (i === at ? { ...one, [part]: bytes } : one)) } }
  })

const EXPONENT_BYTES = 2

/** Rewrites the sums, which follow the exponent. */
function mapSums(sketch: DataView, change: (sum: number, index: number, sums: readonly number[]) => number): void {
  const count = (sketch.byteLength - EXPONENT_BYTES) / 2
  const sums = Array.from({ length: count }, (_, i) => sketch.getInt16(EXPONENT_BYTES + 2 * i, true))
  for (const [i, sum] of sums.map(change).entries()) sketch.setInt16(EXPONENT_BYTES + 2 * i, sum, true)
}

/** One of the upper bits of a value's mantissa, or the lowest of its exponent: the value stays finite. */
function withFlippedBit(trial: Trial, cell: KvSample, random: Random): KvSample {
  const part = cell.v.length > 0 && random.chance(0.5) ? 'v' : 'k'
  const size = cell.v.length === 0 || trial.header.kvDtype === 'f32' ? 4 : 2
  const bytes = new Uint8Array(cell[part])
  bytes[random.below(bytes.length / size) * size + size - 2] ^= 1 << random.below(8)
  return { ...cell, [part]: bytes }
}

/** Right vectors under signs that were drawn by another challenge. */
async function ofAnotherChallenge(trial: Trial, random: Random) {
  const proof = await trial.honestProof()
  const { header } = trial
  const seed = random.bytes(32)
  const cells = cellsOfPlan(header, createPlan(header, proof.tokens), (await trial.honest()).cells)
  return { proof: { ...proof, samples: cells.map((cell) => sketchSample(header, seed, cell)) } }
}

/** Two sketches of vectors of one kind in each other's places. */
async function exchanged(trial: Trial, random: Random) {
  const proof = await trial.honestProof()
  const { samples } = proof
  const at = random.below(samples.length)
  const others = samples.flatMap(({ v }, i) => (i !== at && v.length === samples[at].v.length ? [i] : []))
  if (others.length === 0) return null
  const other = random.of(others)
  const swapped = new Map([
    [at, samples[other]],
    [other, samples[at]],
  ])
  const moved = samples.map((sample, i) => ({
    ...sample,
    k: (swapped.get(i) ?? sample).k,
    v: (swapped.get(i) ?? sample).v,
  }))
  return { proof: { ...proof, samples: moved } }
}

const FILLED = FILL_ATTACKS.filter(({ name }) => name.startsWith('one-'))
const CHEAP = MODEL_ATTACKS.filter(({ name }) => name === 'model-int8')

export const SKETCH_ATTACKS: readonly Attack[] = [
  ...CHEAP.map(({ name, reference, about, forge }) => sketched(name, reference, `${about}, sketched`, forge)),
  ...FILLED.map(({ name, reference, about, forge }) => {
    return sketched(name.slice('one-'.length), reference, `${about}, sketched`, forge)
  }),
  sketched('bit', 'A7b', 'one of the upper bits of one opened value, sketched', (trial, random) => {
    return claimOpened(trial, random, (cell) => withFlippedBit(trial, cell, random))
  }),
  changed('unit', 'one sum is a unit off', (sketch, random) => {
    const at = random.below((sketch.byteLength - EXPONENT_BYTES) / 2)
    mapSums(sketch, (sum, i) => (i === at ? sum - (Math.sign(sum) || 1) : sum))
  }),
  changed('exponent', 'the exponent is one off', (sketch, random) => {
    sketch.setInt16(0, sketch.getInt16(0, true) + (random.chance(0.5) ? 1 : -1), true)
  }),
  changed('negated', 'every sum negated', (sketch) => mapSums(sketch, (sum) => -sum)),
  changed('rotated', 'each sum in the place of the one before', (sketch) => {
    mapSums(sketch, (_, i, sums) => sums[(i + 1) % sums.length])
  }),
  sketched('exchanged', 'A8', "two sketches in each other's places", exchanged),
  sketched('other-challenge', 'A5', 'the right vectors, sketched for another challenge', ofAnotherChallenge),
]
