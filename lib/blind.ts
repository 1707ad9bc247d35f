// Blind verification: recompute everything first, seal it (seal.ts), see the claimed vectors last.
import { isDeepStrictEqual } from 'node:util'
import { checkRun } from './arguments'
import { wrongValue } from './errors'
import { checkLength, type Demands, examining, pick } from './examination'
import { givenList, LAYER } from './given'
import { fieldsOf } from './header'
import { hexFrom } from './hex'
import type { KvSample, LayerSamples } from './kv'
import { createMatcher, type MatchResult } from './matcher'
import type { Model } from './model'
import { checkNames } from './options'
import { openPass } from './pass'
import { type PassPlan, planPass } from './pass-plan'
import type { Plan } from './plan'
import { checkTokens } from './prefill'
import { copyProof, type Proof } from './proof'
import { outcomeOfReplay, type ReplayDemands, replayable, replayNumbers } from './replay'
import { type BlindProof, blindProof, subjectOf } from './seal'
import { PARAMETERS } from './structure'
import type { Samplers } from './custom-sampler'
import { inTurns, type Turns } from './turns'
import type { TokenReplay, Verdict } from './verdict'
import { VERIFY_OPTIONS } from './verify'

/** What a verifier has before it sees what is claimed. */
export interface Recomputed {
  /** `sealSubject` of the blind proof that this was computed for; to be sealed with it. */
  subject: string
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
 *
 * What `verify` would reject without any model work is refused here: the proof behind it may be honest, and a seal over
 * something else would reject it.
 * @throws {PocError} As `verify`, and INVALID_ARGUMENT where the header is not of this model, or the context digest not
 *   that of header and tokens; an aborted pass throws the signal's reason.
 */
export async function recompute(model: Model, blind: BlindProof, options: RecomputeOptions = {}): Promise<Recomputed> {
  checkRun(model, options)
  checkNames(options, VERIFY_OPTIONS) // those of judge() may be given here too
  const ours = blindProof(blind) // what the caller does to it from now on does not count
  const { plan, whole, replayed } = await inTurns(planTask(model, ours, options))
  const subject = subjectOf(ours)
  const chosen = replayable(ours, undefined)
  const { kvDtype, numLayers } = ours.header
  const pass = openPass(model, [{ tokens: ours.tokens, plan: whole, parent: null, shared: 0 }], {
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
  if (!replayed || !numbers) return { subject, layers, replay: null, replayed: null }
  const { probabilityTest = false } = options
  const replay = outcomeOfReplay(chosen, replayed, numbers)
  return { subject, layers, replay, replayed: { positions: replayed, numbers, probabilityTest } }
}

/** Plans the pass over a blind proof that is about this model and agrees with itself. */
function* planTask(model: Model, blind: BlindProof, options: RecomputeOptions): Turns<PassPlan> {
  const { header, tokens, contextDigest } = blind
  const must = (where: string, given: unknown, expected: unknown) => {
    if (given !== expected) throw wrongValue('INVALID_ARGUMENT', `blind.${where}`, `${expected}`, given)
  }
  checkLength(model, blind)
  must('header.modelDigest', header.modelDigest, model.digest)
  for (const key of PARAMETERS) must(`header.${key}`, header[key], model.config[key])
  const planned = yield* planPass(blind, options)
  must('contextDigest', contextDigest, hexFrom(planned.plan.contextDigest))
  const { numPositions } = planned.plan
  checkTokens(model, tokens.subarray(0, numPositions))
  checkTokens(model, tokens.subarray(numPositions))
  return planned
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
  for (const layer of givenList(LAYER, layers, 'layers')) {
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
 * @throws {PocError} As `verify`, and INVALID_ARGUMENT where another proof, or other layers than its plan's, were
 *   recomputed.
 */
export async function judge(
  model: Model,
  recomputed: Recomputed,
  proof: Proof,
  demands: Demands = {},
): Promise<Verdict> {
  checkRun(model, demands)
  checkNames(demands, VERIFY_OPTIONS)
  const { subject, layers, replayed } = fieldsOf(recomputed, 'recomputed', 'INVALID_ARGUMENT') as unknown as Recomputed
  givenList(LAYER, layers, 'recomputed.layers')
  const examination = await inTurns(examining(model, copyProof(proof), demands))
  if (examination.verdict) return examination.verdict
  const wanted = subjectOf(examination.proof)
  if (subject !== wanted)
    throw wrongValue('INVALID_ARGUMENT', 'recomputed.subject', `that of the proof, ${wanted}`, subject)
  checkReplayed((await inTurns(planPass(examination.proof, demands))).replayed, replayed, demands)
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
