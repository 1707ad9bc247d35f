// The tree of a commitment against RFC 6962's own recursion, the vectors of another program, and every kind of damage.
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join as joinPath } from 'node:path'
import fc from 'fast-check'
import { addon } from '../../lib/addon'
import { headFromPath, levelSizes, type MerkleTree, merkleTree, parentOf } from '../../lib/merkle'
import { bytes, H, hex, join, le32 } from './second-implementation'

const leafAt = (i: number) => H('leaf', le32(i))
const leavesOf = (count: number) => Array.from({ length: count }, (_, i) => leafAt(i))

/** MTH of RFC 6962, section 2.1, with the hashes of this format. */
function headOf(leaves: Uint8Array[]): Uint8Array {
  if (leaves.length === 1) return leaves[0]
  const split = 2 ** Math.floor(Math.log2(leaves.length - 1))
  return H('node', headOf(leaves.slice(0, split)), headOf(leaves.slice(split)))
}

/** Nodes level by level, from the definition of a level alone. */
function nodesOf(leaves: Uint8Array[]): Uint8Array {
  const all: Uint8Array[] = []
  for (let level = leaves; level.length > 1; ) {
    const above: Uint8Array[] = []
    for (let i = 0; i < level.length; i += 2) {
      above.push(i + 1 < level.length ? H('node', level[i], level[i + 1]) : level[i])
    }
    all.push(...above)
    level = above
  }
  return join(...all)
}

function treeOf(count: number): MerkleTree {
  const leaves = leavesOf(count)
  return merkleTree(join(...leaves), nodesOf(leaves))
}

const known = (indices: number[]) => new Map(indices.map((i) => [i, leafAt(i)]))

/** A tree's size and some of its leaves, ascending. */
const anyChoice = fc.integer({ min: 1, max: 300 }).chain((count) =>
  fc.record({
    count: fc.constant(count),
    indices: fc
      .uniqueArray(fc.nat(count - 1), { minLength: 1, maxLength: Math.min(count, 12) })
      .map((some) => some.sort((a, b) => a - b)),
  }),
)

test('the head is that of RFC 6962, for every size up to 70', () => {
  for (let count = 1; count <= 70; count++) expect(treeOf(count).head).toEqual(headOf(leavesOf(count)))
})

test('the nodes of the native addon are these', async () => {
  for (const count of [1, 2, 3, 5, 8, 31, 32, 33, 300]) {
    const leaves = leavesOf(count)
    expect(hex(await addon().merkleTree(join(...leaves)))).toBe(hex(nodesOf(leaves)))
  }
})

test('a path of any leaves leads to the head', () => {
  fc.assert(
    fc.property(anyChoice, ({ count, indices }) => {
      const tree = treeOf(count)
      const path = tree.path(indices)
      const head = headFromPath(known(indices), count, path)
      expect(head).toEqual(tree.head)
      expect(head).toEqual(headOf(leavesOf(count)))
      // One leaf takes no more nodes than there are levels above it; together they take no node twice.
      expect(path.length / 32).toBeLessThanOrEqual(indices.length * (tree.numLevels - 1))
      const nodes = Array.from({ length: path.length / 32 }, (_, i) => hex(path.slice(i * 32, i * 32 + 32)))
      expect(new Set(nodes).size).toBe(nodes.length)
    }),
  )
}, 120_000)

test('all leaves need no path, and one leaf alone is its tree', () => {
  const tree = treeOf(21)
  const all = Array.from({ length: 21 }, (_, i) => i)
  expect(tree.path(all)).toHaveLength(0)
  expect(headFromPath(known(all), 21, new Uint8Array(0))).toEqual(tree.head)
  const one = treeOf(1)
  expect(one).toMatchObject({ numLeaves: 1, numLevels: 1, head: leafAt(0) })
  expect(headFromPath(known([0]), 1, new Uint8Array(0))).toEqual(leafAt(0))
})

