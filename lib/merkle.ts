// The tree over all leaves of a run: any of them can be shown to belong to its head, with the nodes they share once.
// Its shape is that of RFC 6962 (section 2.1): neighbours are paired, and an odd last node goes up as it is.
import { wrongValue } from './errors'
import { checkDigest, DIGEST_BYTES, taggedHash } from './hash'
import { integerIn, MAX_LAYERS, MAX_TOKENS } from './limits'

/** Most leaves of a run: one a layer, the virtual one too, for each position. */
const MAX_LEAVES = (MAX_TOKENS - 1) * (MAX_LAYERS + 1)

/** All nodes of a tree. Level 0 holds the leaves, each level half as many as the one below, the last one the head. */
export interface MerkleTree {
  readonly numLeaves: number
  /** 32 bytes. */
  readonly head: Uint8Array
  readonly numLevels: number
  /** @throws {PocError} INVALID_ARGUMENT for a node that the tree does not have */
  node(level: number, index: number): Uint8Array
  /**
   * What {@link headFromPath} needs beside these leaves: nodes of 32 bytes, level by level, from left to right.
   *
   * @param indices - Of leaves, strictly increasing, at least one.
   */
  path(indices: readonly number[]): Uint8Array
}

/** The digest of two neighbours. */
export function parentOf(left: Uint8Array, right: Uint8Array): Uint8Array {
  return taggedHash('node', left, right)
}

/** Nodes at each level of a tree of so many leaves, 32 bytes each, the leaves first. */
export function levelSizes(numLeaves: number): number[] {
  const sizes = [numLeaves]
  while (sizes[sizes.length - 1] > 1) sizes.push(Math.ceil(sizes[sizes.length - 1] / 2))
  return sizes
}

/**
 * A tree of leaves and of the nodes above them, as the native addon computes them: level by level, the head last.
 *
 * @param leaves - 32 bytes each, at least one.
 */
export function merkleTree(leaves: Uint8Array, nodes: Uint8Array): MerkleTree {
  const sizes = levelSizes(leaves.length / DIGEST_BYTES)
  const levels = [leaves]
  let start = 0
  for (const size of sizes.slice(1)) {
    levels.push(nodes.subarray(start, start + size * DIGEST_BYTES))
    start += size * DIGEST_BYTES
  }
  const node = (level: number, index: number) => {
    if (!(index >= 0 && index < sizes[level])) {
      throw wrongValue('INVALID_ARGUMENT', 'node', `one of the ${sizes[level] ?? 0} at level ${level}`, index)
    }
    return levels[level].subarray(index * DIGEST_BYTES, (index + 1) * DIGEST_BYTES)
  }
  return {
    numLeaves: sizes[0],
    numLevels: sizes.length,
    head: node(sizes.length - 1, 0),
    node,
    path(indices) {
      const parts: Uint8Array[] = []
      climb(new Map(indices.map((index) => [index, node(0, index)])), sizes[0], (level, index) => {
        parts.push(node(level, index))
        return node(level, index)
      })
      return new Uint8Array(Buffer.concat(parts))
    },
  }
}

/**
 * The head of the tree that has these leaves, by a path.
 *
 * @param leaves - Digests by index, in ascending order, at least one.
 * @returns null for a path that is too short or too long, for leaves that no tree of `numLeaves` has, and for none.
 * @throws {PocError} INVALID_ARGUMENT
 */
export function headFromPath(
  leaves: ReadonlyMap<number, Uint8Array>,
  numLeaves: number,
  path: Uint8Array,
): Uint8Array | null {
  const count = integerIn(numLeaves, 1, MAX_LEAVES, 'numLeaves', 'INVALID_ARGUMENT')
  if (!(leaves instanceof Map)) throw wrongValue('INVALID_ARGUMENT', 'leaves', 'a Map of digests by index', leaves)
  if (!(path instanceof Uint8Array)) throw wrongValue('INVALID_ARGUMENT', 'path', 'a Uint8Array', path)
  let least = 0
  for (const [index, digest] of leaves) {
    if (!(Number.isInteger(index) && index >= least && index < count)) return null
    checkDigest(digest, `leaf ${index}`)
    least = index + 1
  }
  if (least === 0) return null
  let used = 0
  const head = climb(leaves, numLeaves, () => {
    used += DIGEST_BYTES
    return path.subarray(used - DIGEST_BYTES, used)
  })
  return used === path.length ? head : null
}

/** From leaves, ascending, to the head; `sibling` gives each node that they do not lead to. */
function climb(
  leaves: ReadonlyMap<number, Uint8Array>,
  numLeaves: number,
  sibling: (level: number, index: number) => Uint8Array,
): Uint8Array {
  let known = leaves
  for (const [level, size] of levelSizes(numLeaves).slice(0, -1).entries()) {
    const above = new Map<number, Uint8Array>()
    for (const [index, digest] of known) {
      const parent = Math.floor(index / 2)
      if (above.has(parent)) continue // done with its left neighbour
      const isLeft = index % 2 === 0
      const other = isLeft ? index + 1 : index - 1
      if (other === size) above.set(parent, digest)
      else {
        const neighbour = known.get(other) ?? sibling(level, other)
        above.set(parent, isLeft ? parentOf(digest, neighbour) : parentOf(neighbour, digest))
      }
    }
    known = above
  }
  return known.get(0) as Uint8Array
}
