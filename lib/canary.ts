// Canaries: samples that the requester corrupts before it hands out a proof, to see whether a verifier computes.
import type { SampleIndex, Verdict, VerdictStatus } from './verdict'
import { wrongValue } from './errors'
import { given, givenList, SAMPLE_INDEX, VECTOR_NAME } from './given'
import { contextHash, taggedHash } from './hash'
import { fieldsOf } from './header'
import { bytesOf, hexOf } from './hex'
import { KV_DTYPE_BYTES, type KvDtype, type KvSample } from './kv'
import { type Draw, uniformIntegers } from './draw'
import { anySubset } from './layer-sampler'
import { integerIn, MAX_SAMPLES, MAX_SEED_BYTES } from './limits'
import { copyProof, type Proof } from './proof'

/** A corrupted sample; a secret until the verdict is in. */
export interface Canary {
  layer: number
  position: number
  /** Which vector a verifier must name as the first that differs: `k` where both do, `hidden` in the virtual layer. */
  part: 'k' | 'v' | 'hidden'
}

export interface CanaryOptions {
  /** Secret, 16 to 64 bytes as hex. Equal seeds and proofs give equal canaries. */
  seed: string
  /** Canaries, or pairs of them where vectors are swapped; 1 unless stated. */
  count?: number
  /**
   * `bit`: the lowest bit of one value is flipped, which only bit-equal numerics can see. `swap`: two neighbours in one
   * layer change places, which a tolerant comparison sees too. Default `bit`.
   */
  kind?: 'bit' | 'swap'
}

/** A proof to hand out, and what to look for in the verdict. */
export interface PlantedProof {
  proof: Proof
  /** In (layer, position) order. */
  canaries: Canary[]
}

/** What a verdict shows about its verifier. */
export interface CanaryScore {
  /**
   * `failed`: no verifier that computed can have said this. `undecided`: nothing was found out, as after an abort; or
   * something beside the canaries was reported, and the proof may be wrong there.
   */
  result: 'passed' | 'failed' | 'undecided'
  /** Canaries that the verdict says are as they should be. */
  missed: SampleIndex[]
  /** Reported as mismatched, but no canaries. */
  unexpected: SampleIndex[]
}

/** The part of a verdict, or of a comparison without one, that is scored. */
export interface Reported extends Pick<Verdict, 'matched' | 'mismatched' | 'unchecked' | 'firstMismatch'> {
  status?: VerdictStatus
}

/**
 * A copy of a proof with some of its samples corrupted.
 *
 * Corrupted vectors are finite and of the sizes that honest ones have: only recomputing tells them apart. One canary
 * is the best trap: an honest verifier stops at the first layer that has one, and more of them lie nearer to the start.
 * Who can compare two copies of a proof sees where they differ, so all that are handed out must be alike.
 *
 * Where the generator committed to its vectors, a changed sample has no path to the root; the copy then has no paths at
 * all, and is for verifiers that compare samples alone (`recompute`, `matchRecomputed`).
 * @throws {PocError} INVALID_ARGUMENT: among them, a proof that does not carry its samples, or has fewer than `count`
 *   that can be corrupted unnoticed.
 */
export function plantCanaries(proof: Proof, options: CanaryOptions): PlantedProof {
  const { seed, count = 1, kind = 'bit' } = fieldsOf(options, 'options', 'INVALID_ARGUMENT') as unknown as CanaryOptions
  const secret = bytesOf(hexOf(seed, 16, MAX_SEED_BYTES, 'options.seed', 'INVALID_ARGUMENT'))
  integerIn(count, 1, MAX_SAMPLES, 'options.count', 'INVALID_ARGUMENT')
  if (kind !== 'bit' && kind !== 'swap') throw wrongValue('INVALID_ARGUMENT', 'options.kind', "'bit' or 'swap'", kind)
  const planted = copyProof(proof)
  if (planted.header.form !== 'rows') {
    throw wrongValue(
      'INVALID_ARGUMENT',
      'proof.header.form',
      "'rows': others tell a changed vector",
      planted.header.form,
    )
  }
  if ('path' in planted) planted.path = new Uint8Array(0)
  const key = taggedHash('canary', bytesOf(planted.contextDigest), secret)
  const draw = uniformIntegers(contextHash('canary'), key)
  const canaries = kind === 'bit' ? flipBits(planted, count, draw) : swapNeighbours(planted.samples, count, draw)
  return { proof: planted, canaries }
}

/**
 * Scores a verdict (one that passes `checkVerdict`) on a proof with canaries.
 *
 * An honest verifier names exactly the canaries of the first layer that has one, and leaves later layers unchecked.
 * @param options.honest - Whether the requester knows that the proof was right before it was corrupted. If it does not,
 *   a verifier is never blamed for reporting more than the canaries.
 * @throws {PocError} INVALID_ARGUMENT
 */
