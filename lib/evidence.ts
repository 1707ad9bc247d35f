// The evidence bundle: a proof, the verdict on it, and what was asked for, in one file that anybody checks again.
import { isDeepStrictEqual } from 'node:util'
import { checkVerdict } from './check'
import { PocError, wrongValue } from './errors'
import { fieldsOf } from './header'
import { hexOf } from './hex'
import { MAX_EVIDENCE_PROOF_CHARS, MAX_SEED_BYTES } from './limits'
import type { Model } from './model'
import { checkNames, checkOptions } from './options'
import { bareProfile, isSignedBy, profileDigest, readProfile, type StatedProfile } from './profile-signature'
import { tokenIds } from './prove'
import { decodeProof, encodeProof, type Proof } from './proof'
import { EXACT, type ReplayDemands } from './replay'
import { reverify, unverifiableReasons } from './reverify'
import type { Request } from './structure'
import { parseVerdict, type ReasonCode, type Verdict } from './verdict'
import type { VerifyOptions } from './verify'

/** What the verifier was told, as far as its verdict depends on it. */
export interface EvidenceDemands extends Pick<ReplayDemands, 'replay' | 'replaySeed' | 'probabilityTest'> {
  nonce?: string
  beacon?: string
  root?: string
  request?: Request
  maxFlops?: number
}

/** Plain JSON. */
export interface Evidence {
  version: 1
  /** Base64 of the encoded proof. */
  proof: string
  verdict: Verdict
  demands: EvidenceDemands
  /** The tolerance profile that the verdict rests on, signed where its verifier had it signed; null in `ieee32`. */
  profile: StatedProfile | null
}

/** What an audit found; `valid` when there are no problems. */
export interface Audit {
  valid: boolean
  problems: { code: string; message: string }[]
  /** Whether all that the verdict says was verified again and holds: with a model, nothing being `unverifiable`. */
  verified: boolean
  /**
   * What the verdict rests on that is somebody's word alone: its reasons `replayed`, where the audit was given no
   * `seen`, and `aborted`; and `profile_untrusted`, where it depends on a tolerance profile that none of the audit's
   * `profileKeys` has signed. Everything beside them is checked.
   */
  unverifiable: (ReasonCode | 'profile_untrusted')[]
}

export interface AuditOptions extends Omit<VerifyOptions, keyof EvidenceDemands | 'profile'> {
  /** Public keys whose tolerance profiles are trusted, Ed25519, 32 bytes in hex. Default: none. */
  profileKeys?: readonly string[]
}

const AUDIT_OPTIONS: Readonly<Record<keyof AuditOptions, true>> = {
  profileKeys: true,
  seen: true,
  tokenSampler: true,
  layerSampler: true,
  chunkSize: true,
  signal: true,
  onProgress: true,
}

/**
 * @param profile - What the verdict rests on where numerics are not `ieee32`; signed, for an audit to trust it.
 * @throws {PocError} INVALID_ARGUMENT; PROOF_TOO_LARGE over 192 MiB
 */
export function createEvidence(
  proof: Proof,
  verdict: Verdict,
  demands: EvidenceDemands = {},
  profile: StatedProfile | null = null,
): Evidence {
  const { nonce, beacon, root, request, replay, replaySeed, probabilityTest } = demands
  const maxFlops = demands.maxFlops === Number.POSITIVE_INFINITY ? undefined : demands.maxFlops // JSON has none
  const asked = request && { ...request, ...(request.prompt && { prompt: [...tokenIds(request.prompt, 'prompt')] }) }
  const told = { nonce, beacon, root, request: asked, replay, replaySeed, probabilityTest, maxFlops }
  const encoded = Buffer.from(encodeProof(proof, { maxBytes: (MAX_EVIDENCE_PROOF_CHARS / 4) * 3 })).toString('base64')
  const stated = profile === null ? null : readProfile(profile)
  return { version: 1, proof: encoded, verdict, demands: JSON.parse(JSON.stringify(told)), profile: stated }
}

/**
 * Reads a bundle from parsed JSON.
 *
 * @throws {PocError} EVIDENCE_MALFORMED, VERDICT_MALFORMED, PROOF_MALFORMED, PROOF_TOO_LARGE
 */
export function parseEvidence(json: unknown): Evidence & { decoded: Proof } {
  const { version, proof, verdict, demands, profile, ...others } = fieldsOf(json, 'evidence', 'EVIDENCE_MALFORMED')
  const malformed = (where: string, expected: string, value: unknown) =>
    wrongValue('EVIDENCE_MALFORMED', `evidence.${where}`, expected, value)
  const [unknownKey] = Object.keys(others)
  if (unknownKey !== undefined) throw malformed(unknownKey, 'absent', others[unknownKey])
  if (version !== 1) throw malformed('version', '1', version)
  if (typeof proof === 'string' && proof.length > MAX_EVIDENCE_PROOF_CHARS) {
    throw malformed('proof', `at most ${MAX_EVIDENCE_PROOF_CHARS} characters`, proof.length)
  }
  const isBase64 = typeof proof === 'string' && /^[A-Za-z0-9+/]*={0,2}$/.test(proof) && proof.length % 4 === 0
  if (!isBase64) throw malformed('proof', 'base64', proof)
  return {
    version,
    proof,
    decoded: decodeProof(new Uint8Array(Buffer.from(proof, 'base64'))),
    verdict: parseVerdict(verdict),
    demands: demandsOf(demands),
    profile: profile === null ? null : profileOf(profile),
  }
}

