// Everything that a run computed, one cell for each layer and position, and the proofs that cells of any origin give:
// a forger fills in what it likes and then keeps to the protocol.
import { addon } from '../addon'
import { bindingDigest, contextChain, type ProofHeader } from '../binding'
import { drawChallenge, leafDigest, leafIndex, rootOf } from '../challenge'
import { inForm } from '../form'
import { DIGEST_BYTES } from '../hash'
import { hexFrom } from '../hex'
import { type KvDtype, type KvSample, samplesOf } from '../kv'
import { type MerkleTree, merkleTree } from '../merkle'
import type { Model } from '../model'
import { openPass } from '../pass'
import { createPlan, type Plan } from '../plan'
import type { Proof } from '../proof'
import { proofOf } from '../prove'

/** Vectors in the order of the leaves: position by position, layers ascending, the virtual layer last. */
export type Cells = readonly KvSample[]

/** Tokens, and the cells that are claimed for them. */
export interface Computed {
  /** Prompt, then generated tokens. */
  tokens: Uint32Array
  cells: Cells
}

/** Computes every cell of a token sequence by one prefill. */
export async function computeCells(
  model: Model,
  tokens: Uint32Array,
  kvDtype: KvDtype,
  signal?: AbortSignal,
): Promise<KvSample[]> {
  const { numLayers } = model.config
  const numPositions = tokens.length - 1
  const positions = Uint32Array.from({ length: numPositions }, (_, i) => i)
  const layers = new Map(Array.from({ length: numLayers + 1 }, (_, layer) => [layer, positions]))
  const numSamples = numPositions * layers.size
  const plan = { numPositions, layers, deepestLayer: numLayers, contextDigest: new Uint8Array(0), numSamples }
  const pass = openPass(model, [{ tokens, plan, parent: null, shared: 0 }], { kvDtype, signal })
  const cells = new Array<KvSample>(numSamples)
  for await (const [layer] of pass.layers()) {
    for (const cell of samplesOf(layer)) cells[leafIndex(model.config, cell.layer, cell.position)] = cell
  }
  return cells
}

/** The cells of a plan, in its order. */
export function cellsOfPlan(header: ProofHeader, plan: Plan, cells: Cells): KvSample[] {
  return [...plan.layers].flatMap(([layer, positions]) => {
    return Array.from(positions, (position) => cells[leafIndex(header, layer, position)])
  })
}

/** A commitment whose cells and header are a forger's. */
export interface ForgedCommitment {
  readonly root: string
  readonly tree: MerkleTree
  plan(beacon: string): Plan
  open(beacon: string): Proof
}

/** Commits as an honest generator would, to anything. */
export async function commitCells(header: ProofHeader, { tokens, cells }: Computed): Promise<ForgedCommitment> {
  const leaves = new Uint8Array(cells.length * DIGEST_BYTES)
  for (const [i, cell] of cells.entries()) leaves.set(digestOf(cell), i * DIGEST_BYTES)
  const tree = merkleTree(leaves, await addon().merkleTree(leaves))
  const chain = contextChain(bindingDigest(header))
  let context: Uint8Array = new Uint8Array(0)
  for (const token of tokens) context = chain.push(token)
  const unrooted = { header, tokens, contextDigest: hexFrom(context) }
  const claim = { ...unrooted, root: rootOf(unrooted, tree.head) }
  return {
    root: claim.root,
    tree,
    plan: (beacon) => drawChallenge(claim, beacon).plan,
    open(beacon) {
      const { plan, seed } = drawChallenge(claim, beacon)
      const samples = cellsOfPlan(header, plan, cells)
      const indices = samples.map(({ layer, position }) => leafIndex(header, layer, position))
      const path = tree.path(indices.sort((a, b) => a - b))
      return { ...claim, ...inForm(header, seed, samples), beacon, path }
    },
  }
}

/** The proof that a header's protocol asks for. `beacon`: '' where positions come from the context. */
export async function proofFromCells(header: ProofHeader, computed: Computed, beacon: string): Promise<Proof> {
  if (header.challenge === 'beacon') return (await commitCells(header, computed)).open(beacon)
  const plan = createPlan(header, computed.tokens)
  return proofOf(header, computed.tokens, plan, cellsOfPlan(header, plan, computed.cells))
}

export function sameCell(a: KvSample, b: KvSample): boolean {
  return a === b || (Buffer.compare(a.k, b.k) === 0 && Buffer.compare(a.v, b.v) === 0)
}

export function sameTokens(a: Uint32Array, b: Uint32Array): boolean {
  return a.length === b.length && a.every((token, i) => token === b[i])
}

/** Whether two runs claim the same. */
export function sameComputed(a: Computed, b: Computed): boolean {
  return sameTokens(a.tokens, b.tokens) && a.cells.every((cell, i) => sameCell(cell, b.cells[i]))
}

// Forgeries share most cells with the honest run: each is hashed once.
const digests = new WeakMap<KvSample, Uint8Array>()

function digestOf(cell: KvSample): Uint8Array {
  const known = digests.get(cell)
  if (known) return known
  const digest = leafDigest(cell)
  digests.set(cell, digest)
  return digest
}
