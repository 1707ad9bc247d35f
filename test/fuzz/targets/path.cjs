'use strict'
// Paths in a commitment's tree: of any leaves, to any number of them, with any nodes; against the tree of RFC 6962,
// section 2.1, written down once more.
const { createHash } = require('node:crypto')
const { dist, fuzzTarget, must } = require('../target.cjs')
const { Choices } = require('../edits.cjs')
const { JUDGED } = require('../examples.cjs')

const { leavesOf, opensTo } = dist('challenge')
const { headFromPath, merkleTree, parentOf } = dist('merkle')

const MAX_TREE = 70
const MAX_COUNT = 2 ** 20 * 4097 // the limits of the formats
const committed = JUDGED.map(({ proof }) => proof).filter(({ root, samples }) => root !== '' && samples.length > 0)

const isSame = (a, b) => Buffer.compare(a, b) === 0
const leafOf = (i, salt) => new Uint8Array(createHash('sha256').update(`${i}/${salt}`).digest())

function headOf(leaves) {
  if (leaves.length === 1) return leaves[0]
  const split = 2 ** Math.floor(Math.log2(leaves.length - 1))
  return parentOf(headOf(leaves.slice(0, split)), headOf(leaves.slice(split)))
}

function nodesAbove(leaves) {
  const nodes = []
  for (let level = leaves; level.length > 1; ) {
    const above = []
    for (let i = 0; i < level.length; i += 2)
      above.push(i + 1 < level.length ? parentOf(level[i], level[i + 1]) : level[i])
    nodes.push(...above)
    level = above
  }
  return new Uint8Array(Buffer.concat(nodes))
}

/** Indices of leaves, ascending: at least one. */
function someIndices(choices, numLeaves) {
  const count = 1 + choices.below(Math.min(numLeaves, 40))
  const any = Array.from({ length: count }, () => choices.below(65536) * 65536 + choices.below(65536))
  return [...new Set(any.map((index) => index % numLeaves))].sort((a, b) => a - b)
}

/** A tree's own path opens it; with any other byte, node or leaf it does not. */
function openOwn(choices) {
  const numLeaves = 1 + choices.below(MAX_TREE)
  const leaves = Array.from({ length: numLeaves }, (_, i) => leafOf(i, choices.bytes.length))
  const tree = merkleTree(new Uint8Array(Buffer.concat(leaves)), nodesAbove(leaves))
  must(isSame(tree.head, headOf(leaves)), 'the tree has the shape of RFC 6962')
  const indices = someIndices(choices, numLeaves)
  const path = tree.path(indices)
  const opened = new Map(indices.map((index) => [index, leaves[index]]))
  must(isSame(headFromPath(opened, numLeaves, path), tree.head), 'a tree opens by its own path')
  must(headFromPath(opened, numLeaves, new Uint8Array(path.length + 32)) === null, 'a longer path opens nothing')
  const changed = path.slice()
  if (path.length > 0) {
    must(headFromPath(opened, numLeaves, path.subarray(32)) === null, 'nor does a shorter one')
    changed[choices.below(path.length)] ^= 1 + choices.below(255)
    must(!isSame(headFromPath(opened, numLeaves, changed), tree.head), 'one other byte leads elsewhere')
  }
  opened.set(indices[choices.below(indices.length)], leafOf(-1, ''))
  must(!isSame(headFromPath(opened, numLeaves, path), tree.head), 'another leaf leads elsewhere')
}

/** Any path for any leaves of a tree of any size: it is used up exactly, or leads nowhere. */
function openAny(choices) {
  const numLeaves = 1 + ((choices.below(65536) * 65536 + choices.below(65536)) % MAX_COUNT)
  const opened = new Map(someIndices(choices, numLeaves).map((index) => [index, leafOf(index, 'any')]))
  const path = choices.take(choices.below(2048))
  const head = headFromPath(opened, numLeaves, path)
  must(head === null || (head.length === 32 && path.length % 32 === 0), 'a head has 32 bytes')
}

/** The samples of a committed proof, with a path that is not its own, or a claim that is not. */
function openProof(choices) {
  const proof = choices.pick(committed)
  const leaves = leavesOf(proof.header, proof.samples)
  must(opensTo(proof, leaves, proof.path), 'a proof opens its root')
  const path = proof.path.slice()
  for (const byte of choices.take(32)) path[choices.below(path.length)] ^= byte
  must(opensTo(proof, leaves, path) === isSame(path, proof.path), 'no other path does')
  const other = { ...proof, tokens: proof.tokens.with(choices.below(proof.tokens.length), choices.below(65536)) }
  must(opensTo(other, leaves, proof.path), 'tokens are bound by the context digest')
  const longer = { ...proof, tokens: new Uint32Array(proof.tokens.length + 1 + choices.below(4096)) }
  must(!opensTo(longer, leaves, proof.path), 'the number of tokens is bound')
}

const KINDS = [openOwn, openAny, openProof]

module.exports = fuzzTarget({
  seeds: () =>
    KINDS.flatMap((_, i) => [Uint8Array.of(i), Uint8Array.of(i, 12, 5, 6, 7, 8, 9), new Uint8Array(200).fill(i)]),
  run(bytes) {
    const choices = new Choices(bytes)
    choices.pick(KINDS)(choices)
  },
})
