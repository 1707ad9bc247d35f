// A verifier's sealed result: published before the claimed vectors are shown to it, opened afterwards. So it did not
// take them from there; that it has them from nobody else either, only agreement with other verifiers can show.
import { randomBytes, timingSafeEqual } from 'node:crypto'
import { claimedDigests, firstDivergence, type LayerDigest } from './agreement'
import { contextOf, type ProofHeader } from './binding'
import { planOf } from './challenge'
import type { Samplers } from './custom-sampler'
import { type ErrorCode, wrongValue } from './errors'
import { le32, taggedHash } from './hash'
import { fieldsOf } from './header'
import { bytesOf, hexFrom, hexOf } from './hex'
import type { KvSample } from './kv'
import { integerIn, MAX_LAYERS } from './limits'
import { isVerifierId } from './payoff'
import { checkProof, checkSubject, type Proof } from './proof'
import type { Verdict } from './verdict'

/** A proof without anything that says what its samples are: what a verifier needs to recompute them. */
export interface BlindProof {
  header: ProofHeader
  tokens: Uint32Array
  contextDigest: string
  /** Hex, `''` where the generator did not commit to its vectors. */
  root: string
  /** `''` where there is none. */
  beacon: string
}

/** What a verifier seals. */
export interface SealedResult {
  readonly verifier: string
  /** What was recomputed: {@link sealSubject} of the blind proof, 64 hex digits. */
  readonly subject: string
  /** Of every sampled layer: a blind verifier cannot know where the first mismatch will be, so it computes them all. */
  readonly digests: readonly LayerDigest[]
  /** Whether it rejects the proof whatever its samples are, since the tokens are not those that the model chooses. */
  readonly refuted: boolean
}

/** What opens a seal. */
export interface SealOpening extends SealedResult {
  /** 32 bytes, hex: without it, a seal could be tried for known results. */
  readonly salt: string
}

/** What a sealed result says about claimed samples. */
export interface SealedOutcome {
  status: 'accepted' | 'rejected'
  /** The layer of the first mismatch, or the deepest one. */
  layer: number
  /** The sealed digest of that layer: that of the verdict of a verifier that stops there. */
  samplesDigest: string
}

/** Stable codes of what a verdict and the seal before it contradict each other in. */
export type SealProblem =
  | 'subject' // another proof was recomputed; nothing else is compared then
  | 'status' // not the one that the sealed result gives
  | 'stopping_layer' // it names a first mismatch at another layer
  | 'samples_digest' // not the digest that was sealed for that layer

/**
 * What a user hands to a verifier that is to be blind.
 *
 * @throws {PocError} INVALID_ARGUMENT
 */
export function blindProof(proof: BlindProof): BlindProof {
  // Only what is named there: a field that a proof gets in future may tell of its samples.
  const checked = checkSubject(proof, 'proof', 'INVALID_ARGUMENT')
  return { ...checked, tokens: new Uint32Array(checked.tokens) }
}

/**
 * The digest of what a blind verifier was given, 64 hex digits: context digest (of header and tokens), root, beacon.
 *
 * @throws {PocError} INVALID_ARGUMENT: among them, a context digest that is not that of header and tokens. Whoever
 *   computed on such tokens would have sealed something else under the name of the real proof.
 */
export function sealSubject(blind: BlindProof): string {
  const { header, tokens, ...digests } = checkSubject(blind, 'blind', 'INVALID_ARGUMENT')
  const context = contextOf(header, tokens)
  if (digests.contextDigest === context) return subjectOf(digests)
  const expected = `that of header and tokens, ${context}`
  throw wrongValue('INVALID_ARGUMENT', 'blind.contextDigest', expected, digests.contextDigest)
}

/** {@link sealSubject} of a proof whose context digest is known to be that of its tokens. */
export function subjectOf({ contextDigest, root, beacon }: Omit<BlindProof, 'header' | 'tokens'>): string {
  const texts = [root, beacon].map((text) => new Uint8Array(Buffer.from(text, 'utf8')))
  return hexFrom(taggedHash('blind', bytesOf(contextDigest), le32(texts.map(({ length }) => length)), ...texts))
}

