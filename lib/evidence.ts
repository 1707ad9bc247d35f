// The evidence bundle: a proof, the verdict on it, and what was asked for, in one file that anybody checks again.
import { isDeepStrictEqual } from 'node:util'
import { checkVerdict } from './check'
import { wrongValue } from './errors'
import { fieldsOf } from './header'
import { hexOf } from './hex'
import { DEFAULT_MAX_PROOF_BYTES, MAX_SEED_BYTES } from './limits'
import type { Model } from './model'
import { parseProfile } from './parse-profile'
import { profileDigest } from './profile-signature'
import { tokenIds } from './prove'
import { decodeProof, encodeProof, type Proof } from './proof'
import type { ReplayDemands } from './replay'
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
  /** The tolerance profile that the verdict rests on; null in `ieee32`. */
  profile: unknown
}

/** What an audit found; `valid` when there are no problems. */
export interface Audit {
  valid: boolean
  problems: { code: string; message: string }[]
  /** Whether all that the verdict says was verified again: with a model, and nothing `unverifiable`. */
  verified: boolean
  /**
   * Reasons of the verdict that are its verifier's word alone: `replayed`, where the audit was given no `seen`, and
   * `aborted`. Everything beside them is checked.
   */
  unverifiable: ReasonCode[]
}

/** @throws {PocError} INVALID_ARGUMENT, PROOF_TOO_LARGE */
export function createEvidence(
  proof: Proof,
  verdict: Verdict,
  demands: EvidenceDemands = {},
  profile: unknown = null,
): Evidence {
  const { nonce, beacon, root, request, replay, replaySeed, probabilityTest } = demands
  const maxFlops = demands.maxFlops === Number.POSITIVE_INFINITY ? undefined : demands.maxFlops // JSON has none
  const asked = request && { ...request, ...(request.prompt && { prompt: [...tokenIds(request.prompt, 'prompt')] }) }
  const told = { nonce, beacon, root, request: asked, replay, replaySeed, probabilityTest, maxFlops }
  const encoded = Buffer.from(encodeProof(proof)).toString('base64')
  return { version: 1, proof: encoded, verdict, demands: JSON.parse(JSON.stringify(told)), profile }
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
  const isBase64 = typeof proof === 'string' && /^[A-Za-z0-9+/]*={0,2}$/.test(proof) && proof.length % 4 === 0
  if (!isBase64) throw malformed('proof', 'base64', proof)
  if (proof.length > DEFAULT_MAX_PROOF_BYTES) throw malformed('proof', 'at most 256 MiB', proof.length)
  if (profile === undefined) throw malformed('profile', 'a profile or null', profile)
  return {
    version,
    proof,
    decoded: decodeProof(new Uint8Array(Buffer.from(proof, 'base64'))),
    verdict: parseVerdict(verdict),
    demands: demandsOf(demands),
    profile,
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
 * many layers.
 *
 * @param options - `seen` is asked where the verdict is `replayed`, and never added to.
 * @throws {PocError} As {@link parseEvidence} and, with a model, {@link verify}; INVALID_ARGUMENT for custom samplers;
 *   aborted, it rejects with the signal's reason.
 */
export async function auditEvidence(
  json: unknown,
  model?: Model,
  options: Omit<VerifyOptions, keyof EvidenceDemands> = {},
): Promise<Audit> {
  const { decoded, verdict, demands, profile } = parseEvidence(json)
  const { nonce, beacon, root, request, replay, replaySeed, probabilityTest } = demands
  const { tokenSampler, layerSampler } = options
  const checked = { nonce, beacon, root, request, replay, replaySeed, probabilityTest }
  const problems: Audit['problems'] = [
    ...checkVerdict(decoded, verdict, { tokenSampler, layerSampler, ...checked }).problems,
  ]
  const stated = profile === null ? null : profileDigest(parseProfile(profile))
  if (verdict.profile !== null && verdict.profile !== stated) {
    problems.push({ code: 'other_profile', message: `the verdict rests on ${verdict.profile}, here is ${stated}` })
  }
  if (model) {
    const told = profile === null ? demands : { ...demands, profile: parseProfile(profile) }
    const again = await reverify(model, decoded, verdict, { ...options, ...told })
    if (!isDeepStrictEqual(JSON.parse(JSON.stringify(again)), verdict)) {
      const found = `${again.status} (${again.reasons.map(({ code }) => code).join(', ')})`
      problems.push({ code: 'other_verdict', message: `verified again, it is ${found}, not the verdict of the bundle` })
    }
  }
  const unverifiable = unverifiableReasons(verdict, model && options.seen)
  const verified = model !== undefined && unverifiable.length === 0
  return { valid: problems.length === 0, problems, verified, unverifiable }
}
