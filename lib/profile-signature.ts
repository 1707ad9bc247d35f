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
 * The profile of a signed one, read from parsed JSON.
 *
 * @param trustedKeys - Public keys whose profiles are taken, 32 bytes in hex.
 * @throws {PocError} INVALID_ARGUMENT where it is malformed, by another key, or its signature is not that key's.
 */
export function verifyProfile(json: unknown, trustedKeys: readonly string[]): ToleranceProfile {
  if (typeof json !== 'object' || json === null)
    throw wrongValue('INVALID_ARGUMENT', 'signed profile', 'an object', json)
  const { profile: given, publicKey, signature } = json as Record<string, unknown>
  const extra = Object.keys(json).find((name) => !['profile', 'publicKey', 'signature'].includes(name))
  if (extra !== undefined) {
    throw wrongValue('INVALID_ARGUMENT', 'signed profile', 'of profile, publicKey, signature', extra)
  }
  const profile = parseProfile(given)
  const key = hexOf(publicKey, 32, 32, 'publicKey', 'INVALID_ARGUMENT')
  if (!trustedKeys.includes(key)) throw wrongValue('INVALID_ARGUMENT', 'publicKey', 'one that is trusted', key)
  const bytes = Buffer.from(hexOf(signature, 64, 64, 'signature', 'INVALID_ARGUMENT'), 'hex')
  const jwk = { kty: 'OKP', crv: 'Ed25519', x: Buffer.from(key, 'hex').toString('base64url') }
  const keyObject = ed25519(() => createPublicKey({ key: jwk, format: 'jwk' }), 'publicKey', 'an Ed25519 public key')
  if (verify(null, profileBytes(profile), keyObject, bytes)) return profile
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
