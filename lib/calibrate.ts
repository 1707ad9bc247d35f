// Calibration: how far honest engines are from this one, and what a verifier that allows for it still tells apart.

import { checkRun } from './arguments'
import { wrongValue } from './errors'
import { CONFIDENCE, fitLimits, positionsNeeded, type ProofErrors, rejection } from './fit-limits'
import { strainOf, strainQuantiles } from './fit-limits'
import { forge, MeanVectors, withNeighbours } from './forgeries'
import type { KvDtype, KvSample } from './kv'
import { samplesOf } from './kv'
import { integerIn } from './limits'
import type { Model } from './model'
import { parseProfile } from './parse-profile'
import { createPlan, type Plan } from './plan'
import { prefill } from './prefill'
import { proofHeader } from './prove'
import { type ErrorForm, errorsOfSamples, type SampleVectors, vectorsOf } from './sample-vectors'
import { PROJECTIONS } from './sketch'
import { type ForgeryEvidence, type ProfileForm, type ToleranceProfile, TRIVIAL_FORGERIES } from './tolerance'
import type { CheatEvidence, HonestEvidence, TokenGapLimits, TrivialForgery } from './tolerance'

/** Something that computes K and V of tokens: an engine in some setting, or a cheat. */
export interface RowSource {
  name: string
  /** The plan's samples, in its order and in the source's own dtype. */
  rows(tokens: Uint32Array, plan: Plan): Promise<{ samples: KvSample[]; kvDtype: KvDtype }>
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
  /** What the greatest honest statistic is multiplied by to be a limit; 1.5 by default. */
  headroom?: number
  tokenGap?: TokenGapLimits | null
  signal?: AbortSignal
  onProgress?: (fraction: number) => void
}

/** What was found; the profile is null where it would let a trivial forgery pass. */
export interface Calibration {
  profile: ToleranceProfile | null
  honest: HonestEvidence
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
  const run = new Run(model, options)
  const heldOut = sequences.filter((_, i) => i % 2 === 1)
  const fitted = sequences.filter((_, i) => i % 2 === 0)
  for (const tokens of fitted) await run.measure(tokens, 'fit', sequences.length)
  for (const tokens of heldOut) await run.measure(tokens, 'heldOut', sequences.length)
  return run.conclude(fitted.length, heldOut.length)
}

class Run {
  private readonly honest: { fit: ProofErrors[][]; heldOut: ProofErrors[][] } = { fit: [], heldOut: [] }
  private readonly cheats: ProofErrors[][] = []
  private readonly forged = new Map<TrivialForgery, ProofErrors[]>()
  private readonly means = new MeanVectors()
  private readonly lengths: number[] = []
  private other: SampleVectors[] = []
  private numSamples = 0

  constructor(
    private readonly model: Model,
    private readonly options: CalibrateOptions,
  ) {}

  async measure(tokens: Uint32Array, half: 'fit' | 'heldOut', total: number): Promise<void> {
    const { honest, cheats, signal, onProgress } = this.options
    signal?.throwIfAborted()
    const header = proofHeader(this.model, 1, this.stated())
    const plan = createPlan(header, tokens)
    const at = await this.recompute(tokens, withNeighbours(plan, header.numLayers))
    const recomputed = placesOf(plan).map(([layer, position]) => at(layer, position) as SampleVectors)
    const form = this.errorForm(plan)
    const errorsOf = async (source: RowSource) => {
      const { samples, kvDtype } = await source.rows(tokens, plan)
      return errorsOfSamples(
        checked(samples, plan, source.name).map((one) => vectorsOf(one, kvDtype)),
        recomputed,
        form,
      )
    }
    const variants: ProofErrors[] = []
    for (const source of honest) variants.push(await errorsOf(source))
    this.honest[half].push(variants)
    if (half === 'fit') this.means.add(recomputed)
    else {
      const found: ProofErrors[] = []
      for (const source of cheats) found.push(await errorsOf(source))
      this.cheats.push(found)
      const source = { at, means: this.means, other: this.other }
      for (const name of TRIVIAL_FORGERIES) {
        const claimed = recomputed.map((sample, i) => forge(name, sample, i, source))
        this.forged.set(name, [...(this.forged.get(name) ?? []), errorsOfSamples(claimed, recomputed, form)])
      }
    }
    this.other = recomputed
    this.numSamples += plan.numSamples
    onProgress?.(this.lengths.push(plan.numPositions) / total)
  }

