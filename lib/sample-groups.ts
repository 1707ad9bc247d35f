// Samples as a proof's bytes have them: one group for each layer, its K rows and its V rows in one piece each.
import { wrongValue } from './errors'
import { fromLe32, le32 } from './hash'
import type { KvSample } from './kv'
import { MAX_SAMPLES } from './limits'

interface Group {
  layer: number
  positions: Uint8Array
  k: Uint8Array
  v: Uint8Array
}

/** Well-formed samples, in order, as groups. */
export function groupsOf(samples: readonly KvSample[]): Group[] {
  const groups: Group[] = []
  for (let start = 0, end = 0; start < samples.length; start = end) {
    const { layer } = samples[start]
    while (end < samples.length && samples[end].layer === layer) end++
    const members = samples.slice(start, end)
    groups.push({
      layer,
      positions: le32(members.map((sample) => sample.position)),
      k: joined(members.map((sample) => sample.k)),
      v: joined(members.map((sample) => sample.v)),
    })
  }
  return groups
}

/**
 * The samples of decoded groups; their rows are views into the groups' bytes. Places and order are not checked.
 *
 * @throws {PocError} PROOF_MALFORMED, PROOF_TOO_LARGE
 */
export function samplesOf(groups: unknown, bytesAt: (layer: number) => { k: number; v: number }): KvSample[] {
  const samples: KvSample[] = []
  if (!Array.isArray(groups)) throw wrongValue('PROOF_MALFORMED', 'proof.samples', 'an array', groups)
  for (const [i, group] of groups.entries()) {
    const where = `proof.samples group ${i}`
    if (!(group instanceof Map)) throw wrongValue('PROOF_MALFORMED', where, 'a map', group)
    const positions = words(group.get('positions'), MAX_SAMPLES, `${where} positions`)
    checkNumSamples(samples.length + positions.length)
    const layer = group.get('layer')
    const size = bytesAt(layer)
    const [k, v] = (['k', 'v'] as const).map((part) => {
      const rows = bytesIn(group.get(part), `${where} ${part}`)
      if (rows.length === positions.length * size[part]) return rows
      const expected = `${positions.length} rows of ${size[part]} bytes`
      throw wrongValue('PROOF_MALFORMED', `${where} ${part}`, expected, rows)
    })
    const row = (rows: Uint8Array, bytes: number, i: number) => rows.subarray(i * bytes, (i + 1) * bytes)
    positions.forEach((position, i) => {
      samples.push({ layer, position, k: row(k, size.k, i), v: row(v, size.v, i) })
    })
  }
  return samples
}

/** Refuses more samples than a proof may have. */
export function checkNumSamples(count: number): void {
  if (count > MAX_SAMPLES) throw wrongValue('PROOF_TOO_LARGE', 'proof.samples', `at most ${MAX_SAMPLES} samples`, count)
}

/** A decoded byte string. */
export function bytesIn(value: unknown, where: string): Uint8Array {
  if (!(value instanceof Uint8Array)) throw wrongValue('PROOF_MALFORMED', where, 'a byte string', value)
  return value
}

/** A decoded byte string of at most `max` little-endian 32-bit words. */
export function words(value: unknown, max: number, where: string): Uint32Array {
  const bytes = bytesIn(value, where)
  if (bytes.length % 4 === 0 && bytes.length <= 4 * max) return fromLe32(bytes)
  throw wrongValue('PROOF_MALFORMED', where, `at most ${max} words of 4 bytes`, bytes)
}

function joined(rows: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(rows.reduce((total, row) => total + row.length, 0))
  let offset = 0
  for (const row of rows) {
    bytes.set(row, offset)
    offset += row.length
  }
  return bytes
}