export function scoreCanaries(
  canaries: readonly Canary[],
  verdict: Reported,
  options: { honest?: boolean } = {},
): CanaryScore {
  givenList(VECTOR_NAME, canaries, 'canaries')
  fieldsOf(verdict, 'verdict', 'INVALID_ARGUMENT')
  fieldsOf(options, 'options', 'INVALID_ARGUMENT')
  for (const key of ['matched', 'mismatched', 'unchecked'] as const) {
    givenList(SAMPLE_INDEX, verdict[key], `verdict.${key}`)
  }
  if (verdict.firstMismatch !== null) given(VECTOR_NAME, verdict.firstMismatch, 'verdict.firstMismatch')
  if (canaries.length === 0) throw wrongValue('INVALID_ARGUMENT', 'canaries', 'one or more', canaries)
  const matched = new Set(verdict.matched.map(String))
  const planted = new Map(canaries.map((canary) => [String(indexOf(canary)), canary]))
  const { firstMismatch } = verdict
  const blamed = firstMismatch && planted.get(String(indexOf(firstMismatch)))
  const wrongPart = blamed?.part === 'k' && firstMismatch?.part === 'v' // says that K is as it should be
  const missed = canaries.filter((one) => matched.has(String(indexOf(one))) || (wrongPart && one === blamed))
  const unexpected = verdict.mismatched.filter((index) => !planted.has(String(index)))
  const score = { missed: missed.map(indexOf), unexpected }
  if (missed.length > 0 || verdict.status === 'accepted') return { result: 'failed', ...score }
  if (isExact(canaries, verdict)) return { result: 'passed', ...score }
  const saysNothing = verdict.mismatched.length === 0 && verdict.status !== 'rejected'
  return { result: options.honest && !saysNothing ? 'failed' : 'undecided', ...score }
}

function isExact(canaries: readonly Canary[], { mismatched, unchecked, firstMismatch }: Reported): boolean {
  const stop = Math.min(...canaries.map(({ layer }) => layer))
  const due = canaries.filter(({ layer }) => layer === stop)
  const named = new Set(mismatched.map(String))
  return (
    mismatched.length === due.length &&
    due.every((canary) => named.has(String(indexOf(canary)))) &&
    unchecked.every(([layer]) => layer > stop) &&
    due.some(({ position, part }) => firstMismatch?.position === position && firstMismatch.part === part)
  )
}

function indexOf({ layer, position }: { layer: number; position: number }): SampleIndex {
  return [layer, position]
}

function flipBits({ header, samples }: Proof, count: number, draw: Draw): Canary[] {
  // The hidden state of the virtual layer is in f32, whatever the cache is in.
  const dtypeOf = (sample: KvSample): KvDtype => (sample.layer < header.numLayers ? header.kvDtype : 'f32')
  const places = samples.map((sample) => ({
    sample,
    k: ordinaryValues(sample.k, dtypeOf(sample)),
    v: ordinaryValues(sample.v, dtypeOf(sample)),
  }))
  const fit = places.filter(({ k, v }) => k.length + v.length > 0)
  return chosen(fit, count, draw).map(({ sample, k, v }) => {
    const part = k.length === 0 || (v.length > 0 && draw(2) === 1) ? 'v' : 'k'
    const offsets = part === 'k' ? k : v
    sample[part][offsets[draw(offsets.length)]] ^= 1
    return canaryAt(sample, part)
  })
}

// Byte offsets of the values that stay ordinary when their lowest bit flips: no zeros, denormals, infinities, NaNs.
function ordinaryValues(row: Uint8Array, dtype: KvDtype): number[] {
  const width = KV_DTYPE_BYTES[dtype]
  const exponentMask = dtype === 'f16' ? 0x7c00 : 0x7f80
  const offsets: number[] = []
  for (let at = 0; at + width <= row.length; at += width) {
    const exponent = (row[at + width - 2] | (row[at + width - 1] << 8)) & exponentMask
    if (exponent !== 0 && exponent !== exponentMask) offsets.push(at)
  }
  return offsets
}

// Both vectors of two that stand side by side in one layer; position 0 stands out in real models, so it stays.
function swapNeighbours(samples: readonly KvSample[], count: number, draw: Draw): Canary[] {
  const pairs: [KvSample, KvSample][] = []
  for (let i = 1; i < samples.length; i++) {
    const [a, b] = [samples[i - 1], samples[i]]
    if (a.layer !== b.layer || a.position === 0 || Buffer.compare(a.k, b.k) === 0) continue
    pairs.push([a, b])
    i++ // each sample in one pair at most
  }
  return chosen(pairs, count, draw).flatMap(([a, b]): Canary[] => {
    ;[a.k, b.k] = [b.k, a.k]
    ;[a.v, b.v] = [b.v, a.v]
    return [canaryAt(a, 'k'), canaryAt(b, 'k')]
  })
}

// The virtual layer has one vector, which takes the place of K and has a name of its own.
function canaryAt({ layer, position, v }: KvSample, part: 'k' | 'v'): Canary {
  return { layer, position, part: v.length === 0 ? 'hidden' : part }
}

function chosen<T>(candidates: readonly T[], count: number, draw: Draw): T[] {
  if (count <= candidates.length) return anySubset(draw, count, candidates.length).map((i) => candidates[i])
  const expected = `at most ${candidates.length}, the samples that can be corrupted unnoticed`
  throw wrongValue('INVALID_ARGUMENT', 'options.count', expected, count)
}