  conclude(fittedSequences: number, heldOutSequences: number): Calibration {
    const { numLayers } = this.model.config
    const { kvDtype = 'f32', headroom = 1.5, honest, cheats } = this.options
    const setLimits = (proofs: readonly ProofErrors[]) => fitLimits(proofs, numLayers, kvDtype, headroom)
    const fitted = this.honest.fit.flat()
    const layers = setLimits(fitted)
    const worst = this.honest.heldOut.map((variants) => Math.max(...variants.map((one) => strainOf(layers, one))))
    const { over, maxShare } = rejection(worst)
    const lengths = this.triedLengths()
    const evidence = {
      honest: {
        variants: honest.map(({ name }) => name),
        fittedSequences,
        heldOutSequences,
        rejectedSequences: over,
        maxFalseRejection: maxShare,
        confidence: CONFIDENCE,
        strain: strainQuantiles(worst),
      },
      cheats: cheats.map(({ name }, i): CheatEvidence => {
        const proofs = this.cheats.map((all) => all[i])
        const strains = proofs.map((errors) => strainOf(layers, errors))
        const found = rejection(strains)
        const needed = positionsNeeded(fitted, proofs, lengths, setLimits)
        return {
          name,
          sequences: proofs.length,
          detectedSequences: found.over,
          minDetection: found.minShare,
          strain: strainQuantiles(strains),
          positionsNeeded: needed?.positions ?? null,
          samplesNeeded: needed?.samples ?? null,
        }
      }),
      forgeries: [...this.forged].map(([name, proofs]) => {
        const strains = proofs.map((errors) => strainOf(layers, errors))
        const passedSequences = strains.length - rejection(strains).over
        return { name, sequences: proofs.length, passedSequences, minStrain: strainQuantiles(strains).min }
      }),
    }
    const profile = evidence.forgeries.some(({ passedSequences }) => passedSequences > 0)
      ? null
      : parseProfile({ ...this.profileHead(), layers, tokenGap: this.options.tokenGap ?? null, ...evidence })
    const positions = this.lengths.reduce((sum, length) => sum + length, 0)
    return { profile, ...evidence, samplesPerPosition: this.numSamples / positions }
  }

  // All lengths there are, then halves of the shortest.
  private triedLengths(): number[] {
    const tried = [Math.max(...this.lengths)]
    for (let length = Math.min(...this.lengths); length >= 8; length >>= 1) tried.push(length)
    return [...new Set(tried)]
  }

  private profileHead() {
    const { generator, form = 'rows', projections = PROJECTIONS } = this.options
    const { modelDigest, kvDtype, tokenSampler, layerSampler } = proofHeader(this.model, 1, this.stated())
    return {
      version: 1,
      modelDigest,
      kvDtype,
      generator,
      verifier: this.model.numerics,
      form,
      projections: form === 'sketch' ? projections : 0,
      tokenSampler,
      layerSampler,
      minPositions: Math.min(...this.lengths),
      maxPositions: Math.max(...this.lengths),
    }
  }

  private stated() {
    const { kvDtype, tokenSampler, layerSampler } = this.options
    return { kvDtype, tokenSampler, layerSampler }
  }

  // Any seed will do that differs between sequences.
  private errorForm({ contextDigest: seed }: Plan): ErrorForm {
    const { form = 'rows', projections = PROJECTIONS } = this.options
    return form === 'rows' ? { form } : { form, projections, seed }
  }

  private async recompute(tokens: Uint32Array, plan: Plan) {
    const { kvDtype = 'f32', signal } = this.options
    const vectors = new Map<string, SampleVectors>()
    for await (const layer of prefill(this.model, tokens, plan, { kvDtype, signal })) {
      for (const sample of samplesOf(layer))
        vectors.set(`${sample.layer} ${sample.position}`, vectorsOf(sample, kvDtype))
    }
    return (layer: number, position: number) => vectors.get(`${layer} ${position}`)
  }
}

function placesOf(plan: Plan): [layer: number, position: number][] {
  return [...plan.layers].flatMap(([layer, positions]) => Array.from(positions, (p): [number, number] => [layer, p]))
}

function checked(samples: readonly KvSample[], plan: Plan, source: string): readonly KvSample[] {
  const places = placesOf(plan)
  const follows =
    samples.length === places.length &&
    places.every(([layer, position], i) => samples[i].layer === layer && samples[i].position === position)
  if (follows) return samples
  throw wrongValue('INVALID_ARGUMENT', `rows of ${source}`, `the ${places.length} samples of the plan`, samples)
}
