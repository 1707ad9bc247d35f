// A dispute between two who committed to one run: the first leaf at which they part, found by walking their trees, and
// the op that made it. Source: the interactive dispute of opML (arXiv 2401.17555), over the tree of a commitment.
import { isDeepStrictEqual } from 'node:util'
import { type Claim, rootOf } from './challenge'
import { checkClaim } from './claim'
import { wrongValue } from './errors'
import { givenList, OP_DIGEST } from './given'
import { checkDigest } from './hash'
import { fieldsOf } from './header'
import { hexFrom } from './hex'
import { levelSizes, parentOf } from './merkle'
import type { OpDigest } from './native'

/** One who committed, and answers for nodes of the tree; a {@link Commitment} is one. */
export interface DisputeParty {
  readonly claim: Claim
  readonly tree: {
    head: Uint8Array | Promise<Uint8Array>
    node(level: number, index: number): Uint8Array | Promise<Uint8Array>
  }
}

/** Where two parties part. */
export interface Divergence {
  /** Of the first leaf that differs; `numLayers` is the virtual layer. All leaves that it depends on agree. */
  layer: number
  position: number
  /** Levels that were walked. */
  steps: number
  /** Hex of both parties' leaves. */
  leaves: [string, string]
}

/** A party whose nodes do not hash to what it committed to: nothing more needs to be asked of it. */
export interface Inconsistency {
  /** 0 or 1, in the order of the arguments. */
  inconsistent: 0 | 1
  level: number
  index: number
}

/**
 * Finds the first leaf, position by position and layer by layer, at which two commitments to the same header and
 * tokens differ. Each step asks both parties for two nodes and checks that they hash to the one before, so that
 * neither can change its story. Since a leaf depends only on leaves before it, whoever is wrong there is wrong.
 *
 * @returns null where the roots are equal.
 * @throws {PocError} INVALID_ARGUMENT: among them, claims about different headers or tokens
 */
export async function locateDivergence(a: DisputeParty, b: DisputeParty): Promise<Divergence | Inconsistency | null> {
  for (const [name, party] of Object.entries({ a, b })) checkParty(party, name)
  const subject = ({ claim: { header, tokens, contextDigest } }: DisputeParty) => [header, [...tokens], contextDigest]
  if (!isDeepStrictEqual(subject(a), subject(b))) {
    const expected = `about header and tokens of the other, ${a.claim.contextDigest}`
    throw wrongValue('INVALID_ARGUMENT', 'b.claim', expected, b.claim.contextDigest)
  }
  if (a.claim.root === b.claim.root) return null
  const { header, tokens } = a.claim
  const width = header.numLayers + 1
  const sizes = levelSizes((tokens.length - 1) * width)
  const parties = [a, b]
  let known: Uint8Array[] = []
  for (const [i, party] of parties.entries()) {
    known.push(copied(await party.tree.head, `${'ab'[i]}.tree.head`))
    if (rootOf(party.claim, known[i]) !== party.claim.root) return inconsistency(i, sizes.length - 1, 0)
  }
  let index = 0
  for (let level = sizes.length - 2; level >= 0; level--) {
    const left = 2 * index
    if (left + 1 === sizes[level]) {
      index = left // an odd last node went up as it is
      continue
    }
    const pairs: [Uint8Array, Uint8Array][] = []
    for (const [i, party] of parties.entries()) {
      const given = await Promise.all([party.tree.node(level, left), party.tree.node(level, left + 1)])
      const where = `${'ab'[i]}.tree.node(${level}, ${left})`
      const pair: [Uint8Array, Uint8Array] = [copied(given[0], where), copied(given[1], where)]
      if (Buffer.compare(parentOf(...pair), known[i]) !== 0) return inconsistency(i, level, left)
      pairs.push(pair)
    }
    const side = Buffer.compare(pairs[0][0], pairs[1][0]) !== 0 ? 0 : 1
    known = pairs.map((pair) => pair[side])
    index = left + side
  }
  const leaves: [string, string] = [hexFrom(known[0]), hexFrom(known[1])]
  return { layer: index % width, position: Math.floor(index / width), steps: sizes.length - 1, leaves }
}

/** A node that its party cannot change any more once it was checked. */
function copied(node: Uint8Array, where: string): Uint8Array {
  return new Uint8Array(checkDigest(node, where))
}

function checkParty(party: DisputeParty, name: string): void {
  fieldsOf(party, name, 'INVALID_ARGUMENT')
  checkClaim(party.claim, 'INVALID_ARGUMENT')
  const { node } = fieldsOf(party.tree, `${name}.tree`, 'INVALID_ARGUMENT')
  if (typeof node !== 'function') throw wrongValue('INVALID_ARGUMENT', `${name}.tree.node`, 'a function', node)
}

function inconsistency(party: number, level: number, index: number): Inconsistency {
  return { inconsistent: party as 0 | 1, level, index }
}

/**
 * The first op whose result two parties state differently on the way to a leaf; null where they agree on all.
 *
 * @param a - As {@link Model.traceOps} gives it, for the leaf that {@link locateDivergence} found.
 * @throws {PocError} INVALID_ARGUMENT: among them, traces of different ops
 */
export function firstDifferentOp(a: readonly OpDigest[], b: readonly OpDigest[]): string | null {
  for (const [name, trace] of Object.entries({ a, b })) givenList(OP_DIGEST, trace, name)
  const names = (trace: readonly OpDigest[]) => trace.map(({ op }) => op).join(' ')
  if (names(a) !== names(b)) throw wrongValue('INVALID_ARGUMENT', 'b', `a trace of ${names(a)}`, names(b))
  return a.find(({ digest }, i) => digest !== b[i].digest)?.op ?? null
}