function profileOf(value: unknown): StatedProfile {
  try {
    return readProfile(value)
  } catch (cause) {
    if (!(cause instanceof PocError)) throw cause
    const { message, expected, received } = cause
    const where = 'evidence.profile'
    throw new PocError('EVIDENCE_MALFORMED', `${where}: ${message}`, { where, expected, received, cause })
  }
}

function demandsOf(value: unknown): EvidenceDemands {
  const code = 'EVIDENCE_MALFORMED'
  const fields = fieldsOf(value, 'evidence.demands', code)
  const { nonce, beacon, root, request, replay, replaySeed, probabilityTest, maxFlops, ...others } = fields
  const [unknownKey] = Object.keys(others)
  if (unknownKey !== undefined) throw wrongValue(code, `evidence.demands.${unknownKey}`, 'absent', others[unknownKey])
  const demands: EvidenceDemands = {}
  for (const [name, given] of Object.entries({ nonce, beacon, root, replaySeed })) {
    if (given === undefined) continue
    const text = typeof given === 'string' ? given.toLowerCase() : given
    demands[name as 'nonce'] = hexOf(text, 0, MAX_SEED_BYTES, `evidence.demands.${name}`, code)
  }
  if (request !== undefined) demands.request = fieldsOf(request, 'evidence.demands.request', code)
  if (replay !== undefined) {
    const isShare = typeof replay === 'string' && replay.length <= 24
    if (!isShare) throw wrongValue(code, 'evidence.demands.replay', "'all', 'none' or a share", replay)
    demands.replay = replay
  }
  if (probabilityTest !== undefined) {
    if (typeof probabilityTest !== 'boolean') {
      throw wrongValue(code, 'evidence.demands.probabilityTest', 'true or false', probabilityTest)
    }
    demands.probabilityTest = probabilityTest
  }
  if (maxFlops !== undefined) {
    const isLimit = typeof maxFlops === 'number' && Number.isFinite(maxFlops) && maxFlops >= 0
    if (!isLimit) throw wrongValue(code, 'evidence.demands.maxFlops', 'a number that is not negative', maxFlops)
    demands.maxFlops = maxFlops
  }
  return demands
}

/**
 * Checks a bundle again: everything that needs no model, and with one the whole verification, whose verdict must be
 * the same. Of a verdict that is `replayed` or `aborted` this takes the verifier at its word, see
 * {@link Audit.unverifiable}: it is held to the verdict of one that had accepted the binding, or was aborted behind as
 * many layers. A verdict in other numerics than `ieee32` is right under the bundle's own profile: somebody whom the
 * auditor trusts must have signed that one.
 *
 * @param options - `seen` is asked where the verdict is `replayed`, and never added to.
 * @throws {PocError} As {@link parseEvidence} and, with a model, {@link verify}; INVALID_ARGUMENT for custom samplers
 *   that were not given, and for an unknown option;
 *   aborted, it rejects with the signal's reason.
 */
export async function auditEvidence(json: unknown, model?: Model, options: AuditOptions = {}): Promise<Audit> {
  checkOptions(options)
  checkNames(options, AUDIT_OPTIONS)
  const { profileKeys = [], ...run } = options
  const trusted = keysOf(profileKeys)
  const { decoded, verdict, demands, profile } = parseEvidence(json)
  const { maxFlops: _, ...asked } = demands
  const { tokenSampler, layerSampler } = options
  const problems: Audit['problems'] = [
    ...checkVerdict(decoded, verdict, { tokenSampler, layerSampler, ...asked }).problems,
  ]
  const bare = profile && bareProfile(profile)
  const stated = bare && profileDigest(bare)
  if (verdict.profile !== null && verdict.profile !== stated) {
    problems.push({ code: 'other_profile', message: `the verdict rests on ${verdict.profile}, here is ${stated}` })
  }
  if (model) {
    const told = bare ? { ...demands, profile: bare } : demands
    const again = await reverify(model, decoded, verdict, { ...run, ...told })
    if (!isDeepStrictEqual(JSON.parse(JSON.stringify(again)), verdict)) {
      const found = `${again.status} (${again.reasons.map(({ code }) => code).join(', ')})`
      problems.push({ code: 'other_verdict', message: `verified again, it is ${found}, not the verdict of the bundle` })
    }
  }
  const unverifiable: Audit['unverifiable'] = unverifiableReasons(verdict, model && options.seen)
  if (profile && restsOnProfile(decoded, verdict) && !isSignedBy(profile, trusted))
    unverifiable.push('profile_untrusted')
  const valid = problems.length === 0
  const verified = valid && model !== undefined && unverifiable.length === 0
  return { valid, problems, verified, unverifiable }
}

/** Whether another profile could have given another verdict: none changes what a proof's structure says. */
function restsOnProfile({ header }: Proof, { profile, status }: Verdict): boolean {
  return header.numerics !== EXACT && (profile !== null || status === 'inconclusive')
}

function keysOf(keys: unknown): string[] {
  if (!Array.isArray(keys)) throw wrongValue('INVALID_ARGUMENT', 'options.profileKeys', 'a list of keys', keys)
  return Array.from(keys, (key: unknown, i) => {
    const text = typeof key === 'string' ? key.toLowerCase() : key
    return hexOf(text, 32, 32, `options.profileKeys[${i}]`, 'INVALID_ARGUMENT')
  })
}
