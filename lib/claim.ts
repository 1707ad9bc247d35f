// The bytes of a claim, as docs/FORMATS.md lays them out: a proof without samples, for everybody to see beforehand.
import { decodeCanonical, encodeCanonical } from './cbor'
import type { Claim } from './challenge'
import { type ErrorCode, PocError, wrongValue } from './errors'
import { le32 } from './hash'
import { checkHeader, fieldsOf, headerFields, headerOf } from './header'
import { bytesOf, hexFrom, hexOf } from './hex'
import { integerIn, MAX_TOKENS, MIN_TOKENS } from './limits'
import { bytesIn, words } from './sample-groups'

const FORMAT = 'proof-of-cache/claim'
const MAX_CLAIM_BYTES = 4 * MAX_TOKENS + 2 ** 14

/**
 * The bytes of a claim.
 *
 * @throws {PocError} INVALID_ARGUMENT
 */
export function encodeClaim(claim: Claim): Uint8Array {
  return encodeChecked(checkClaim(claim, 'INVALID_ARGUMENT'))
}

/**
 * Reads a claim; every byte sequence gives a well-formed claim or an error. Strict, as {@link decodeProof}: one claim
 * has one encoding.
 *
 * @throws {PocError} PROOF_MALFORMED, PROOF_TOO_LARGE, or INVALID_ARGUMENT when `bytes` is not a Uint8Array
 */
export function decodeClaim(bytes: Uint8Array): Claim {
  if (!(bytes instanceof Uint8Array)) throw wrongValue('INVALID_ARGUMENT', 'claim', 'a Uint8Array', bytes)
  if (bytes.length > MAX_CLAIM_BYTES) {
    throw wrongValue('PROOF_TOO_LARGE', 'claim', `at most ${MAX_CLAIM_BYTES} bytes`, bytes.length)
  }
  const plain = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const map = decodeCanonical(plain)
  if (!(map instanceof Map) || map.get('poc') !== FORMAT) {
    throw wrongValue('PROOF_MALFORMED', 'claim', `a map whose poc is '${FORMAT}'`, map)
  }
  const fields = {
    header: headerOf(map.get('header')),
    tokens: words(map.get('tokens'), MAX_TOKENS, 'claim.tokens'),
    contextDigest: hexFrom(bytesIn(map.get('context'), 'claim.context')),
    root: hexFrom(bytesIn(map.get('root'), 'claim.root')),
  }
  const claim = checkClaim(fields as Claim, 'PROOF_MALFORMED')
  if (Buffer.compare(encodeChecked(claim), plain) === 0) return claim
  const where = 'claim'
  const expected = 'deterministic CBOR with the keys of this format'
  throw new PocError('PROOF_MALFORMED', `${where}: expected ${expected}`, { where, expected })
}

/** The rules of form of a claim; a copy with its own fields only. */
export function checkClaim(claim: Claim, code: ErrorCode): Claim {
  const { tokens, ...fields } = fieldsOf(claim, 'claim', code) as unknown as Claim
  const header = checkHeader(fields.header, code, 'claim.header')
  if (header.challenge !== 'beacon') throw wrongValue(code, 'claim.header.challenge', "'beacon'", header.challenge)
  if (!(tokens instanceof Uint32Array)) throw wrongValue(code, 'claim.tokens', 'a Uint32Array', tokens)
  integerIn(tokens.length, MIN_TOKENS, MAX_TOKENS, 'claim.tokens.length', code)
  integerIn(header.promptLength, 1, tokens.length, 'claim.header.promptLength', code)
  return {
    header,
    tokens: new Uint32Array(tokens),
    contextDigest: hexOf(fields.contextDigest, 32, 32, 'claim.contextDigest', code),
    root: hexOf(fields.root, 32, 32, 'claim.root', code),
  }
}

function encodeChecked({ header, tokens, contextDigest, root }: Claim): Uint8Array {
  return encodeCanonical({
    poc: FORMAT,
    root: bytesOf(root),
    header: headerFields(header),
    tokens: le32(tokens),
    context: bytesOf(contextDigest),
  })
}
