// Which sequences go into one pass together, and what they share there.
import type { KvDtype } from './kv'

/** What is known of a sequence before it is placed. */
export interface Packable {
  /** Those at positions that are computed. */
  tokens: Uint32Array
  kvDtype: KvDtype
}

/** A sequence's place in a pass. */
export interface Place {
  /** Which of the sequences. */
  index: number
  /** The part of this pass that it begins like, and for how many positions; see PassPart. */
  parent: number | null
  shared: number
}

export interface PackedPass {
  kvDtype: KvDtype
  /** Positions that are computed, shared ones once. */
  numPositions: number
  places: Place[]
}

export interface PackingRules {
  /** Most positions of a pass; a sequence that has more gets a pass of its own. */
  maxPositions: number
  /** Prefixes are shared in whole pages of this many positions. */
  pageSlots(kvDtype: KvDtype): number
}

/** Longest chain of parts that continue one another; native/core/backend.h has the same limit. */
const MAX_CHAIN = 32

/**
 * Sorts sequences so that those that begin alike stand together, and lets each continue the one before it.
 *
 * Equal inputs give equal passes. A sequence stands behind those that go on where it ends, so that it is all shared.
 */
export function pack(sequences: readonly Packable[], { maxPositions, pageSlots }: PackingRules): PackedPass[] {
  const keys = sequences.map(({ tokens }) => Buffer.from(tokens.buffer, tokens.byteOffset, tokens.byteLength))
  const order = [...sequences.keys()].sort((a, b) => {
    if (sequences[a].kvDtype !== sequences[b].kvDtype) return sequences[a].kvDtype < sequences[b].kvDtype ? -1 : 1
    return Buffer.compare(keys[b], keys[a]) || a - b // any order that keeps equal beginnings together will do
  })
  const passes: PackedPass[] = []
  for (const index of order) {
    const { tokens, kvDtype } = sequences[index]
    const pass = passes.at(-1)
    if (pass?.kvDtype === kvDtype) {
      const before = sequences[(pass.places.at(-1) as Place).index].tokens
      const pages = Math.floor(commonLength(before, tokens) / pageSlots(kvDtype))
      const place = { index, ...continued(pass.places, pages * pageSlots(kvDtype)) }
      if (pass.numPositions + tokens.length - place.shared <= maxPositions) {
        pass.places.push(place)
        pass.numPositions += tokens.length - place.shared
        continue
      }
    }
    passes.push({ kvDtype, numPositions: tokens.length, places: [{ index, parent: null, shared: 0 }] })
  }
  return passes
}

/** What continues the last place for `shared` positions: it, or the one whose rows the last of them is among. */
function continued(places: readonly Place[], shared: number): Omit<Place, 'index'> {
  let parent = places.length - 1
  while (shared > 0 && shared <= places[parent].shared) parent = places[parent].parent as number
  let chain = 1
  for (let at = places[parent].parent; at !== null; at = places[at].parent) chain++
  return shared > 0 && chain <= MAX_CHAIN ? { parent, shared } : { parent: null, shared: 0 }
}

function commonLength(a: Uint32Array, b: Uint32Array): number {
  const length = Math.min(a.length, b.length)
  let i = 0
  while (i < length && a[i] === b[i]) i++
  return i
}