/**
 * Seals a result: the seal is published at once, the opening kept until the claimed samples were shown.
 *
 * The verifier's id is in the seal, so that nobody can publish another's seal as its own.
 * @param salt - 32 bytes as hex; random unless given.
 * @throws {PocError} INVALID_ARGUMENT
 */
export function sealVerdict(
  result: SealedResult,
  salt: string = randomBytes(32).toString('hex'),
): { seal: string; opening: SealOpening } {
  const opening = readOpening({ ...result, salt }, 'result', 'INVALID_ARGUMENT')
  return { seal: sealOf(opening), opening }
}

/**
 * What a seal and a claim are compared by: the digest of the sampled layers and of all samples, 64 hex digits.
 *
 * A digest of a digest, so that it may be published: who has only this can seal nothing that it is the digest of.
 * @param digests - Running digests, of all sampled layers.
 * @throws {PocError} INVALID_ARGUMENT
 */
export function resultDigest(digests: readonly LayerDigest[]): string {
  const checked = readDigests(digests, 'digests', 'INVALID_ARGUMENT')
  const [, last] = checked[checked.length - 1]
  return digestOfResult(
    checked.map(([layer]) => layer),
    last,
  )
}

/**
 * {@link resultDigest} of what a proof claims, by its samples or by the one digest that stands for them.
 *
 * @param samplers - Only for custom ones, in a proof of the form `digest`.
 * @throws {PocError} INVALID_ARGUMENT: among them, a proof without samples, and one of sketches, whose digests are not
 *   those of the vectors that verifiers seal
 */
export function claimedResult(proof: Proof, samplers: Samplers = {}): string {
  const checked = checkProof(proof, 'INVALID_ARGUMENT')
  const { form } = checked.header
  if (form === 'sketch') throw wrongValue('INVALID_ARGUMENT', 'proof.header.form', "'rows' or 'digest'", form)
  if (form === 'rows') return resultDigest(claimedDigests(checked.samples))
  return digestOfResult([...planOf(checked, samplers).plan.layers.keys()], checked.samplesDigest)
}

function digestOfResult(layers: readonly number[], samplesDigest: string): string {
  return hexFrom(taggedHash('sealed-result', le32([layers.length, ...layers]), bytesOf(samplesDigest)))
}

/**
 * Whether an opening is that of a seal.
 *
 * @throws {PocError} INVALID_ARGUMENT: no seal, or no opening
 */
export function checkSeal(sealed: string, opening: SealOpening): boolean {
  const expected = bytesOf(hexOf(sealed, 32, 32, 'seal', 'INVALID_ARGUMENT'))
  return timingSafeEqual(expected, bytesOf(sealOf(readOpening(opening, 'opening', 'INVALID_ARGUMENT'))))
}

/**
 * What a sealed result says about claimed samples, without a model and in the verifier's absence.
 *
 * For bit-equal numerics. The layers are those of the plan: where the result lacks one of them, or has another, it
 * rejects there.
 * @throws {PocError} INVALID_ARGUMENT: a proof without samples, no digests, or another proof than the result is about
 */
export function sealedOutcome(result: SealedResult, proof: Proof): SealedOutcome {
  const checked = readResult(result, 'result', 'INVALID_ARGUMENT')
  const subject = sealSubject(checkProof(proof, 'INVALID_ARGUMENT'))
  if (checked.subject === subject) return outcomeOf(checked, proof.samples)
  throw wrongValue('INVALID_ARGUMENT', 'result.subject', `that of the proof, ${subject}`, checked.subject)
}

