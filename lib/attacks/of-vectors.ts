// Vectors that nobody computed, under the honest tokens: all of them, or a single one among honest ones.
import { leafIndex } from '../challenge'
import type { KvDtype, KvSample } from '../kv'
import type { Attack } from './attack'
import { type Cells, computeCells } from './cells'
import { type CellChange, claimChanged, claimOf, claimOpened, claimWithChance } from './claim'
import type { Random } from './random'
import type { Trial } from './trial'
import { bytesOfValues, valuesOf } from './values'

/** Both vectors of a cell, made from their values. */
function remade(cell: KvSample, dtype: KvDtype, make: (values: Float32Array) => ArrayLike<number>): KvSample {
  const stored = cell.v.length === 0 ? 'f32' : dtype // a final hidden state is f32
  const vector = (bytes: Uint8Array) => bytesOfValues(make(valuesOf(bytes, stored)), stored)
  return { ...cell, k: vector(cell.k), v: vector(cell.v) }
}

/** Bytes of another cell in this one's place, repeated or cut to its size. */
function inPlaceOf(cell: KvSample, other: KvSample): KvSample {
  const fitted = (bytes: Uint8Array, size: number) =>
    Uint8Array.from({ length: size }, (_, i) => bytes[i % bytes.length])
  return { ...cell, k: fitted(other.k, cell.k.length), v: fitted(other.v, cell.v.length) }
}

type Fill = (trial: Trial, random: Random) => Promise<CellChange> | CellChange

const FILLS: Record<string, { about: string; fill: Fill }> = {
  zeros: {
    about: 'zeros',
    fill:
      ({ header }) =>
      (cell) =>
        remade(cell, header.kvDtype, (values) => values.fill(0)),
  },
  ones: {
    about: 'ones',
    fill:
      ({ header }) =>
      (cell) =>
        remade(cell, header.kvDtype, (values) => values.fill(1)),
  },
  noise: {
    about: 'numbers at random',
    fill:
      ({ header }, random) =>
      (cell) =>
        remade(cell, header.kvDtype, (values) => noise(values.length, random)),
  },
  mean: { about: "the mean of the layer's vectors", fill: ({ header }) => meanOf(header.numLayers, header.kvDtype) },
  previous: {
    about: 'those of the position before (or after the first)',
    fill:
      ({ header }) =>
      (cell, _, cells) => {
        const at = leafIndex(header, cell.layer, cell.position === 0 ? 1 : cell.position - 1)
        return inPlaceOf(cell, cells[at] ?? cell)
      },
  },
  below: {
    about: 'those of the layer below',
    fill: () => (cell, index, cells) => inPlaceOf(cell, cells[cell.layer === 0 ? index + 1 : index - 1]),
  },
  'other-prompt': {
    about: 'those of other tokens',
    fill: async (trial) => {
      const { cells } = await trial.others()
      return (_, index) => cells[index]
    },
  },
}

export const FILL_ATTACKS: readonly Attack[] = Object.entries(FILLS).flatMap(([name, { about, fill }]): Attack[] => [
  {
    name: `all-${name}`,
    reference: 'A1',
    about: `every vector: ${about}`,
    forge: async (trial, random) => claimChanged(trial, await fill(trial, random)),
  },
  {
    name: `one-${name}`,
    reference: 'A1',
    about: `one opened vector: ${about}`,
    forge: async (trial, random) => claimOpened(trial, random, await fill(trial, random)),
  },
])

const flipped = (part: 'k' | 'v' | 'hidden'): Attack => ({
  name: `bit-${part}`,
  reference: 'A7b',
  about: `one bit of one opened ${part === 'hidden' ? 'final hidden state' : part.toUpperCase()}`,
  fits: ({ header }) => (part === 'hidden' ? header.depth !== 'kv' : header.numLayers > 1),
  forge: async (trial, random) => {
    const isWanted = (cell: KvSample) => (cell.layer === trial.header.numLayers) === (part === 'hidden')
    return claimOpened(trial, random, (cell) => withFlippedBit(cell, part === 'v' ? 'v' : 'k', random), isWanted)
  },
})

