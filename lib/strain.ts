// How far the errors of a proof's samples are from what a profile allows, layer by layer.

/** The part of a sample that a statistic is of; the virtual layer has only 'k', its hidden state. */
export type SamplePart = 'k' | 'v'

export type ScoreStatistic = 'mean' | 'median' | 'max'

/**
 * Limits of one part at one layer. A sample's score is its relative error over `typicalError` of its own layer; the
 * statistics are over the scores of all samples of this part in this layer and those before it.
 */
export interface PartLimits {
  typicalError: number
  maxMeanScore: number
  maxMedianScore: number
  /** Of any one sample: far over honest ones, so that a long proof has no room for a few forged samples. */
  maxSampleScore: number
}

/** Null where the profile says nothing. */
export type LayerLimits = Record<SamplePart, PartLimits | null>

/** Relative errors of a layer's samples, in their order; `v` is empty at the virtual layer. */
export type LayerErrors = Record<SamplePart, readonly number[]>

/** A statistic over its limit. */
export interface Excess {
  layer: number
  part: SamplePart
  statistic: ScoreStatistic
  score: number
  maxScore: number
}

export interface StrainMeter {
  /** The next layer with samples; gives each statistic that is over its limit now. */
  push(layer: number, errors: LayerErrors): Excess[]
  /** The greatest statistic so far over its limit: a proof is within its profile up to 1. */
  readonly strain: number
}

export const SAMPLE_PARTS: readonly SamplePart[] = ['k', 'v']

/** The score of an error; never NaN. */
export function scoreOf(error: number, { typicalError }: PartLimits): number {
  return error / typicalError
}

/**
 * Statistics of a proof against the limits of its layers.
 *
 * The median finds many samples that are a little off, the mean and the maximum a few that are far off. All are over
 * the layers so far, so that they rest on more samples the deeper the verifier has come.
 */
export function createStrainMeter(limits: readonly LayerLimits[]): StrainMeter {
  const scores = { k: createScores(), v: createScores() }
  let strain = 0
  return {
    push(layer, errors) {
      const excesses: Excess[] = []
      for (const part of SAMPLE_PARTS) {
        const allowed = limits[layer][part]
        if (!allowed || errors[part].length === 0) continue
        scores[part].add(errors[part].map((error) => scoreOf(error, allowed)))
        for (const [statistic, maxScore] of [
          ['mean', allowed.maxMeanScore],
          ['median', allowed.maxMedianScore],
          ['max', allowed.maxSampleScore],
        ] as const) {
          const score = scores[part][statistic]()
          strain = Math.max(strain, score / maxScore)
          if (score > maxScore) excesses.push({ layer, part, statistic, score, maxScore })
        }
      }
      return excesses
    },
    get strain() {
      return strain
    },
  }
}

/** Scores that are added in any order; statistics are Infinity rather than NaN where scores are. */
export function createScores() {
  let sorted: Float64Array = new Float64Array(0)
  return {
    add(scores: readonly number[]) {
      sorted = merged(sorted, Float64Array.from(scores).sort())
    },
    /** Added up from the least score on. */
    mean: () => sorted.reduce((sum, score) => sum + score, 0) / sorted.length,
    /** The lower of two in the middle, so that it is a score. */
    median: () => sorted[(sorted.length - 1) >> 1],
    max: () => sorted[sorted.length - 1],
  }
}

function merged(a: Float64Array, b: Float64Array): Float64Array {
  const all = new Float64Array(a.length + b.length)
  for (let i = 0, atA = 0, atB = 0; i < all.length; i++) {
    const takeA = atB === b.length || (atA < a.length && a[atA] <= b[atB])
    all[i] = takeA ? a[atA++] : b[atB++]
  }
  return all
}