function outcomeOf({ digests, refuted }: Pick<SealedResult, 'digests' | 'refuted'>, samples: readonly KvSample[]) {
  const claimed = claimedDigests(samples)
  if (claimed.length === 0) throw wrongValue('INVALID_ARGUMENT', 'proof.samples', 'one or more', samples)
  const deepest = Math.max(claimed[claimed.length - 1][0], digests[digests.length - 1][0])
  const divergence = firstDivergence(digests, claimed) ?? (digests.length === claimed.length ? null : deepest)
  const layer = divergence ?? deepest
  const samplesDigest = (digests.find(([sealedLayer]) => sealedLayer === layer) ?? digests[digests.length - 1])[1]
  const status = divergence !== null || refuted ? ('rejected' as const) : ('accepted' as const)
  return { status, layer, samplesDigest }
}

/**
 * Checks a verdict on a proof against the result that its verifier had sealed; empty when they go together.
 *
 * A verifier that is not blind any more stops at the first layer with a mismatch, as always, so only the digest of that
 * layer is in its verdict.
 * @throws {PocError} INVALID_ARGUMENT: a proof without samples
 */
export function checkSealedVerdict(
  result: SealedResult,
  proof: Proof,
  verdict: Pick<Verdict, 'status' | 'firstMismatch' | 'samplesDigest'>,
): SealProblem[] {
  fieldsOf(verdict, 'verdict', 'INVALID_ARGUMENT')
  const { subject, digests, refuted } = readResult(result, 'result', 'INVALID_ARGUMENT')
  const { samples } = checkProof(proof, 'INVALID_ARGUMENT')
  if (subject !== sealSubject(proof)) return ['subject']
  const { status, layer, samplesDigest } = outcomeOf({ digests, refuted }, samples)
  const mismatches = outcomeOf({ digests, refuted: false }, samples).status === 'rejected'
  const problems: SealProblem[] = []
  if (verdict.status !== status) problems.push('status')
  if ((verdict.firstMismatch?.layer ?? null) !== (mismatches ? layer : null)) problems.push('stopping_layer')
  if (verdict.samplesDigest !== samplesDigest) problems.push('samples_digest')
  return problems
}

function sealOf({ verifier, subject, digests, refuted, salt }: SealOpening): string {
  const id = new Uint8Array(Buffer.from(verifier, 'latin1'))
  const layers = digests.flatMap(([layer, digest]) => [le32([layer]), bytesOf(digest)])
  const counts = le32([refuted ? 1 : 0, digests.length])
  return hexFrom(taggedHash('seal', le32([id.length]), id, bytesOf(subject), counts, ...layers, bytesOf(salt)))
}

/** A clean, frozen copy of an opening of unknown form. */
export function readOpening(value: unknown, where: string, code: ErrorCode): SealOpening {
  const { salt } = fieldsOf(value, where, code)
  return Object.freeze({ ...readResult(value, where, code), salt: hexOf(salt, 32, 32, `${where}.salt`, code) })
}

function readResult(value: unknown, where: string, code: ErrorCode): SealedResult {
  const { verifier, subject, digests, refuted } = fieldsOf(value, where, code)
  if (!isVerifierId(verifier)) throw wrongValue(code, `${where}.verifier`, "a verifier's id", verifier)
  if (typeof refuted !== 'boolean') throw wrongValue(code, `${where}.refuted`, 'true or false', refuted)
  const read = readDigests(digests, `${where}.digests`, code)
  return { verifier, subject: hexOf(subject, 32, 32, `${where}.subject`, code), digests: read, refuted }
}

function readDigests(digests: unknown, where: string, code: ErrorCode): readonly LayerDigest[] {
  if (!Array.isArray(digests)) throw wrongValue(code, where, 'an array', digests)
  // The virtual layer comes after the model's own.
  integerIn(digests.length, 1, MAX_LAYERS + 1, `${where}.length`, code)
  let least = 0
  const read = digests.map((each: unknown, i): LayerDigest => {
    const at = `${where}[${i}]`
    if (!Array.isArray(each) || each.length !== 2) throw wrongValue(code, at, '[layer, digest]', each)
    const layer = integerIn(each[0], least, MAX_LAYERS, `${at}[0]`, code)
    least = layer + 1
    return Object.freeze([layer, hexOf(each[1], 32, 32, `${at}[1]`, code)] as const)
  })
  return Object.freeze(read)
}
