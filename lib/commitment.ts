// The generator's side of commit, then challenge: a root over everything that a run computed, streamed while it runs,
// and the openings that a challenge asks for.
import { isDeepStrictEqual } from 'node:util'
import { addon } from './addon'
import { checkRun } from './arguments'
import { DEFAULT_CHUNK_SIZE } from './backend'
import { chaining, type ProofHeader } from './binding'
import { type Challenge, type Claim, drawing, leavesOf, rootOf } from './challenge'
import { checkClaim } from './claim'
import type { Samplers } from './custom-sampler'
import { wrongValue } from './errors'
import { inForm } from './form'
import { DIGEST_BYTES } from './hash'
import { checkHeader } from './header'
import { type MerkleTree, merkleTree } from './merkle'
import type { Model } from './model'
import type { Proof } from './proof'
import { checkedTokens, type ProofOptions, type ProveOptions, proofHeader, sampledBy } from './prove'
import { cancelledBy, openSequence, type Sequence } from './sequence'
import { inTurns, type Turns } from './turns'

/** How an opening is computed; nothing of it changes a result. */
export interface OpenOptions extends Samplers {
  chunkSize?: number
  signal?: AbortSignal
  onProgress?: (fraction: number) => void
}

/** A generator's commitment: what it publishes, and what it keeps to answer a challenge. */
export interface Commitment {
  /** To be published before the beacon is known. */
  readonly claim: Claim
  /** Hex of 32 bytes; part of the claim. */
  readonly root: string
  /** Over all leaves: 32 bytes for each position and layer. */
  readonly tree: MerkleTree
  /**
   * The proof that a challenge asks for: one prefill computes the sampled vectors again, in the same bits.
   *
   * @param challenge - The beacon, 1 to 64 bytes as hex, that nobody knew when the root was published; or what
   *   {@link drawChallenge} gave for it, which must have been drawn from this claim.
   * @throws {PocError} INVALID_ARGUMENT, PROOF_TOO_LARGE, and what a prefill throws
   */
  open(challenge: string | Challenge, options?: OpenOptions): Promise<Proof>
}

export interface CommitOptions extends Omit<ProofOptions, keyof Samplers>, Pick<ProveOptions, 'promptLength' | 'stop'> {
  tokenSampler?: ProofOptions['tokenSampler']
  layerSampler?: ProofOptions['layerSampler']
}

/**
 * Commits to every K, V and final hidden state of tokens that already exist, by one prefill.
 *
 * @param tokens - Prompt then output, 2 to 2^20 ids of the vocabulary.
 * @throws {PocError} EMPTY_PROMPT, TOKEN_OUT_OF_RANGE, CONTEXT_OVERFLOW, INVALID_ARGUMENT, OUT_OF_MEMORY,
 *   BACKEND_FAILED, CLOSED; aborted, it rejects with the signal's reason.
 */
export async function commit(model: Model, tokens: ArrayLike<number>, options: CommitOptions): Promise<Commitment> {
  checkRun(model, options)
  const header = proofHeader(model, options.promptLength, { ...options, challenge: 'beacon' })
  return await commitWithHeader(model, header, tokens, options)
}

/** As {@link commit}, for a header that was made elsewhere; it may name another model than the one that runs. */
export async function commitWithHeader(
  model: Model,
  given: ProofHeader,
  tokens: ArrayLike<number>,
  options: Omit<CommitOptions, 'promptLength'> = {},
): Promise<Commitment> {
  checkRun(model, options)
  const header = checkHeader(given, 'INVALID_ARGUMENT')
  const ids = checkedTokens(model, tokens)
  if (ids.length < 2) throw wrongValue('INVALID_ARGUMENT', 'tokens', 'at least 2 token ids', ids)
  const { signal, chunkSize = DEFAULT_CHUNK_SIZE[model.backend] } = options
  signal?.throwIfAborted()
  const sequence = openSequence(model, header, null, ids.length - 1, chunkSize)
  return await cancelledBy(sequence, signal, async () => {
    const leaves = createLeaves(sequence, header)
    for (let start = 0; start < ids.length - 1; start += chunkSize) {
      await leaves.append(ids.subarray(start, Math.min(start + chunkSize, ids.length - 1)))
    }
    return await leaves.finish(model, ids)
  })
}

/**
 * The proof that a challenge asks for, made by whoever has the model and the claim: the claim is committed to again.
 *
 * @param challenge - As for {@link Commitment.open}.
 * @throws {PocError} INVALID_ARGUMENT: among them, a root that is not the one under this model; and as `commit`
 */
export async function openClaim(
  model: Model,
  claim: Claim,
  challenge: string | Challenge,
  options: OpenOptions = {},
): Promise<Proof> {
  const { header, tokens, root } = checkClaim(claim, 'INVALID_ARGUMENT')
  const commitment = await commitWithHeader(model, header, tokens, options)
  if (commitment.root === root) return await commitment.open(challenge, options)
  throw wrongValue('INVALID_ARGUMENT', 'claim.root', `the root under this model, ${commitment.root}`, root)
}

/** Leaf digests of a sequence, collected as it grows. */
export interface Leaves {
  /** Feeds tokens and gives the one chosen after them; -1 where the sequence chooses none. */
  append(tokens: Uint32Array): Promise<number>
  /** @param tokens - All that was fed, and the last token, which never is. */
  finish(model: Model, tokens: Uint32Array): Promise<Commitment>
}

export function createLeaves(sequence: Sequence, header: ProofHeader): Leaves {
  const pieces: Uint8Array[] = []
  return {
    async append(tokens) {
      const piece = new Uint8Array(tokens.length * (header.numLayers + 1) * DIGEST_BYTES)
      const { token } = await sequence.append(tokens, new Map(), piece)
      pieces.push(piece)
      return token
    },
    async finish(model, tokens) {
      const leaves = new Uint8Array(Buffer.concat(pieces))
      const tree = merkleTree(leaves, await addon().merkleTree(leaves))
      const unrooted = { header, tokens, contextDigest: await inTurns(chaining(header, tokens)) }
      return commitmentOf(model, { ...unrooted, root: rootOf(unrooted, tree.head) }, tree)
    },
  }
}

function commitmentOf(model: Model, claim: Claim, tree: MerkleTree): Commitment {
  return {
    claim,
    root: claim.root,
    tree,
    async open(given, options = {}) {
      checkRun(model, options)
      const { header, tokens } = claim
      const challenge = await inTurns(challengeOf(claim, given, options))
      const samples = await sampledBy(model, tokens, challenge.plan, header.kvDtype, options)
      const path = tree.path([...leavesOf(header, samples).keys()])
      return { ...claim, ...inForm(header, challenge.seed, samples), beacon: challenge.beacon, path }
    },
  }
}

/** What a beacon draws from a claim; a challenge that was drawn already must be the same. */
function* challengeOf(claim: Claim, given: string | Challenge, samplers: Samplers): Turns<Challenge> {
  if (typeof given !== 'object' || given === null) return yield* drawing(claim, given, samplers)
  const { root, beacon, plan } = given
  if (root !== claim.root)
    throw wrongValue('INVALID_ARGUMENT', 'challenge.root', `that of the claim, ${claim.root}`, root)
  const drawn = yield* drawing(claim, beacon, samplers)
  if (isDeepStrictEqual(plan, drawn.plan)) return drawn
  throw wrongValue('INVALID_ARGUMENT', 'challenge.plan', 'drawn from header and tokens of the claim', plan)
}
