// Token replay: the sampler, with its seed, must choose from recomputed logits the tokens that a proof claims. It is
// what catches tokens of a cheap model under vectors of the real one, and wrong sampling parameters.
import type { ProofHeader } from './binding'
import { parseDepth } from './depth'
import { wrongValue } from './errors'
import { contextHash, taggedHash } from './hash'
import { bytesOf, hexOf } from './hex'
import { MAX_SEED_BYTES } from './limits'
import { REPLAY_VALUES } from './native'
import type { Pass } from './pass'
import type { Proof } from './proof'
import { nativeSampling } from './sequence'
import type { ToleranceProfile } from './tolerance'
import { bernoulli } from './token-sampler'
import { atOnce, POSITIONS_A_TURN, type Turns } from './turns'
import type { Reason, TokenReplay } from './verdict'

/** Which tokens a verifier replays. */
export interface ReplayDemands {
  /**
   * Which generated tokens the sampler must choose again: `all`, `none`, or a random share such as `1/8`. Default:
   * all; none where the proof's depth policy drew a depth that stops before the logits, or the proof does not state
   * its sampler. Asked for by name, what cannot be replayed makes the verdict `inconclusive` (`not_replayable`).
   */
  replay?: string
  /** Draws a share, hex; needed where the proof has no beacon. The generator must not know it. */
  replaySeed?: string
  /**
   * Where the sampler cannot choose again, since a proof does not state it or is another engine's: reject the proof
   * when the model gives its tokens a probability too low for any sampling at temperature 1 or below (top-k and top-p
   * included). An honest proof is rejected with probability 10^-6 at most, unless somebody chose the `replaySeed` by
   * its tokens. Default: false: they are not looked at.
   */
  probabilityTest?: boolean
}

/** What replay needs to know of a proof. */
export type Replayable = Pick<Proof, 'header' | 'tokens'>

/** The largest score gap that counts: scores of tokens that topK and topP leave out are infinitely far away. */
export const MAX_GAP = 1e6

/**
 * Tokens of a greater surprise are too improbable: ln(10^6). The surprise of a token is -ln p / 2 - ln(sum of sqrt(p));
 * over tokens drawn from p one after another, exp of the sum is a martingale of mean 1 (drawn from what prefers likely
 * tokens, a supermartingale), so that it exceeds 10^6 with probability 10^-6 at most, for any number of tokens (Ville's
 * inequality).
 */
export const MAX_SURPRISE = 13.815510557964274

/**
 * The positions after which the sampler is to choose again, ascending; null for none.
 *
 * @param seed - Of the proof's challenge, if it has one.
 * @throws {PocError} INVALID_ARGUMENT
 */
export function replayPositions(
  proof: Replayable,
  seed: Uint8Array | null,
  demands: ReplayDemands,
): Uint32Array | null {
  return atOnce(drawingReplay(proof, seed, demands))
}

/** {@link replayPositions} in turns. */
export function* drawingReplay(
  proof: Replayable,
  seed: Uint8Array | null,
  demands: ReplayDemands,
): Turns<Uint32Array | null> {
  const { header, tokens } = proof
  const { replay, probabilityTest = false } = demands
  const sampler = replay === undefined || replay === 'none' ? null : shareOf(replay, demands, seed)
  const first = header.promptLength - 1 // chooses the first generated token
  const last = tokens.length - 2
  const isKnown = header.sampling !== null || probabilityTest
  if (replay === 'none' || !isKnown || first > last) return null
  if (replay === undefined && stopsEarly(header, seed)) return null
  const drawn = new Uint32Array(last - first + 1)
  let count = 0
  for (let position = first; position <= last; position++) {
    if (position % POSITIONS_A_TURN === POSITIONS_A_TURN - 1) yield
    if (!sampler || sampler(position)) drawn[count++] = position
  }
  return count > 0 ? drawn.slice(0, count) : null
}

// A depth policy saves work only if nothing else asks for the layers below the drawn depth.
function stopsEarly(header: ProofHeader, seed: Uint8Array | null): boolean {
  const depth = parseDepth(header.depth)
  return depth.isRandom && depth.deepest(seed, header.numLayers) < header.numLayers
}

function shareOf(replay: string, { replaySeed }: ReplayDemands, seed: Uint8Array | null) {
  if (replay === 'all') return null
  const sampler = typeof replay === 'string' ? bernoulli(replay) : null
  if (!sampler) throw wrongValue('INVALID_ARGUMENT', 'options.replay', "'all', 'none' or a share such as '1/8'", replay)
  if (replaySeed === undefined && seed === null) {
    throw wrongValue('INVALID_ARGUMENT', 'options.replaySeed', 'hex that the generator does not know', replaySeed)
  }
  const own = replaySeed === undefined ? new Uint8Array(0) : bytesOf(seedOf(replaySeed))
  const source = taggedHash('replay', seed ?? new Uint8Array(32), own)
  const drawn = contextHash('challenge-context')
  return (position: number) => sampler.samples(drawn(source, position), position)
}

