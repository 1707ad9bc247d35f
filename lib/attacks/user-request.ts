// What the user of one trial asks for: everything that a proof can vary in is drawn.
import type { ProofHeader } from '../binding'
import { hexFrom } from '../hex'
import { generate } from '../generate'
import type { Model } from '../model'
import { proofHeader } from '../prove'
import { lengthUpTo, type Random } from './random'

/** How proofs are asked for, and what a verifier looks at. */
export interface Policy {
  name: string
  challenge: ProofHeader['challenge']
  depth: string
  /** See {@link ReplayDemands.replay}; absent: what the depth policy says. */
  replay?: string
  /** What proofs carry; absent: rows or, in a quarter of all trials, a digest. */
  form?: ProofHeader['form']
}

/** The policy that attacks are measured against. */
export const RECOMMENDED: Policy = { name: 'recommended', challenge: 'beacon', depth: 'full', replay: 'all' }

/** The user's side of one trial. */
export interface UserRequest {
  prompt: Uint32Array
  /** What an honest proof states. */
  header: ProofHeader
  /** Hex, 32 bytes; known to nobody before the commitment. */
  beacon: string
  /** Of a generator's pass. */
  chunkSize: number
}

const MAX_PROMPT = 40
const MAX_NEW = 80
/** What attacks put into a prompt at most. */
const ADDED = 3
const CHUNK_SIZES = [4, 16, 33, 128, 512]

/** Draws what is asked for in a trial. */
export async function drawRequest(model: Model, policy: Policy, random: Random): Promise<UserRequest> {
  const chunkSize = random.of(CHUNK_SIZES)
  const { maxPositions, eosTokenIds } = model.config
  const room = Math.max(1, Math.min(MAX_PROMPT, Math.floor(maxPositions / 3)))
  const prompt = await drawPrompt(model, lengthUpTo(random, room), random)
  const maxNewTokens = lengthUpTo(random, Math.max(1, Math.min(MAX_NEW, maxPositions - room - ADDED)))
  const stopTokens = random.chance(0.7) ? [...new Set(eosTokenIds)].sort((a, b) => a - b) : []
  const header = proofHeader(model, prompt.length, {
    ...drawSampling(random),
    kvDtype: random.of(['f32', 'f32', 'f32', 'f16', 'bf16'] as const),
    nonce: hexFrom(random.bytes(16)),
    previousRoot: random.chance(0.3) ? hexFrom(random.bytes(32)) : '',
    stop: { maxNewTokens, stopTokens },
    challenge: policy.challenge,
    depth: policy.depth,
    form: policy.form ?? (random.chance(0.25) ? 'digest' : 'rows'),
    tokenSampler: drawTokenSampler(random),
    layerSampler: `${random.of(['uniform', 'stratified'])}:${1 + random.below(model.config.numLayers)}`,
  })
  return { prompt, header, beacon: hexFrom(random.bytes(32)), chunkSize }
}

/** Random ids, or what the model itself says at random after its first token. */
async function drawPrompt(model: Model, length: number, random: Random): Promise<Uint32Array> {
  const { vocabSize, bosTokenId } = model.config
  if (length === 1 || random.chance(0.5)) return Uint32Array.from({ length }, () => random.below(vocabSize))
  const seed = hexFrom(random.bytes(8))
  const options = { maxNewTokens: length - 1, temperature: 1, seed, ignoreEos: true }
  return (await generate(model, [bosTokenId ?? 0], options)).tokens
}

function drawSampling(random: Random) {
  const seed = hexFrom(random.bytes(8))
  if (random.chance(0.4)) return { temperature: 0, topK: 0, topP: 1, seed }
  return {
    temperature: (3 + random.below(13)) / 10,
    topK: random.chance(0.3) ? 2 + random.below(60) : 0,
    topP: random.chance(0.3) ? (50 + random.below(50)) / 100 : 1,
    seed,
  }
}

function drawTokenSampler(random: Random): string {
  const kind = random.below(10)
  if (kind === 0) return 'all'
  return kind < 3 ? `every:${2 + random.below(15)}` : `bernoulli:1/${random.of([2, 4, 8, 16, 32])}`
}