export const VECTOR_ATTACKS: readonly Attack[] = [
  ...FILL_ATTACKS,
  flipped('k'),
  flipped('v'),
  flipped('hidden'),
  {
    name: 'kv-int8',
    reference: 'A7b',
    about: 'K, V and final hidden states went through int8, one scale a vector',
    forge: (trial) => claimChanged(trial, (cell) => remade(cell, trial.header.kvDtype, int8)),
  },
  {
    name: 'kv-f16',
    reference: 'A7b',
    about: 'a cache of f16 where f32 is stated',
    fits: ({ header }) => header.kvDtype === 'f32',
    async forge(trial) {
      const tokens = await trial.continued(trial.real, trial.asked.prompt, { kvDtype: 'f16' })
      const cells = await computeCells(trial.real, tokens, 'f16', trial.signal)
      return await claimOf(trial, { tokens, cells: cells.map(widened) })
    },
  },
]

/** Honest vectors in most places: found where a challenge looks at the others. */
export const SPARSE_ATTACKS: readonly Attack[] = [
  sparse('sparse-half', 'half of the vectors are made up', (random) => () => random.chance(0.5)),
  sparse('sparse-tenth', 'a tenth of the vectors is made up', (random) => () => random.chance(0.1)),
  sparse('sparse-one', 'a single vector is made up', (random, { length }) => {
    const one = random.below(length)
    return (index) => index === one
  }),
]

function sparse(
  name: string,
  about: string,
  choose: (random: Random, cells: Cells) => (index: number) => boolean,
): Attack {
  return {
    name,
    reference: 'A13',
    about,
    async forge(trial, random) {
      const { tokens, cells } = await trial.honest()
      const isFalse = choose(random, cells)
      const made = cells.map((cell, i) => (isFalse(i) ? madeUp(trial, cell, random) : cell))
      return await claimWithChance(trial, { tokens, cells: made }, random)
    },
  }
}

/** Numbers at random in a cell's place. */
export function madeUp({ header }: Trial, cell: KvSample, random: Random): KvSample {
  return remade(cell, header.kvDtype, (values) => noise(values.length, random))
}

function noise(count: number, random: Random): ArrayLike<number> {
  return Array.from(random.bytes(count), (byte) => (byte - 127.5) / 64)
}

function meanOf(numLayers: number, dtype: KvDtype): CellChange {
  const means = new Map<number, KvSample>()
  const computed = (cell: KvSample, cells: Cells): KvSample => {
    const layer = cells.filter((other) => other.layer === cell.layer)
    const stored = cell.layer === numLayers ? 'f32' : dtype
    const mean = (part: 'k' | 'v') => {
      const rows = layer.map((other) => valuesOf(other[part], stored))
      return bytesOfValues(
        rows[0].map((_, i) => rows.reduce((sum, row) => sum + row[i], 0) / rows.length),
        stored,
      )
    }
    return { ...cell, k: mean('k'), v: mean('v') }
  }
  return (cell, _, cells) => {
    const known = means.get(cell.layer) ?? computed(cell, cells)
    means.set(cell.layer, known)
    return { ...cell, k: known.k, v: known.v }
  }
}

function int8(values: Float32Array): ArrayLike<number> {
  const scale = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0) / 127 || 1
  return values.map((value) => Math.round(value / scale) * scale)
}

/** A cell stored in f16 as one in f32. */
function widened(cell: KvSample): KvSample {
  if (cell.v.length === 0) return cell
  const wide = (bytes: Uint8Array) => bytesOfValues(valuesOf(bytes, 'f16'), 'f32')
  return { ...cell, k: wide(cell.k), v: wide(cell.v) }
}

function withFlippedBit(cell: KvSample, part: 'k' | 'v', random: Random): KvSample {
  const bytes = new Uint8Array(cell[part])
  bytes[random.below(bytes.length)] ^= 1 << random.below(8)
  return { ...cell, [part]: bytes }
}
