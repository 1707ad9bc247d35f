// Commit, then challenge: what a generator publishes before anybody knows the sampled positions, and how a beacon
// that nobody knew then draws them.
import { bindingDigest, type ProofHeader } from './binding'
import { checkClaim } from './claim'
import type { Samplers } from './custom-sampler'
import { wrongValue } from './errors'
import { given, SAMPLE } from './given'
import { le32, taggedHash } from './hash'
import { checkHeader } from './header'
import { bytesOf, hexFrom, hexOf } from './hex'
import type { KvSample } from './kv'
import { MAX_SEED_BYTES } from './limits'
import { headFromPath } from './merkle'
import { layOut, type Plan, planning } from './plan'
import { atOnce, type Turns } from './turns'

/** What a generator publishes when it has generated: 32 bytes that fix every K, V and final hidden state. */
export interface Claim {
  header: ProofHeader
  /** Prompt, then generated tokens. */
  tokens: Uint32Array
  /** Hex of the context digest at the last token. */
  contextDigest: string
  /** Hex of 32 bytes: header, tokens and the tree over all leaves. */
  root: string
}

/** What is asked of a claim. */
export interface Challenge {
  root: string
  beacon: string
  /** 32 bytes, from root and beacon; the samplers' and the depth policy's source. */
  seed: Uint8Array
  plan: Plan
}

/** Leaves of a run: for each position that has KV one a layer, and one for the virtual layer. */
export function numLeaves(header: { numLayers: number }, numTokens: number): number {
  return (numTokens - 1) * (header.numLayers + 1)
}

/** A leaf's place in the tree: positions one after another, as they are generated. */
export function leafIndex(header: { numLayers: number }, layer: number, position: number): number {
  return position * (header.numLayers + 1) + layer
}

/**
 * The digest of one leaf, 32 bytes.
 *
 * @throws {PocError} INVALID_ARGUMENT
 */
export function leafDigest(sample: KvSample): Uint8Array {
  const { layer, position, k, v } = given(SAMPLE, sample, 'sample')
  return taggedHash('leaf', le32([layer, position]), k, v)
}

/** The root of a run, from the head of its tree: 64 hex digits. */
export function rootOf({ header, tokens, contextDigest }: Omit<Claim, 'root'>, head: Uint8Array): string {
  const size = le32([tokens.length - 1, header.numLayers + 1])
  return hexFrom(taggedHash('commitment', bindingDigest(header), bytesOf(contextDigest), size, head))
}

/**
 * Draws what a generator has to open. The beacon must be a value that nobody knew when the root was published: a
 * nonce of the user's, or a public randomness beacon's round that was still to come.
 *
 * @param beacon - Hex, 1 to 64 bytes.
 * @throws {PocError} INVALID_ARGUMENT, PROOF_TOO_LARGE for more than 2^20 samples
 */
export function drawChallenge(claim: Omit<Claim, 'contextDigest'>, beacon: string, samplers: Samplers = {}): Challenge {
  return atOnce(drawing(claim, beacon, samplers))
}

/** {@link drawChallenge} in turns; the claim must stay as it is meanwhile. */
export function* drawing(claim: Omit<Claim, 'contextDigest'>, beacon: string, samplers: Samplers): Turns<Challenge> {
  const header = checkHeader(claim?.header, 'INVALID_ARGUMENT', 'claim.header')
  if (header.challenge !== 'beacon') {
    throw wrongValue('INVALID_ARGUMENT', 'claim.header.challenge', "'beacon'", header.challenge)
  }
  const root = hexOf(claim.root, 32, 32, 'claim.root', 'INVALID_ARGUMENT')
  // As in a verifier's demands, capitals spell the same bytes.
  const lower = typeof beacon === 'string' ? beacon.toLowerCase() : beacon
  const checked = hexOf(lower, 1, MAX_SEED_BYTES, 'beacon', 'INVALID_ARGUMENT')
  const seed = taggedHash('challenge', bytesOf(root), bytesOf(checked))
  return { root, beacon: checked, seed, plan: yield* layOut(header, claim.tokens, samplers, seed) }
}

/** The plan that a proof's own header asks for, and the seed of its challenge. */
export function planOf(proof: Claim & { beacon: string }, samplers: Samplers = {}): PlannedProof {
  return atOnce(planningOf(proof, samplers))
}

export interface PlannedProof {
  plan: Plan
  seed: Uint8Array | null
}

/** {@link planOf} in turns; the proof must stay as it is meanwhile. */
export function* planningOf(proof: Claim & { beacon: string }, samplers: Samplers): Turns<PlannedProof> {
  if (proof.header.challenge === 'beacon') return yield* drawing(proof, proof.beacon, samplers)
  return { plan: yield* planning(proof.header, proof.tokens, samplers), seed: null }
}

/**
 * Whether leaves, by their index, and a path lead to a claim's root.
 *
 * @throws {PocError} INVALID_ARGUMENT
 */
export function opensTo(claim: Claim, leaves: ReadonlyMap<number, Uint8Array>, path: Uint8Array): boolean {
  checkClaim(claim, 'INVALID_ARGUMENT')
  const head = headFromPath(leaves, numLeaves(claim.header, claim.tokens.length), path)
  return head !== null && rootOf(claim, head) === claim.root
}

/** The leaves of samples that hold whole rows, by their index in the tree. */
export function leavesOf(header: ProofHeader, samples: readonly KvSample[]): Map<number, Uint8Array> {
  const byIndex = samples.map((sample) => {
    return [leafIndex(header, sample.layer, sample.position), leafDigest(sample)] as const
  })
  return new Map(byIndex.sort(([a], [b]) => a - b))
}
