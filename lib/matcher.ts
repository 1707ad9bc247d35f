// Compares recomputed K and V vectors with the claimed ones, layer by layer, and says when nothing more can change.

import { wrongValue } from './errors'
import { givenList, SAMPLE } from './given'
import { fieldsOf } from './header'
import { createLayerWalk, indicesOfPlan, type VectorBytes } from './layer-walk'
import { type KvDtype, type KvSample, type LayerSamples, type VectorShape, vectorBytes } from './kv'
import type { Plan } from './plan'
import type { SampleIndex, Verdict } from './verdict'

/** The parts of a {@link Verdict} that the comparison gives. */
export interface MatchResult
  extends Pick<Verdict, 'matched' | 'mismatched' | 'unchecked' | 'firstMismatch' | 'samplesDigest'> {
  /** Layers 0 up to the last one pushed. */
  layersComputed: number
  /** Set where a digest stands for all samples and all were recomputed: whether it is theirs. */
  digestMatches?: boolean
}

/** Takes one layer after another until it is decided. */
export interface Matcher {
  /**
   * Compares all samples of the next layer; a layer that the plan does not sample may be left out or pushed empty.
   * @throws {PocError} INVALID_ARGUMENT for a layer out of order, after the decision, or with other positions or sizes.
   */
  push(layer: LayerSamples): void
  /** True from the first layer with a mismatch on, or after the last sampled layer. */
  readonly decided: boolean
  /** True from the first mismatch on. */
  readonly failed: boolean
  /** What is known so far; all that was not compared is `unchecked`. */
  result(): MatchResult
}

/** Whether the samples are those of the plan: the same (layer, position) indices in the same order. */
export function samplesFollowPlan(plan: Plan, samples: readonly KvSample[]): boolean {
  if (samples.length !== plan.numSamples) return false
  let i = 0
  for (const [layer, positions] of plan.layers) {
    for (const position of positions) {
      const sample = samples[i++]
      if (sample.layer !== layer || sample.position !== position) return false
    }
  }
  return true
}

/**
 * A matcher of claimed samples in bit-equal numerics (`ieee32`): a sample matches when all bits of K and V do.
 * In the layer that decides, every sample is compared; later layers stay unchecked.
 * @throws {PocError} INVALID_ARGUMENT when the samples are not those of the plan or differ in size.
 * @see Proof of Cache, section 3.2, "KV Cache-based Verification".
 */
export function createMatcher(plan: Plan, samples: readonly KvSample[]): Matcher {
  givenList(SAMPLE, samples, 'samples')
  const bytesAt = checkedSizes(plan, samples)
  const walk = createLayerWalk(plan, bytesAt)
  const matched: SampleIndex[] = []
  const mismatched: SampleIndex[] = []
  let firstMismatch: MatchResult['firstMismatch'] = null
  let nextSample = 0 // index into `samples`

  const compare = (layer: LayerSamples) => {
    const k = bytesOf(layer.k)
    const v = bytesOf(layer.v)
    const bytes = bytesAt(layer.layer)
    layer.positions.forEach((position, row) => {
      const claimed = samples[nextSample++]
      const part = differs(k, row * bytes.k, bytes.k, claimed.k)
        ? bytes.v > 0
          ? 'k'
          : 'hidden'
        : differs(v, row * bytes.v, bytes.v, claimed.v)
          ? 'v'
          : null
      if (part === null) matched.push([layer.layer, position])
      else mismatched.push([layer.layer, position])
      if (part !== null) firstMismatch ??= { layer: layer.layer, position, part }
    })
  }

  return {
    push(layer) {
      if (walk.push(layer, firstMismatch !== null)) compare(layer)
    },
    get decided() {
      return firstMismatch !== null || walk.done
    },
    get failed() {
      return firstMismatch !== null
    },
    result() {
      const parts = { matched: [...matched], mismatched: [...mismatched], unchecked: walk.unchecked() }
      return { ...parts, firstMismatch, ...walk.result() }
    },
  }
}

/**
 * A matcher of a digest over all samples: what it says is known when the last layer was pushed, and then of all samples
 * alike. Where they differ, none is named: all stay unchecked, and `digestMatches` is false.
 *
 * @param samplesDigest - 64 hex digits, see {@link createSamplesHash}.
 * @throws {PocError} INVALID_ARGUMENT
 */
export function createDigestMatcher(plan: Plan, shape: VectorShape, kvDtype: KvDtype, samplesDigest: string): Matcher {
  const walk = createLayerWalk(plan, (layer) => vectorBytes(shape, kvDtype, layer))
  return {
    push(layer) {
      walk.push(layer, false)
    },
    get decided() {
      return walk.done
    },
    get failed() {
      return walk.done && walk.result().samplesDigest !== samplesDigest
    },
    result() {
      const walked = walk.result()
      const same = walk.done && walked.samplesDigest === samplesDigest
      const all = indicesOfPlan(plan)
      const [matched, unchecked] = same ? [all, []] : [[], all]
      const result = { matched, mismatched: [], firstMismatch: null, ...walked, unchecked }
      return walk.done ? { ...result, digestMatches: same } : result
    },
  }
}

/** The sizes of each layer's vectors, as its first sample has them. */
function checkedSizes(plan: Plan, samples: readonly KvSample[]): (layer: number) => VectorBytes {
  const { layers } = fieldsOf(plan, 'plan', 'INVALID_ARGUMENT')
  if (!(layers instanceof Map)) throw wrongValue('INVALID_ARGUMENT', 'plan.layers', 'a Map', layers)
  if (!samplesFollowPlan(plan, samples)) {
    throw wrongValue('INVALID_ARGUMENT', 'samples', `the ${plan.numSamples} samples of the plan, in its order`, samples)
  }
  const sizes = new Map<number, VectorBytes>()
  samples.forEach((sample, i) => {
    const { k, v } = sizes.get(sample.layer) ?? { k: sample.k.byteLength, v: sample.v.byteLength }
    sizes.set(sample.layer, { k, v })
    for (const [part, bytes] of [
      ['k', k],
      ['v', v],
    ] as const) {
      if (sample[part].byteLength === bytes) continue
      throw wrongValue('INVALID_ARGUMENT', `samples[${i}].${part}`, `${bytes} bytes as the layer's first`, sample[part])
    }
  })
  return (layer) => sizes.get(layer) ?? { k: 0, v: 0 }
}

function bytesOf(view: Uint8Array): Buffer {
  return Buffer.from(view.buffer, view.byteOffset, view.byteLength)
}

// The length counts too: an array that was detached since it was checked has none, and would equal anything.
function differs(recomputed: Buffer, start: number, rowBytes: number, claimed: Uint8Array): boolean {
  if (claimed.byteLength !== rowBytes) return true
  return recomputed.compare(claimed, 0, rowBytes, start, start + rowBytes) !== 0
}
