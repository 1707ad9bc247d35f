// The bytes of a claim: vectors of another program, and a decoder that takes nothing else.
import { readFileSync } from 'node:fs'
import { join as joinPath } from 'node:path'
import fc from 'fast-check'
import type { ProofHeader } from '../../lib/binding'
import { bindingDigest } from '../../lib/binding'
import { type Claim, drawChallenge, planOf } from '../../lib/challenge'
import { decodeClaim, encodeClaim } from '../../lib/claim'
import { parseDepth } from '../../lib/depth'
import { decodeProof } from '../../lib/proof'
import {
  anyHeader,
  anyTokens,
  bytes,
  cbor,
  contexts,
  headerMap,
  hex,
  join,
  le32,
  SMALL_HEADER,
} from './second-implementation'

interface Vector extends Omit<Claim, 'tokens'> {
  tokens: number[]
  bytes: string
  beacon: string
  seed: string
  deepest: number
  layers: [number, number[]][]
}
const { claims }: { claims: Vector[] } = JSON.parse(
  readFileSync(joinPath(__dirname, '../vectors/claim.json'), 'utf8'),
).vectors

const claimOf = ({ header, tokens, contextDigest, root }: Vector): Claim => {
  return { header, tokens: Uint32Array.from(tokens), contextDigest, root }
}
const malformed = (code = 'PROOF_MALFORMED') => expect.objectContaining({ code })

/** A claim's bytes from the text of docs/FORMATS.md. */
const encoded = ({ header, tokens, contextDigest, root }: Claim, poc = 'proof-of-cache/claim') =>
  cbor({
    poc,
    root: bytes(root),
    header: headerMap(header),
    tokens: le32(...tokens),
    context: bytes(contextDigest),
  })

describe('vectors', () => {
  test.each(claims)('claim of $header.depth, $header.form, $tokens.length tokens', (vector) => {
    const claim = claimOf(vector)
    expect(hex(encodeClaim(claim))).toBe(vector.bytes)
    expect(decodeClaim(bytes(vector.bytes))).toEqual(claim)
    expect(hex(encoded(claim))).toBe(vector.bytes)
    expect(vector.bytes.startsWith(`a563${hex(Buffer.from('poc'))}74${hex(Buffer.from('proof-of-cache/claim'))}`)).toBe(
      true,
    )
    expect(hex(contexts(claim.header, vector.tokens).at(-1) as Uint8Array)).toBe(claim.contextDigest)

    const challenge = drawChallenge(claim, vector.beacon)
    expect(hex(challenge.seed)).toBe(vector.seed)
    expect([...challenge.plan.layers].map(([layer, positions]) => [layer, [...positions]])).toEqual(vector.layers)
    expect(parseDepth(claim.header.depth).deepest(challenge.seed, claim.header.numLayers)).toBe(vector.deepest)
  })

  test('each is what a proof of the proof vectors opens', () => {
    const proofs: { bytes: string; root: string }[] = JSON.parse(
      readFileSync(joinPath(__dirname, '../vectors/proof.json'), 'utf8'),
    ).vectors
    const opened = proofs.filter(({ root }) => root !== '').map((vector) => decodeProof(bytes(vector.bytes)))
    expect(opened).toHaveLength(claims.length)
    opened.forEach((proof, i) => {
      expect(proof).toMatchObject(claimOf(claims[i]))
      const { plan, seed } = planOf(proof)
      expect(plan).toEqual(drawChallenge(claimOf(claims[i]), proof.beacon).plan)
      expect(hex(seed as Uint8Array)).toBe(claims[i].seed)
    })
  })
})

const anyClaim: fc.Arbitrary<Claim> = fc
  .record({
    header: anyHeader,
    depth: fc.constantFrom('kv', 'full', 'random:2'),
    tokens: anyTokens,
    digests: fc.tuple(fc.uint8Array({ minLength: 32, maxLength: 32 }), fc.uint8Array({ minLength: 32, maxLength: 32 })),
  })
  .map(({ header, depth, tokens, digests }) => {
    const isFixed = header.layerSampler.startsWith('fixed')
    const stated: ProofHeader = { ...header, challenge: 'beacon', depth: isFixed ? 'full' : depth }
    return { header: stated, tokens, contextDigest: hex(digests[0]), root: hex(digests[1]) }
  })

test('any claim is the same after its encoding, which is that of the text', () => {
  fc.assert(
    fc.property(anyClaim, (claim) => {
      const data = encodeClaim(claim)
      expect(hex(data)).toBe(hex(encoded(claim)))
      expect(decodeClaim(data)).toEqual(claim)
      expect(decodeClaim(Buffer.from(data))).toEqual(claim)
    }),
  )
})

const small = claimOf(claims[0])
const smallBytes = encodeClaim(small)

test('no prefix is a claim, and nothing may follow one', () => {
  for (let end = 0; end < smallBytes.length; end++) {
    expect(() => decodeClaim(smallBytes.slice(0, end))).toThrow(malformed())
  }
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 4 }), (more) => {
      expect(() => decodeClaim(join(smallBytes, more))).toThrow(malformed())
    }),
  )
})

