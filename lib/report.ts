// The verdict on one proof, put together from what was found.
import { costThroughLayer, fullPrefillCost, headCost } from './cost'
import { createSamplesHash } from './hash'
import { indicesOfPlan } from './layer-walk'
import type { MatchResult } from './matcher'
import type { Model } from './model'
import type { Plan } from './plan'
import { profileDigest } from './profile-signature'
import type { Proof } from './proof'
import type { ToleranceProfile } from './tolerance'
import type { Reason, TokenReplay, Verdict, VerdictStatus } from './verdict'

/** Puts a verdict together; without a result, nothing was compared. */
export type Report = (
  status: VerdictStatus,
  reasons: Reason[],
  result?: MatchResult,
  replay?: TokenReplay | null,
) => Verdict

/**
 * @param digest - The proof's: it takes encoding all of it.
 * @param plan - The proof's samples.
 * @param whole - What the pass computes: the same, and where tokens are replayed.
 */
export function createReport(
  model: Model,
  proof: Proof,
  digest: string,
  plan: Plan,
  whole: Plan = plan,
  tolerance: ToleranceProfile | null = null,
): Report {
  const shareOf = (layers: number, replay: TokenReplay | null) => {
    if (layers === 0) return 0
    const spent = replay
      ? costThroughLayer(whole, model.config, whole.deepestLayer) + headCost(replay.positions, model.config)
      : costThroughLayer(whole, model.config, layers - 1)
    return spent / fullPrefillCost(plan, model.config)
  }
  return (status, reasons, result = nothingMatched(plan), replay = null) => {
    const { matched, mismatched, unchecked, firstMismatch, samplesDigest, layersComputed } = result
    const layers = replay ? model.config.numLayers + 1 : layersComputed
    return {
      version: 1,
      status,
      reasons,
      proofDigest: digest,
      modelDigest: model.digest,
      numerics: proof.header.numerics,
      profile: tolerance && profileDigest(tolerance),
      matched,
      mismatched,
      unchecked,
      firstMismatch,
      samplesDigest,
      replay,
      computed: { layers, positions: layers > 0 ? plan.numPositions : 0, share: shareOf(layers, replay) },
    }
  }
}

function nothingMatched(plan: Plan): MatchResult {
  const samplesDigest = createSamplesHash().digest()
  const unchecked = indicesOfPlan(plan)
  return { matched: [], mismatched: [], unchecked, firstMismatch: null, samplesDigest, layersComputed: 0 }
}