function seedOf(replaySeed: string): string {
  return hexOf(replaySeed.toLowerCase(), 1, MAX_SEED_BYTES, 'options.replaySeed', 'INVALID_ARGUMENT')
}

/** The tokens claimed behind positions. */
function claimedTokens({ tokens }: Replayable, positions: Uint32Array): Uint32Array {
  return positions.map((position) => tokens[position + 1])
}

/** What the sampler says behind positions that a pass has just given; see {@link Pass.replay}. */
export async function replayNumbers(
  proof: Replayable,
  positions: Uint32Array,
  { probabilityTest = false }: ReplayDemands,
  pass: Pick<Pass, 'replay'>,
  part: number,
): Promise<Float64Array> {
  const { sampling } = proof.header
  const chooser = sampling && nativeSampling(sampling)
  return await pass.replay(part, positions, claimedTokens(proof, positions), chooser, probabilityTest)
}

/**
 * What a replay's numbers say.
 *
 * @param numbers - As {@link Pass.replay} gives them.
 */
export function outcomeOfReplay(proof: Replayable, positions: Uint32Array, numbers: Float64Array): TokenReplay {
  const count = positions.length * REPLAY_VALUES
  if (numbers.length !== count) throw wrongValue('INVALID_ARGUMENT', 'numbers', `${count} numbers`, numbers)
  const claimed = claimedTokens(proof, positions)
  const isKnown = proof.header.sampling !== null
  let first: TokenReplay['first'] = null
  let mismatched = 0
  let gaps = 0
  let surprise = 0
  for (const [i, position] of positions.entries()) {
    const [chosen, gap, ofToken] = numbers.subarray(i * REPLAY_VALUES, (i + 1) * REPLAY_VALUES)
    gaps += Math.min(gap, MAX_GAP)
    surprise += Math.min(ofToken, MAX_GAP)
    if (!isKnown || chosen === claimed[i]) continue
    mismatched++
    first ??= { position: position + 1, claimed: claimed[i], chosen }
  }
  return {
    positions: positions.length,
    mismatched,
    first,
    meanScoreGap: isKnown ? gaps / positions.length : null,
    surprise: Number.isNaN(surprise) ? null : surprise,
  }
}

/**
 * Whether the tokens of a header can be replayed: in bit-equal numerics wherever the sampler is stated; in others
 * where they are chosen greedily and the profile says how far the greatest logit may be from that of the chosen token.
 */
export function canReplay({ sampling, numerics }: ProofHeader, profile: ToleranceProfile | undefined): boolean {
  if (sampling === null || numerics === EXACT) return sampling !== null
  return sampling.temperature === 0 && (profile?.tokenGap ?? null) !== null
}

/**
 * Why a replay that was asked for by name cannot be, or null: such a proof must not pass for one whose tokens were
 * looked at.
 */
export function unreplayable(
  { header, tokens }: Replayable,
  { replay, probabilityTest }: ReplayDemands,
  profile?: ToleranceProfile,
): string | null {
  const isAsked = replay !== undefined && replay !== 'none' && tokens.length > header.promptLength
  if (!isAsked || probabilityTest || canReplay(header, profile)) return null
  if (header.sampling === null) return 'the proof does not state how its tokens were chosen'
  const { temperature } = header.sampling
  return `nothing says how near tokens of ${header.numerics} must be, chosen at temperature ${temperature}`
}

/** A proof as it is replayed: where its sampler cannot choose again, without it, so that only its tokens are tested. */
export function replayable({ header, tokens }: Replayable, profile: ToleranceProfile | undefined): Replayable {
  return { tokens, header: canReplay(header, profile) ? header : { ...header, sampling: null } }
}

/** The numerics whose bits are the same everywhere. */
export const EXACT = 'ieee32'

/**
 * Why a replay speaks against a proof, or null.
 *
 * @param maxMeanGap - The profile's; null in bit-equal numerics, where any other token is one too many.
 */
export function replayFault(replay: TokenReplay, isKnown: boolean, maxMeanGap: number | null = null): Reason | null {
  const { mismatched, positions, first, surprise, meanScoreGap } = replay
  const isNear = maxMeanGap !== null && meanScoreGap !== null && meanScoreGap <= maxMeanGap
  if (mismatched > 0 && first && !isNear) {
    const { position, claimed, chosen } = first
    const where = `at position ${position} it chooses ${chosen}, not ${claimed}`
    return {
      code: 'token_mismatch',
      message: `the sampler chooses other tokens, ${mismatched} of ${positions}: ${where}`,
    }
  }
  if (isKnown || surprise === null || surprise <= MAX_SURPRISE) return null
  const nats = `${surprise.toFixed(1)} nats, over ${MAX_SURPRISE.toFixed(1)}`
  return { code: 'improbable_tokens', message: `the model finds the tokens too improbable: ${nats}` }
}
