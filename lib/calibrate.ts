// Calibration: how far honest engines are from this one, and what a verifier that allows for it still tells apart.

import { checkRun } from './arguments'
import { samplesNeeded } from './calibrate-samples'
import { CalibrationRun } from './calibration-run'
import { wrongValue } from './errors'
import { CONFIDENCE, DETECTION, fitLimits, positionsNeeded, type ProofErrors, rejection } from './fit-limits'
import { strainOf, strainQuantiles } from './fit-limits'
import type { KvDtype, KvSample } from './kv'
import { integerIn } from './limits'
import type { Model } from './model'
import { parseProfile } from './parse-profile'
import type { Plan } from './plan'
import { proofHeader } from './prove'
import { PROJECTIONS } from './sketch'
import type { ForgeryEvidence, ProfileForm, ToleranceProfile } from './tolerance'
import type { CheatEvidence, HonestEvidence, TokenGapEvidence } from './tolerance'

/** Something that computes K and V of tokens: an engine in some setting, or a cheat. */
export interface RowSource {
  name: string
  /** The plan's samples, in its order and in the source's own dtype. */
  rows(tokens: Uint32Array, plan: Plan): Promise<{ samples: KvSample[]; kvDtype: KvDtype }>
  /** Prompt and `numTokens` more, greedily chosen; absent where it chooses none. */
  greedy?(prompt: Uint32Array, numTokens: number): Promise<Uint32Array>
}

export interface CalibrateOptions {
  /** Numerics of the honest sources, as headers will state them, such as `llama.cpp`. */
  generator: string
  honest: readonly RowSource[]
  cheats: readonly RowSource[]
  kvDtype?: KvDtype
  form?: ProfileForm
  /** In form sketch; 16 by default. */
  projections?: number
  tokenSampler?: string
  layerSampler?: string
  /** What the greatest honest statistic is multiplied by to be a limit; 2 by default. */
  headroom?: number
  signal?: AbortSignal
  onProgress?: (fraction: number) => void
}

/** What was found; the profile is null where it would let a trivial forgery pass. */
export interface Calibration {
  profile: ToleranceProfile | null
  honest: HonestEvidence
  tokenGap: TokenGapEvidence | null
  cheats: CheatEvidence[]
  forgeries: (Omit<ForgeryEvidence, 'passedSequences'> & { passedSequences: number })[]
  samplesPerPosition: number
}

const MIN_SEQUENCES = 40
const MAX_SEQUENCES = 100_000

/**
 * Calibrates tolerant verification by `model`.
 *
 * Every source computes the same sequences. Limits are set on every second one and judged on those between, which have
 * no part in them. A held-out sequence counts as rejected when any honest source's proof of it is.
 * @param sequences - 40 or more, of tokens that the model would generate, as long as the proofs to come.
 * @throws {PocError} INVALID_ARGUMENT, and what the sources and a prefill throw; aborted, the signal's reason.
 */
export async function calibrate(
  model: Model,
  sequences: readonly Uint32Array[],
  options: CalibrateOptions,
): Promise<Calibration> {
  checkRun(model, options)
  integerIn(sequences.length, MIN_SEQUENCES, MAX_SEQUENCES, 'sequences.length', 'INVALID_ARGUMENT')
  if (options.honest.length === 0) {
    throw wrongValue(
      'INVALID_ARGUMENT',
      'honest',
      'at least one source: limits are of an engine other than this one',
      [],
    )
  }
  const run = new CalibrationRun(model, options)
  const heldOut = sequences.filter((_, i) => i % 2 === 1)
  const fitted = sequences.filter((_, i) => i % 2 === 0)
  for (const tokens of fitted) await run.measure(tokens, 'fit', sequences.length)
  for (const tokens of heldOut) await run.measure(tokens, 'heldOut', sequences.length)
  return await conclude(model, options, run)
}

async function conclude(model: Model, options: CalibrateOptions, run: CalibrationRun): Promise<Calibration> {
  const { numLayers } = model.config
  const { kvDtype = 'f32', headroom = 2, honest, cheats } = options
  const setLimits = (proofs: readonly ProofErrors[]) => fitLimits(proofs, numLayers, kvDtype, headroom)
  const fitted = run.honest.fit.flat()
  const layers = setLimits(fitted)
  const worst = run.honest.heldOut.map((variants) => Math.max(...variants.map((one) => strainOf(layers, one))))
  const { over, maxShare } = rejection(worst)
  const lengths = triedLengths(run.lengths)
  const judged = { honest: run.honest.heldOut, cheats: run.cheats }
  const maxHonestShare = Math.min(maxShare, 1 - DETECTION) // few sequences have a bound that allows too much
  const samples = await samplesNeeded(layers, judged, maxHonestShare, options.signal)
  const evidence = {
    tokenGap: run.tokenGaps.conclude(headroom),
    honest: {
      variants: honest.map(({ name }) => name),
      fittedSequences: run.honest.fit.length,
      heldOutSequences: run.honest.heldOut.length,
      rejectedSequences: over,
      maxFalseRejection: maxShare,
      confidence: CONFIDENCE,
      strain: strainQuantiles(worst),
    },
    cheats: cheats.map(({ name }, i): CheatEvidence => {
      const proofs = run.cheats.map((all) => all[i])
      const strains = proofs.map((errors) => strainOf(layers, errors))
      const found = rejection(strains)
      return {
        name,
        sequences: proofs.length,
        detectedSequences: found.over,
        minDetection: found.minShare,
        strain: strainQuantiles(strains),
        positionsNeeded: positionsNeeded(fitted, proofs, lengths, setLimits),
        samplesNeeded: samples[i],
      }
    }),
    forgeries: [...run.forged].map(([name, proofs]) => {
      const strains = proofs.map((errors) => strainOf(layers, errors))
      const passedSequences = strains.length - rejection(strains).over
      return { name, sequences: proofs.length, passedSequences, minStrain: strainQuantiles(strains).min }
    }),
  }
  const profile = evidence.forgeries.some(({ passedSequences }) => passedSequences > 0)
    ? null
    : parseProfile({ ...profileHead(model, options, run), layers, ...evidence })
  const positions = run.lengths.reduce((sum, length) => sum + length, 0)
  return { profile, ...evidence, samplesPerPosition: run.numSamples / positions }
}

// All lengths there are, then halves of the shortest.
function triedLengths(lengths: readonly number[]): number[] {
  const tried = [Math.max(...lengths)]
  for (let length = Math.min(...lengths); length >= 8; length >>= 1) tried.push(length)
  return [...new Set(tried)]
}

function profileHead(model: Model, options: CalibrateOptions, run: CalibrationRun) {
  const { generator, form = 'rows', projections = PROJECTIONS } = options
  const { modelDigest, kvDtype, tokenSampler, layerSampler } = proofHeader(model, 1, run.stated())
  return {
    version: 1,
    modelDigest,
    kvDtype,
    generator,
    verifier: model.numerics,
    form,
    projections: form === 'sketch' ? projections : 0,
    tokenSampler,
    layerSampler,
    minPositions: Math.min(...run.lengths),
    maxPositions: Math.max(...run.lengths),
  }
}
