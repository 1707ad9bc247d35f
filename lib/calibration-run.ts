// What a calibration measures: for each sequence the errors of every source, in the form of the proofs to come.

import type { CalibrateOptions, RowSource } from './calibrate'
import { TokenGaps } from './calibrate-tokens'
import { wrongValue } from './errors'
import type { ProofErrors } from './fit-limits'
import { forge, MeanVectors, withNeighbours } from './forgeries'
import { type KvSample, samplesOf } from './kv'
import type { Model } from './model'
import { createPlan, type Plan } from './plan'
import { prefill } from './prefill'
import { proofHeader } from './prove'
import { type ErrorForm, errorsOfSamples, type SampleVectors, vectorsOf } from './sample-vectors'
import { PROJECTIONS } from './sketch'
import { TRIVIAL_FORGERIES, type TrivialForgery } from './tolerance'

/** Half of the sequences set the limits, half are judged. */
export type Half = 'fit' | 'heldOut'

export class CalibrationRun {
  /** Of each sequence the proofs of all honest sources. */
  readonly honest: { fit: ProofErrors[][]; heldOut: ProofErrors[][] } = { fit: [], heldOut: [] }
  /** Of each held-out sequence the proofs of all cheats, in their order. */
  readonly cheats: ProofErrors[][] = []
  readonly forged = new Map<TrivialForgery, ProofErrors[]>()
  private readonly means = new MeanVectors()
  readonly tokenGaps: TokenGaps
  /** Positions of each sequence. */
  readonly lengths: number[] = []
  private other: SampleVectors[] = []
  numSamples = 0

  constructor(
    private readonly model: Model,
    private readonly options: CalibrateOptions,
  ) {
    this.tokenGaps = new TokenGaps(model, options.kvDtype ?? 'f32', options.signal)
  }

  async measure(tokens: Uint32Array, half: Half, total: number): Promise<void> {
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
    await this.tokenGaps.measure(tokens, half, honest, cheats)
    this.other = recomputed
    this.numSamples += plan.numSamples
    this.lengths.push(plan.numPositions)
    onProgress?.(this.lengths.length / total)
  }

  /** A header as the proofs to come have it. */
  stated() {
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
