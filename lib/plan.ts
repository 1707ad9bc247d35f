// The plan: which (layer, position) pairs a proof must hold, as everyone derives it from header and tokens.
import { bindingDigest, contextChain, type ProofHeader } from './binding'
import { resolveLayerSampler, resolveTokenSampler, type Samplers } from './custom-sampler'
import { parseDepth } from './depth'
import { PocError, wrongValue } from './errors'
import { contextHash } from './hash'
import { checkHeader, fieldsOf } from './header'
import { integerIn, MAX_SAMPLES, MAX_TOKENS, MIN_TOKENS } from './limits'
import { atOnce, POSITIONS_A_TURN, type Turns } from './turns'

/** Which K and V vectors a proof holds. */
export interface Plan {
  /** Positions that have KV: `tokens.length - 1`, since the last token is never fed back. */
  readonly numPositions: number
  /** Ascending layers, each with its strictly increasing positions. */
  readonly layers: ReadonlyMap<number, Uint32Array>
  /** The last layer of `layers`; nothing deeper is computed. `numLayers` is the virtual layer: final hidden states. */
  readonly deepestLayer: number
  /** Digest of binding and all tokens, 32 bytes. */
  readonly contextDigest: Uint8Array
  /** (layer, position) pairs. */
  readonly numSamples: number
}

/** In place of the plan of a proof that nobody can plan. */
export const NO_PLAN: Plan = Object.freeze({
  numPositions: 0,
  layers: new Map(),
  deepestLayer: 0,
  contextDigest: new Uint8Array(0),
  numSamples: 0,
})

/**
 * The plan of a proof whose positions come from its tokens: the samplers are evaluated at every position that has KV.
 *
 * The last of these positions is always in the plan, so that the samples depend on every token but the last one;
 * that one is bound by the context digest alone.
 * @param tokens - Token ids, prompt then generated, 2 to 2^20 of them.
 * @param samplers - Needed only for custom samplers; the names must be those of the header.
 * @throws {PocError} INVALID_ARGUMENT, or PROOF_TOO_LARGE for more than 2^20 samples
 * @see Proof of Cache, section 3.2, "Token-based KV Cache Sampling".
 */
export function createPlan(header: ProofHeader, tokens: ArrayLike<number>, samplers: Samplers = {}): Plan {
  return atOnce(planning(header, tokens, samplers))
}

/** {@link createPlan} in turns; the tokens must stay as they are meanwhile. */
export function* planning(header: ProofHeader, tokens: ArrayLike<number>, samplers: Samplers): Turns<Plan> {
  const checked = checkHeader(header, 'INVALID_ARGUMENT')
  if (checked.challenge === 'context') return yield* layOut(checked, tokens, samplers, null)
  throw wrongValue('INVALID_ARGUMENT', 'header.challenge', "'context'; drawChallenge() draws the other", 'beacon')
}

/** A plan by a checked header: samplers see the tokens' context, or what a challenge's seed gives for each position. */
export function* layOut(
  header: ProofHeader,
  tokens: ArrayLike<number>,
  samplers: Samplers,
  seed: Uint8Array | null,
): Turns<Plan> {
  fieldsOf(samplers, 'samplers', 'INVALID_ARGUMENT')
  const numTokens = checkTokens(tokens, header.promptLength)
  const tokenSampler = resolveTokenSampler(header.tokenSampler, samplers.tokenSampler)
  const layerSampler = resolveLayerSampler(header.layerSampler, samplers.layerSampler)
  const depth = parseDepth(header.depth).deepest(seed, header.numLayers) + 1
  const drawn = contextHash('challenge-context')
  const chain = contextChain(bindingDigest(header))
  const last = numTokens - 2
  const positionsOf = new Map<number, number[]>()
  let numSamples = 0
  for (let position = 0; position <= last; position++) {
    if (position % POSITIONS_A_TURN === POSITIONS_A_TURN - 1) yield
    const ofToken = chain.push(tokens[position])
    const context = seed ? drawn(seed, position) : ofToken
    if (!tokenSampler.samples(context, position) && position !== last) continue
    const layers = layerSampler.layers(context, position, depth)
    numSamples += layers.length
    if (numSamples > MAX_SAMPLES) throw tooManySamples(position)
    addSamples(positionsOf, layers, position)
  }
  const layers = new Map(
    [...positionsOf].sort(([a], [b]) => a - b).map(([layer, positions]) => [layer, Uint32Array.from(positions)]),
  )
  const deepestLayer = Math.max(...layers.keys())
  return { numPositions: last + 1, layers, deepestLayer, contextDigest: chain.push(tokens[last + 1]), numSamples }
}

/** Adds one position to each of its layers. */
export function addSamples(positionsOf: Map<number, number[]>, layers: readonly number[], position: number): void {
  for (const layer of layers) {
    const positions = positionsOf.get(layer)
    if (positions) positions.push(position)
    else positionsOf.set(layer, [position])
  }
}

function checkTokens(tokens: ArrayLike<number>, promptLength: number): number {
  const isList = Array.isArray(tokens) || (ArrayBuffer.isView(tokens) && !(tokens instanceof DataView))
  if (!isList) throw wrongValue('INVALID_ARGUMENT', 'tokens', 'an array or typed array of token ids', tokens)
  const numTokens = integerIn(tokens.length, MIN_TOKENS, MAX_TOKENS, 'tokens.length', 'INVALID_ARGUMENT')
  integerIn(promptLength, 1, numTokens, 'header.promptLength', 'INVALID_ARGUMENT')
  return numTokens
}

function tooManySamples(position: number): PocError {
  const where = `plan at position ${position}`
  const expected = `at most ${MAX_SAMPLES} samples`
  return new PocError('PROOF_TOO_LARGE', `${where}: the samplers pick more than ${MAX_SAMPLES}`, { where, expected })
}