describe('what was changed does not lead to the head', () => {
  const damaged = (change: (choice: { count: number; indices: number[] }, seed: number) => Uint8Array | null) => {
    fc.assert(
      fc.property(anyChoice, fc.nat(), (choice, seed) => {
        const head = change(choice, seed)
        if (head !== null) expect(hex(head)).not.toBe(hex(headOf(leavesOf(choice.count))))
      }),
    )
  }
  const flipped = (data: Uint8Array, bit: number) => {
    const copy = data.slice()
    const at = bit % (data.length * 8)
    copy[at >> 3] ^= 1 << (at & 7)
    return copy
  }

  test('any bit of a path', () => {
    damaged(({ count, indices }, seed) => {
      const path = treeOf(count).path(indices)
      fc.pre(path.length > 0)
      return headFromPath(known(indices), count, flipped(path, seed))
    })
  })
  test('every byte of one path', () => {
    const tree = treeOf(13)
    const path = tree.path([2, 9])
    for (let at = 0; at < path.length; at++) {
      expect(headFromPath(known([2, 9]), 13, flipped(path, at * 8 + (at % 8)))).not.toEqual(tree.head)
    }
  })
  test('any bit of a leaf', () => {
    damaged(({ count, indices }, seed) => {
      const leaves = known(indices)
      const at = indices[seed % indices.length]
      leaves.set(at, flipped(leafAt(at), seed))
      return headFromPath(leaves, count, treeOf(count).path(indices))
    })
  })
  test('a leaf at another place', () => {
    damaged(({ count, indices }, seed) => {
      const at = indices[seed % indices.length]
      const other = (at + 1 + (seed % count)) % count
      fc.pre(!indices.includes(other))
      const moved = [...known(indices.filter((i) => i !== at)), [other, leafAt(at)] as const].sort(([a], [b]) => a - b)
      return headFromPath(new Map(moved), count, treeOf(count).path(indices))
    })
  })
  test('two leaves exchanged', () => {
    damaged(({ count, indices }, seed) => {
      fc.pre(indices.length > 1)
      const at = seed % (indices.length - 1)
      const [a, b] = [indices[at], indices[at + 1]]
      const leaves = known(indices)
      leaves.set(a, leafAt(b))
      leaves.set(b, leafAt(a))
      return headFromPath(leaves, count, treeOf(count).path(indices))
    })
  })
  test('a node too few, or too many', () => {
    fc.assert(
      fc.property(anyChoice, ({ count, indices }) => {
        const path = treeOf(count).path(indices)
        const leaves = known(indices)
        expect(headFromPath(leaves, count, join(path, leafAt(0)))).toBeNull()
        expect(headFromPath(leaves, count, join(path, new Uint8Array(1)))).toBeNull()
        if (path.length === 0) return
        expect(headFromPath(leaves, count, path.slice(0, -32))).toBeNull()
        expect(headFromPath(leaves, count, path.slice(0, -1))).toBeNull()
      }),
    )
  })
  test('a leaf left out of the samples', () => {
    damaged(({ count, indices }, seed) => {
      fc.pre(indices.length > 1)
      const fewer = indices.filter((_, i) => i !== seed % indices.length)
      return headFromPath(known(fewer), count, treeOf(count).path(indices))
    })
  })
})

test('nodes that a tree does not have are refused', () => {
  const tree = treeOf(5)
  expect(tree.numLevels).toBe(4)
  expect(levelSizes(5)).toEqual([5, 3, 2, 1])
  expect(tree.node(1, 2)).toEqual(leafAt(4))
  expect(tree.node(1, 0)).toEqual(parentOf(leafAt(0), leafAt(1)))
  for (const [level, index] of [
    [0, 5],
    [0, -1],
    [1, 3],
    [3, 1],
    [4, 0],
    [-1, 0],
    [0, Number.NaN],
  ]) {
    expect(() => tree.node(level, index)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', where: 'node' }))
  }
  expect(() => tree.path([5])).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
})

interface TreeVector {
  numLeaves: number
  indices: number[]
  head: string
  path: string
}
const { trees }: { trees: TreeVector[] } = JSON.parse(
  readFileSync(joinPath(__dirname, '../vectors/claim.json'), 'utf8'),
).vectors

test.each(trees)('vector: $numLeaves leaves, of which $indices', ({ numLeaves, indices, head, path }) => {
  const leaf = (i: number) => new Uint8Array(createHash('sha256').update(le32(i)).digest())
  const leaves = Array.from({ length: numLeaves }, (_, i) => leaf(i))
  const tree = merkleTree(join(...leaves), nodesOf(leaves))
  expect(hex(tree.head)).toBe(head)
  expect(hex(tree.path(indices))).toBe(path)
  expect(headFromPath(new Map(indices.map((i) => [i, leaf(i)])), numLeaves, bytes(path))).toEqual(tree.head)
})
