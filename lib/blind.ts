// Blind verification: recompute everything first, seal it (seal.ts), see the claimed vectors last.
import { isDeepStrictEqual } from 'node:util'
import { checkRun } from './arguments'
import { wrongValue } from './errors'
import { checkLength, type Demands, examine, pick, planPass } from './examination'
import { hexFrom } from './hex'
import type { KvSample, LayerSamples } from './kv'
import { createMatcher, type MatchResult } from './matcher'
import type { Model } from './model'
import { openPass } from './pass'
import type { Plan } from './plan'
import { copyProof, type Proof } from './proof'
import { outcomeOfReplay, type ReplayDemands, replayable, replayNumbers } from './replay'
import type { BlindProof } from './seal'
import type { Samplers } from './custom-sampler'
import { atOnce } from './turns'
import type { TokenReplay, Verdict } from './verdict'

/** What a verifier has before it sees what is claimed. */
export interface Recomputed {
  /** The sampled layers of the plan, ascending; for `runningDigests`. */
  layers: LayerSamples[]
  /** What came of replaying the tokens, which are no secret; null where they were not replayed. */
  replay: TokenReplay | null
  /** For {@link judge}: where the sampler chose again, and what it said there. */
  replayed: { positions: Uint32Array; numbers: Float64Array; probabilityTest: boolean } | null
}

export interface RecomputeOptions extends Samplers, ReplayDemands {
  chunkSize?: number
  signal?: AbortSignal
  onProgress?: (fraction: number) => void
}

/**
 * Recomputes all samples of a blind proof, and replays its tokens, without knowing what is claimed.
 *
 * There is no early termination: where the claimed vectors differ is not known yet. So this costs what verifying an
 * honest proof costs.
 * @throws {PocError} As `verify`, and INVALID_ARGUMENT where the context digest, which a seal is about, is not that of
 *   header and tokens; an aborted pass throws the signal's reason.
 */
export async function recompute(model: Model, blind: BlindProof, options: RecomputeOptions = {}): Promise<Recomputed> {
  checkRun(model, options)
  checkLength(model, blind)
  const { plan, whole, replayed } = atOnce(planPass(blind, options))
  const contextDigest = hexFrom(plan.contextDigest)
  if (contextDigest !== blind.contextDigest) {
    // or what is sealed would be about other tokens than were recomputed
    throw wrongValue(
      'INVALID_ARGUMENT',
      'blind.contextDigest',
      `that of header and tokens, ${contextDigest}`,
      blind.contextDigest,
    )
  }
  const chosen = replayable(blind, undefined)
  const { kvDtype, numLayers } = blind.header
  const pass = openPass(model, [{ tokens: blind.tokens, plan: whole, parent: null, shared: 0 }], {
    ...options,
    kvDtype,
  })
  const layers: LayerSamples[] = []
  let numbers: Float64Array | null = null
  for await (const [layer] of pass.layers()) {
    const sampled = plan.layers.get(layer.layer)
    if (sampled) layers.push(pick(layer, sampled))
    if (replayed && layer.layer === numLayers) numbers = await replayNumbers(chosen, replayed, options, pass, 0)
  }
  if (!replayed || !numbers) return { layers, replay: null, replayed: null }
  const { probabilityTest = false } = options
  const replay = outcomeOfReplay(chosen, replayed, numbers)
  return { layers, replay, replayed: { positions: replayed, numbers, probabilityTest } }
}

/**
 * Compares recomputed layers with claimed samples up to the first layer with a mismatch, without a model: also for
 * samples without the rest of their proof, such as those with canaries.
 *
 * @throws {PocError} INVALID_ARGUMENT: layers or samples that are not those of the plan.
 */
export function matchRecomputed(
  plan: Plan,
  layers: readonly LayerSamples[],
  samples: readonly KvSample[],
): MatchResult {
  const matcher = createMatcher(plan, samples)
  for (const layer of layers) {
    if (matcher.decided) break
    matcher.push(layer)
  }
  return matcher.result()
}

/**
 * The verdict of `verify` on a proof whose samples were recomputed before it was seen; no model work.
 *
 * @param model - The one that recomputed them.
 * @param recomputed - What {@link recompute} gave for this proof under the same demands; where layers are missing, the
 *   verdict is inconclusive.
 * @throws {PocError} As `verify`, and INVALID_ARGUMENT where the layers are not those of the proof's plan.
 */
export async function judge(
  model: Model,
  { layers, replayed }: Recomputed,
  proof: Proof,
  demands: Demands = {},
): Promise<Verdict> {
  const examination = examine(model, copyProof(proof), demands)
  if (examination.verdict) return examination.verdict
  checkReplayed(atOnce(planPass(proof, demands)).replayed, replayed, demands)
  const { numLayers } = model.config
  const isMissing = replayed !== null && layers[layers.length - 1]?.layer !== numLayers
  const none = { layer: numLayers, positions: new Uint32Array(0), k: new Uint8Array(0), v: new Uint8Array(0) }
  for (const layer of isMissing ? [...layers, none] : layers) {
    if (examination.decided) break
    await examination.push(layer, { replay: async () => replayed?.numbers ?? new Float64Array(0) }, 0)
  }
  return examination.conclude()
}

/** Refuses what was recomputed under other demands: its numbers would be read as those of other tokens. */
function checkReplayed(wanted: Uint32Array | null, given: Recomputed['replayed'], demands: ReplayDemands): void {
  const { probabilityTest = false } = demands
  const isSame = given?.probabilityTest === probabilityTest && isDeepStrictEqual(given.positions, wanted)
  if (wanted === null ? given === null : isSame) return
  const expected = 'recomputed under the same replay, replaySeed and probabilityTest'
  throw wrongValue('INVALID_ARGUMENT', 'recomputed', expected, given?.positions ?? null)
}
