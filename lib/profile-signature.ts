// A profile's bytes, its digest, and the signature of whoever calibrated it.

import { createHash, createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto'
import { PocError, wrongValue } from './errors'
import { hexFrom, hexOf } from './hex'
import { parseProfile } from './parse-profile'
import type { ToleranceProfile } from './tolerance'

/** A profile as it is handed around. */
export interface SignedProfile {
  profile: ToleranceProfile
  /** Ed25519 public key, 32 bytes in hex. */
  publicKey: string
  /** Over {@link profileBytes}, 64 bytes in hex. */
  signature: string
}

/** A profile as somebody hands it over, signed or bare. */
export type StatedProfile = ToleranceProfile | SignedProfile

const TAG = 'proof-of-cache/v1/profile\0'

/**
 * What is signed: ASCII "proof-of-cache/v1/profile", a zero byte, and the profile's JSON with sorted keys and no
 * blanks (RFC 8785, which all of its values are in reach of: ASCII strings, finite numbers).
 *
 * @throws {PocError} INVALID_ARGUMENT
 */
export function profileBytes(profile: ToleranceProfile): Uint8Array {
  return new Uint8Array(Buffer.from(TAG + canonicalJson(parseProfile(profile)), 'latin1'))
}

/** SHA-256 of {@link profileBytes}, 64 hex digits: the profile's name in a verdict. */
export function profileDigest(profile: ToleranceProfile): string {
  return createHash('sha256').update(profileBytes(profile)).digest('hex')
}

/**
 * Signs a profile by RFC 8032.
 *
 * @param privateKey - Ed25519, in PEM (PKCS #8).
 * @throws {PocError} INVALID_ARGUMENT
 */
export function signProfile(profile: ToleranceProfile, privateKey: string): SignedProfile {
  const signature = hexFrom(sign(null, profileBytes(profile), signingKey(privateKey)))
  return { profile: parseProfile(profile), publicKey: publicKeyOf(privateKey), signature }
}

/**
 * The public key of a private one, 32 bytes in hex.
 *
 * @param privateKey - Ed25519, in PEM (PKCS #8).
 * @throws {PocError} INVALID_ARGUMENT
 */
export function publicKeyOf(privateKey: string): string {
  const { x } = createPublicKey(signingKey(privateKey)).export({ format: 'jwk' })
  return hexFrom(Buffer.from(x as string, 'base64url'))
}

function signingKey(privateKey: string): KeyObject {
  return ed25519(() => createPrivateKey(privateKey), 'privateKey', 'an Ed25519 private key in PEM')
}

/**
 * Reads a profile from parsed JSON, signed or bare. Whether the signature is right is {@link isSignedBy}'s question.
 *
 * @throws {PocError} INVALID_ARGUMENT
 */
export function readProfile(json: unknown): StatedProfile {
  if (typeof json !== 'object' || json === null || !Object.hasOwn(json, 'profile')) return parseProfile(json)
  const { profile, publicKey, signature, ...others } = json as Record<string, unknown>
  const [extra] = Object.keys(others)
  if (extra !== undefined) {
    throw wrongValue('INVALID_ARGUMENT', 'signed profile', 'of profile, publicKey, signature', extra)
  }
  return {
    profile: parseProfile(profile),
    publicKey: hexOf(publicKey, 32, 32, 'publicKey', 'INVALID_ARGUMENT'),
    signature: hexOf(signature, 64, 64, 'signature', 'INVALID_ARGUMENT'),
  }
}

/** The profile without its signature. */
export function bareProfile(stated: StatedProfile): ToleranceProfile {
  return 'signature' in stated ? stated.profile : stated
}

/**
 * Whether one of these keys has signed a profile; none has signed a bare one.
 *
 * @param trustedKeys - 32 bytes in lowercase hex each.
 * @throws {PocError} INVALID_ARGUMENT for a trusted key that is none.
 */
export function isSignedBy(stated: StatedProfile, trustedKeys: readonly string[]): boolean {
  return 'signature' in stated && trustedKeys.includes(stated.publicKey) && isSignatureRight(stated)
}

function isSignatureRight({ profile, publicKey, signature }: SignedProfile): boolean {
  const jwk = { kty: 'OKP', crv: 'Ed25519', x: Buffer.from(publicKey, 'hex').toString('base64url') }
  const key = ed25519(() => createPublicKey({ key: jwk, format: 'jwk' }), 'publicKey', 'an Ed25519 public key')
  return verify(null, profileBytes(profile), key, Buffer.from(signature, 'hex'))
}

/**
 * The profile of a signed one, read from parsed JSON.
 *
 * @param trustedKeys - Public keys whose profiles are taken, 32 bytes in hex.
 * @throws {PocError} INVALID_ARGUMENT where it is malformed, by another key, or its signature is not that key's.
 */
export function verifyProfile(json: unknown, trustedKeys: readonly string[]): ToleranceProfile {
  const signed = readProfile(json)
  if (!('signature' in signed)) throw wrongValue('INVALID_ARGUMENT', 'signed profile', 'signed', 'a bare profile')
  const { profile, publicKey } = signed
  if (!trustedKeys.includes(publicKey))
    throw wrongValue('INVALID_ARGUMENT', 'publicKey', 'one that is trusted', publicKey)
  if (isSignatureRight(signed)) return profile
  throw wrongValue('INVALID_ARGUMENT', 'signature', "the key's own over this profile", 'another')
}

function ed25519(make: () => KeyObject, where: string, expected: string): KeyObject {
  try {
    const key = make()
    if (key.asymmetricKeyType === 'ed25519') return key
  } catch (cause) {
    throw new PocError('INVALID_ARGUMENT', `${where} must be ${expected}`, { where, expected, cause })
  }
  throw wrongValue('INVALID_ARGUMENT', where, expected, 'a key of another kind')
}

function canonicalJson(value: unknown): string {
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`
  const fields = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
  return `{${fields.map(([key, field]) => `${JSON.stringify(key)}:${canonicalJson(field)}`).join(',')}}`
}