test('a flipped bit gives an error, or another claim with these very bytes', () => {
  for (let bit = 0; bit < smallBytes.length * 8; bit++) {
    const changed = smallBytes.slice()
    changed[bit >> 3] ^= 1 << (bit & 7)
    let claim: Claim
    try {
      claim = decodeClaim(changed)
    } catch (error) {
      expect(error).toMatchObject({ code: 'PROOF_MALFORMED' })
      continue
    }
    expect(hex(encodeClaim(claim))).toBe(hex(changed))
    const isSame = hex(bindingDigest(claim.header)) === hex(bindingDigest(small.header))
    expect(
      isSame &&
        claim.root === small.root &&
        claim.contextDigest === small.contextDigest &&
        String(claim.tokens) === String(small.tokens),
    ).toBe(false)
  }
})

test('any bytes give a claim or a typed error', () => {
  const spliced = fc
    .record({ at: fc.nat(smallBytes.length), drop: fc.nat(9), put: fc.uint8Array({ maxLength: 9 }) })
    .map(({ at, drop, put }) => join(smallBytes.slice(0, at), put, smallBytes.slice(at + drop)))
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 200 }), spliced), (data) => {
      try {
        expect(hex(encodeClaim(decodeClaim(data)))).toBe(hex(data))
      } catch (error) {
        expect(['PROOF_MALFORMED', 'PROOF_TOO_LARGE']).toContain((error as { code?: string }).code)
      }
    }),
    { numRuns: 300 },
  )
})

describe('what is not a claim', () => {
  const map = (changes: object) => {
    const { header, tokens, contextDigest, root } = small
    const fields = {
      poc: 'proof-of-cache/claim',
      root: bytes(root),
      header: headerMap(header),
      tokens: le32(...tokens),
      context: bytes(contextDigest),
    }
    return cbor(
      Object.fromEntries(Object.entries({ ...fields, ...changes }).filter(([, value]) => value !== undefined)),
    )
  }
  const header = headerMap(small.header)
  test.each<[string, object]>([
    ['a proof', { poc: 'proof-of-cache' }],
    ['a key missing', { root: undefined }],
    ['a key more', { beacon: bytes('00') }],
    ['a root of 31 bytes', { root: new Uint8Array(31) }],
    ['no root', { root: new Uint8Array(0) }],
    ['a context of 33 bytes', { context: new Uint8Array(33) }],
    ['one token', { tokens: le32(1) }],
    ['half a token', { tokens: new Uint8Array(10) }],
    ['tokens as an array', { tokens: [1, 2, 3] }],
    ['positions from the context', { header: { ...header, challenge: 'context' } }],
    ['a prompt longer than the tokens', { header: { ...header, promptLength: 99 } }],
    ['a header with another key', { header: { ...header, colour: 'red' } }],
    ['a header without one of its keys', { header: Object.fromEntries(Object.entries(header).slice(1)) }],
  ])('%s', (_, changes) => {
    expect(() => decodeClaim(map(changes))).toThrow(malformed())
  })

  test('more bytes than any claim has', () => {
    expect(() => decodeClaim(new Uint8Array(4 * 2 ** 20 + 2 ** 14 + 1))).toThrow(malformed('PROOF_TOO_LARGE'))
  })

  test.each<[string, unknown]>([
    ['undefined', undefined],
    ['an array', [1, 2]],
    ['a string', hex(smallBytes)],
  ])('%s instead of bytes', (_, value) => {
    expect(() => decodeClaim(value as Uint8Array)).toThrow(malformed('INVALID_ARGUMENT'))
  })

  test.each<[string, unknown]>([
    ['null', null],
    ['tokens that are no Uint32Array', { ...small, tokens: [...small.tokens] }],
    ['a root in capitals', { ...small, root: small.root.toUpperCase() }],
    ['no context digest', { ...small, contextDigest: '' }],
    ['positions from the context', { ...small, header: { ...SMALL_HEADER } }],
    ['no header', { ...small, header: undefined }],
  ])('encoding: %s', (_, value) => {
    expect(() => encodeClaim(value as Claim)).toThrow(malformed('INVALID_ARGUMENT'))
  })
})

test('the largest claim fits', () => {
  const header: ProofHeader = {
    ...small.header,
    depth: 'full',
    numLayers: 4096,
    layerSampler: `fixed:${Array.from({ length: 256 }, (_, i) => 3840 + i).join()}`,
    stop: { maxNewTokens: 2 ** 20, stopTokens: Array.from({ length: 256 }, (_, i) => 2 ** 32 - 256 + i) },
    sampling: { temperature: 1e-300, topK: 2 ** 32 - 1, topP: 1 / 3, seed: 'ff'.repeat(64) },
    tokenSampler: 'x'.repeat(64),
    nonce: 'ee'.repeat(64),
    previousRoot: 'dd'.repeat(32),
  }
  const claim = { ...small, header, tokens: new Uint32Array(2 ** 20).fill(2 ** 32 - 1) }
  const data = encodeClaim(claim)
  expect(decodeClaim(data).header).toEqual(header)
})
