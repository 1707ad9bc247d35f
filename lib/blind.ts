// Blind verification: recompute everything first, seal it (seal.ts), see the claimed vectors last.
import type { Demands } from './examination'
import { examine } from './examination'
import type { KvSample, LayerSamples } from './kv'
import { createMatcher, type MatchResult } from './matcher'
import type { Model } from './model'
import type { Plan } from './plan'
import { prefill, type PrefillOptions } from './prefill'
import { copyProof, type Proof } from './proof'
import type { BlindProof } from './seal'
import type { Verdict } from './verdict'

/**
 * Recomputes all samples of a plan, without knowing what is claimed.
 *
 * There is no early termination: where the claimed vectors differ is not known yet. So this costs what verifying an
 * honest proof costs.
 * @param plan - That of the blind proof: `createPlan(header, tokens)`, or drawn from its root and beacon.
 * @returns The sampled layers in ascending order, for `runningDigests` and {@link judge}.
 * @throws {PocError} As `prefill`; an aborted pass throws the signal's reason.
 */
export async function recompute(
  model: Model,
  blind: Pick<BlindProof, 'header' | 'tokens'>,
  plan: Plan,
  options: Omit<PrefillOptions, 'kvDtype'> = {},
): Promise<LayerSamples[]> {
  const layers: LayerSamples[] = []
  const { kvDtype } = blind.header
  for await (const layer of prefill(model, blind.tokens, plan, { ...options, kvDtype })) layers.push(layer)
  return layers
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
 * @param layers - What {@link recompute} gave for this proof; where some are missing, the verdict is inconclusive.
 * @throws {PocError} As `verify`, and INVALID_ARGUMENT where the layers are not those of the proof's plan.
 */
export function judge(model: Model, layers: readonly LayerSamples[], proof: Proof, demands: Demands = {}): Verdict {
  const examination = examine(model, copyProof(proof), demands)
  if (examination.verdict) return examination.verdict
  const { matcher, conclude } = examination
  for (const layer of layers) {
    if (matcher.decided) break
    matcher.push(layer)
  }
  return conclude()
}
