// What honest generators are asked for: every challenge mode, depth policy and form by turns, all else drawn.
import type { ProofHeader, SamplingParams } from '../binding'
import { hexFrom } from '../hex'
import { MAX_SEED_BYTES } from '../limits'
import type { Model } from '../model'
import type { Proof } from '../proof'
import type { Random } from './random'
import { drawRequest, type Policy, type UserRequest } from './user-request'

const FORMS: Record<ProofHeader['challenge'], readonly ProofHeader['form'][]> = {
  beacon: ['rows', 'digest'],
  context: ['rows', 'digest', 'sketch'],
}
const DEPTHS = { beacon: ['full', 'kv', 'random'], context: ['full', 'kv'] }

/** All that a header may combine. */
export const HONEST_KINDS: readonly Policy[] = (['beacon', 'context'] as const).flatMap((challenge) =>
  DEPTHS[challenge].flatMap((depth) =>
    FORMS[challenge].map((form) => ({ name: `${challenge}, ${depth}, ${form}`, challenge, depth, form })),
  ),
)

export interface HonestRequest {
  asked: UserRequest
  /** Whether it is the turn after `before`. */
  isNext: boolean
}

const NEXT = 0.2
const MAX_TURNS = 160

/** @param before - A turn that a conversation may go on from. */
export async function drawHonest(
  model: Model,
  kind: Policy,
  before: Proof | null,
  random: Random,
): Promise<HonestRequest> {
  const depth = kind.depth === 'random' ? `random:${1 + random.below(4)}` : kind.depth
  const drawn = await drawRequest(model, { ...kind, depth }, random)
  const header = { ...drawn.header, ...unusual(drawn.header, random) }
  const asked = { ...drawn, header }
  const prompt = Uint32Array.from([...(before?.tokens ?? []), ...drawn.prompt])
  const length = prompt.length + (header.stop?.maxNewTokens ?? 1)
  const isNext = before !== null && random.chance(NEXT) && length <= Math.min(MAX_TURNS, model.config.maxPositions)
  if (!isNext) return { asked, isNext }
  const next = { ...header, promptLength: prompt.length, previousRoot: before.root }
  return { asked: { ...asked, prompt, header: next }, isNext }
}

const RARE = 0.15

/** What a header may state and few do. */
function unusual({ numLayers, depth, sampling, nonce }: ProofHeader, random: Random): Partial<ProofHeader> {
  const bytes = () => hexFrom(random.bytes(random.below(MAX_SEED_BYTES + 1)))
  const layers = depth === 'full' ? numLayers + 1 : numLayers
  const isFixed = !depth.startsWith('random') && random.chance(RARE)
  const named = Array.from({ length: layers }, (_, layer) => layer).filter(() => random.chance(0.5))
  const extreme: SamplingParams = {
    temperature: random.of([0, 0.01, 3, 100]),
    topK: random.of([0, 1, 2, 2 ** 31]),
    topP: random.of([1, 0.001, 0.999]),
    seed: bytes(),
  }
  return {
    nonce: random.chance(RARE) ? bytes() : nonce,
    sampling: random.chance(RARE) ? extreme : sampling,
    ...(isFixed && named.length > 0 ? { layerSampler: `fixed:${named.join(',')}` } : {}),
  }
}
