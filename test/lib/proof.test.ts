import { readFileSync } from 'node:fs'
import { join as joinPath } from 'node:path'
import fc from 'fast-check'
import type { ProofHeader } from '../../lib/binding'
import { PocError } from '../../lib/errors'
import { createSamplesHash } from '../../lib/hash'
import { kvRowBytes } from '../../lib/kv'
import { leavesOf, opensTo, planOf } from '../../lib/challenge'
import { createPlan } from '../../lib/plan'
import { decodeProof, encodeProof, type Proof, proofDigest } from '../../lib/proof'
import {
  anyHeader,
  anyTokens,
  bytes,
  cbor,
  contexts,
  Float,
  H,
  head,
  headerMap,
  hex,
  join,
  le32,
  SMALL_HEADER,
} from './second-implementation'
import file from '../vectors/proof.json'

interface Vector {
  header: ProofHeader
  tokens: number[]
  contextDigest: string
  samples: { layer: number; position: number; k: string; v: string }[]
  root: string
  beacon: string
  path: string
  bytes: string
  proofDigest: string
  samplesDigest: string
}
const vectors = file.vectors as unknown as Vector[]

const proofOf = ({ header, tokens, contextDigest, samples, samplesDigest, root, beacon, path }: Vector): Proof => ({
  header,
  tokens: Uint32Array.from(tokens),
  contextDigest,
  samples: samples.map(({ k, v, ...place }) => ({ ...place, k: bytes(k), v: bytes(v) })),
  samplesDigest: header.form === 'digest' ? samplesDigest : '',
  root,
  beacon,
  path: bytes(path),
})

const UNOPENED = { samplesDigest: '', root: '', beacon: '', path: new Uint8Array(0) }

interface ProofMap extends Record<string, unknown> {
  header: Record<string, unknown> & { sampling: Record<string, unknown> }
  samples: Record<string, unknown>[]
}

/** The map of a proof, encoded by the second implementation; `change` may spoil it. */
function encodeBySecond(proof: Proof, change: (map: ProofMap) => void = () => {}): Uint8Array {
  const layers = [...new Set(proof.samples.map((sample) => sample.layer))]
  const groups = layers.map((layer) => {
    const members = proof.samples.filter((sample) => sample.layer === layer)
    const rows = (part: 'k' | 'v') => join(...members.map((sample) => sample[part]))
    return { layer, positions: le32(...members.map((sample) => sample.position)), k: rows('k'), v: rows('v') }
  })
  const map = {
    poc: 'proof-of-cache',
    path: proof.path,
    root: bytes(proof.root),
    beacon: bytes(proof.beacon),
    header: headerMap(proof.header),
    tokens: le32(...proof.tokens),
    context: bytes(proof.contextDigest),
    samples: groups,
  }
  change(map as unknown as ProofMap)
  return cbor(map)
}

/** A proof of arbitrary bits, whose samples need not follow any plan. */
const anyProof: fc.Arbitrary<Proof> = fc.tuple(anyHeader, anyTokens).chain(([header, tokens]) => {
  const row = fc.uint8Array({
    minLength: kvRowBytes(header, header.kvDtype),
    maxLength: kvRowBytes(header, header.kvDtype),
  })
  const sample = fc.record({ layer: fc.nat(header.numLayers - 1), position: fc.nat(tokens.length - 2), k: row, v: row })
  const distinct = fc.uniqueArray(sample, { maxLength: 12, selector: ({ layer, position }) => `${layer}/${position}` })
  const digest = fc.uint8Array({ minLength: 32, maxLength: 32 }).map(hex)
  return fc.tuple(distinct, digest).map(([samples, contextDigest]) => ({
    header,
    tokens,
    contextDigest,
    ...UNOPENED,
    samples: samples.sort((a, b) => a.layer - b.layer || a.position - b.position),
  }))
})

const SMALL: Proof = {
  ...UNOPENED,
  header: SMALL_HEADER,
  tokens: Uint32Array.of(1, 2, 3, 4),
  contextDigest: hex(contexts(SMALL_HEADER, [1, 2, 3, 4])[3]),
  samples: [...createPlan(SMALL_HEADER, [1, 2, 3, 4]).layers].flatMap(([layer, positions]) =>
    [...positions].map((position) => ({
      layer,
      position,
      k: Uint8Array.of(layer, position, 0, 0),
      v: new Uint8Array(4),
    })),
  ),
}
const SMALL_BYTES = encodeProof(SMALL)
const MAGIC = SMALL_BYTES.slice(0, 20)

function errorOf(call: () => unknown): PocError | undefined {
  try {
    call()
  } catch (error) {
    if (error instanceof PocError) return error
    throw error
  }
  return undefined
}

/** Decodes, or fails as promised; whatever decodes has these very bytes. */
function decodesOrIsMalformed(data: Uint8Array): void {
  const error = errorOf(() => {
    const proof = decodeProof(data)
    if (Buffer.compare(encodeProof(proof), data) !== 0) throw new Error('a second encoding of one proof')
  })
  if (error !== undefined && error.code !== 'PROOF_MALFORMED') throw error
}

describe('vectors', () => {
  test('say what made them', () => expect(file.madeBy).toContain('test/vectors/formats.py'))

  test.each(vectors)('proof $# is encoded, decoded and hashed as given', (vector) => {
    const proof = proofOf(vector)
    expect(hex(encodeProof(proof))).toBe(vector.bytes)
    expect(decodeProof(bytes(vector.bytes))).toEqual(proof)
    expect(proofDigest(proof)).toBe(vector.proofDigest)
    const { plan } = planOf(proof)
    expect(hex(plan.contextDigest)).toBe(vector.contextDigest)
    if (vector.header.form === 'digest') return
    const hash = createSamplesHash()
    for (const [layer, positions] of plan.layers) {
      const members = proof.samples.filter((sample) => sample.layer === layer)
      const rows = (part: 'k' | 'v') => join(...members.map((sample) => sample[part]))
      hash.push({ layer, positions, k: rows('k'), v: rows('v') })
    }
    expect(hash.digest()).toBe(vector.samplesDigest)
    if (vector.root === '') return
    const leaves = leavesOf(proof.header, proof.samples)
    expect(opensTo(proof, leaves, proof.path)).toBe(true)
    for (let at = 0; at < proof.path.length; at += 17) {
      const path = proof.path.slice()
      path[at] ^= 1
      expect(opensTo(proof, leaves, path)).toBe(false)
    }
    expect(opensTo(proof, leaves, proof.path.slice(32))).toBe(false)
    expect(opensTo(proof, leaves, join(proof.path, new Uint8Array(32)))).toBe(false)
  })

  test('the hex dump in docs/FORMATS.md is the first of them', () => {
    const text = readFileSync(joinPath(__dirname, '../../docs/FORMATS.md'), 'utf8')
    const lines = [...text.matchAll(/^([0-9a-f]{4}) {2}((?:[0-9a-f]{2} ){0,15}[0-9a-f]{2})(?: |$)/gm)]
    expect(lines.map((line) => line[2].replaceAll(' ', '')).join('')).toBe(vectors[0].bytes)
    let offset = 0
    for (const [, at, data] of lines) {
      expect(Number.parseInt(at, 16)).toBe(offset)
      offset += (data.length + 1) / 3
    }
    expect(text).toContain(vectors[0].proofDigest)
    expect(text).toContain(hex(H('binding', cbor(headerMap(vectors[0].header)))))
  })
})

describe('encoding', () => {
  test('is that of the second implementation, and decoding undoes it', () => {
    fc.assert(
      fc.property(anyProof, (proof) => {
        const encoded = encodeProof(proof)
        expect(hex(encoded)).toBe(hex(encodeBySecond(proof)))
        expect(decodeProof(encoded)).toEqual(proof)
        expect(decodeProof(Buffer.concat([Buffer.alloc(3), encoded]).subarray(3))).toEqual(proof)
        expect(proofDigest(proof)).toBe(hex(H('proof', encoded)))
      }),
      { numRuns: 200 },
    )
  })

  test('keeps rows of more than 64 KiB and many groups', () => {
    const header: ProofHeader = {
      ...SMALL_HEADER,
      numLayers: 300,
      numKvHeads: 64,
      headDim: 1024,
      layerSampler: 'fixed:0',
    }
    const row = (fill: number) => new Uint8Array(131072).fill(fill)
    const samples = [0, 23, 24, 255, 256, 299].map((layer) => ({ layer, position: 2, k: row(layer), v: row(255) }))
    const encoded = encodeProof({ ...SMALL, header, samples })
    expect(Buffer.compare(encoded, encodeBySecond({ ...SMALL, header, samples }))).toBe(0)
    const decoded = decodeProof(encoded).samples
    expect(decoded.map(({ layer, position }) => [layer, position])).toEqual(samples.map((s) => [s.layer, 2]))
    expect(
      decoded.every(({ k, v }, i) => Buffer.compare(k, samples[i].k) + Buffer.compare(v, samples[i].v) === 0),
    ).toBe(true)
  })

  test('gives bytes of its own', () => {
    const encoded = encodeProof(SMALL)
    expect(encoded.buffer.byteLength).toBe(encoded.byteLength)
    expect(encoded.constructor).toBe(Uint8Array)
  })

  const sample = SMALL.samples[0]
  test.each<[string, object]>([
    ['proof.tokens', { tokens: [1, 2, 3, 4] }],
    ['proof.tokens.length', { tokens: Uint32Array.of(1) }],
    ['proof.tokens.length', { tokens: new Uint32Array(2 ** 20 + 1) }],
    ['proof.header.promptLength', { header: { ...SMALL_HEADER, promptLength: 5 } }],
    ['proof.header.numLayers', { header: { ...SMALL_HEADER, numLayers: 0 } }],
    ['proof.header', { header: undefined }],
    ['proof.contextDigest', { contextDigest: 'aa' }],
    ['proof.samples', { samples: undefined }],
    ['proof.samples[0]', { samples: [null] }],
    ['proof.samples[0].layer', { samples: [{ ...sample, layer: 7 }] }],
    ['proof.samples[0].position', { samples: [{ ...sample, position: 3 }] }],
    ['proof.samples[0].k', { samples: [{ ...sample, k: new Uint8Array(5) }] }],
    ['proof.samples[0].v', { samples: [{ ...sample, v: [0, 0, 0, 0] }] }],
    ['proof.samples[1]', { samples: [sample, sample] }],
    ['proof.samples[1]', { samples: [...SMALL.samples].reverse() }],
  ])('refuses a wrong %s', (where, change) => {
    expect(errorOf(() => encodeProof({ ...SMALL, ...change } as Proof))).toMatchObject({
      code: 'INVALID_ARGUMENT',
      where,
    })
  })

  test('refuses what is no proof', () => {
    for (const value of [null, undefined, 'proof', 7]) {
      expect(errorOf(() => encodeProof(value as never))?.code).toBe('INVALID_ARGUMENT')
      expect(errorOf(() => proofDigest(value as never))?.code).toBe('INVALID_ARGUMENT')
      expect(errorOf(() => decodeProof(value as never))?.code).toBe('INVALID_ARGUMENT')
    }
    expect(errorOf(() => decodeProof(SMALL_BYTES, null as never))?.code).toBe('INVALID_ARGUMENT')
    for (const maxBytes of [0, 0.5, 2 ** 32, '9']) {
      expect(errorOf(() => decodeProof(SMALL_BYTES, { maxBytes: maxBytes as never }))?.code).toBe('INVALID_ARGUMENT')
    }
  })
})

describe('limits', () => {
  test('of size hold to the byte, both ways', () => {
    const exact = { maxBytes: SMALL_BYTES.length }
    expect(decodeProof(encodeProof(SMALL, exact), exact)).toEqual(SMALL)
    const less = { maxBytes: SMALL_BYTES.length - 1 }
    expect(errorOf(() => encodeProof(SMALL, less))?.code).toBe('PROOF_TOO_LARGE')
    expect(errorOf(() => decodeProof(SMALL_BYTES, less))?.code).toBe('PROOF_TOO_LARGE')
    expect(errorOf(() => decodeProof(new Uint8Array(2 ** 28 + 1)))?.code).toBe('PROOF_TOO_LARGE')
  })

  test('of samples hold before anything is made of them', () => {
    const header: ProofHeader = { ...SMALL_HEADER, headDim: 1 }
    const group = (layer: number, count: number) => {
      const positions = new Uint8Array(Uint32Array.from({ length: count }, (_, i) => i).buffer)
      return { layer, positions, k: new Uint8Array(2 * count), v: new Uint8Array(2 * count) }
    }
    const tokens = new Uint8Array(4 * 2 ** 20)
    const of = (...samples: object[]) =>
      encodeBySecond({ ...SMALL, header }, (map) => Object.assign(map, { tokens, samples }))
    expect(errorOf(() => decodeProof(of(group(1, 2 ** 20 - 1), group(2, 2))))?.code).toBe('PROOF_TOO_LARGE')
    expect(errorOf(() => decodeProof(of(group(1, 2 ** 20 + 1))))?.code).toBe('PROOF_MALFORMED')
  })
})

describe('hostile bytes', () => {
  const patternAt = (data: Uint8Array, text: string) => Buffer.from(data).indexOf(text)
  const spliced = (at: number, remove: number, insert: Uint8Array) =>
    join(SMALL_BYTES.subarray(0, at), insert, SMALL_BYTES.subarray(at + remove))
  const afterKey = (key: string) => patternAt(SMALL_BYTES, key) + key.length
  const changed = (change: (map: ProofMap) => void) => encodeBySecond(SMALL, change)
  const keysSwapped = () => {
    const data = SMALL_BYTES.slice()
    const [k, v] = ['akH', 'avH'].map((key) => patternAt(data, key) + 1)
    data[k] = 0x76
    data[v] = 0x6b
    return data
  }
  const group = (change: object) => changed((map) => Object.assign(map.samples[0], change))

  test('the second implementation agrees on the proof that is spoiled below', () => {
    expect(hex(changed(() => {}))).toBe(hex(SMALL_BYTES))
  })

  test.each<[string, Uint8Array]>([
    ['nothing', new Uint8Array(0)],
    ['something else', new Uint8Array(Buffer.from('PK\x03\x04'))],
    ['a byte more', join(SMALL_BYTES, Uint8Array.of(0))],
    ['a proof twice', join(SMALL_BYTES, SMALL_BYTES)],
    ['a longer integer than needed', spliced(afterKey('numLayers'), 1, Uint8Array.of(0x18, 6))],
    ['a 64-bit integer', spliced(afterKey('numLayers'), 1, bytes('1b0000000000000006'))],
    ['an integer over 2^53', spliced(afterKey('numLayers'), 1, bytes('1bffffffffffffffff'))],
    ['a longer length than needed', spliced(afterKey('nonce'), 1, Uint8Array.of(0x58, 2))],
    ['an indefinite byte string', spliced(afterKey('nonce'), 3, bytes('5f42beefff'))],
    ['an indefinite array', spliced(afterKey('samples'), 1, Uint8Array.of(0x9f))],
    ['a tag', spliced(afterKey('numLayers'), 0, Uint8Array.of(0xc1))],
    ['a negative number', spliced(afterKey('numLayers'), 1, Uint8Array.of(0x20))],
    ['null', spliced(afterKey('numLayers'), 1, Uint8Array.of(0xf6))],
    ['undefined', spliced(afterKey('numLayers'), 1, Uint8Array.of(0xf7))],
    ['a boolean', spliced(afterKey('numLayers'), 1, Uint8Array.of(0xf5))],
    ['a break', spliced(afterKey('numLayers'), 1, Uint8Array.of(0xff))],
    ['a reserved head', spliced(afterKey('numLayers'), 1, Uint8Array.of(0x1c))],
    ['a float for an integer', spliced(afterKey('numLayers'), 1, cbor(new Float(6)))],
    ['an integer for a float', spliced(afterKey('temperature'), 9, Uint8Array.of(1))],
    ['a shorter float', spliced(afterKey('temperature'), 9, bytes('f93c00'))],
    ['NaN', spliced(afterKey('temperature'), 9, bytes('fb7ff8000000000000'))],
    ['infinity', spliced(afterKey('temperature'), 9, bytes('fb7ff0000000000000'))],
    ['negative zero', spliced(afterKey('temperature'), 9, bytes('fb8000000000000000'))],
    ['invalid UTF-8', spliced(afterKey('kvDtype'), 5, bytes('64ff626631'))],
    ['text for bytes', changed((map) => (map.header.nonce = 'beef'))],
    ['bytes for text', changed((map) => (map.header.kvDtype = new Uint8Array(Buffer.from('bf16'))))],
    ['keys out of order', keysSwapped()],
    ['a key twice', join(Uint8Array.of(0xa6), SMALL_BYTES.subarray(1, 20), SMALL_BYTES.subarray(1))],
    ['an unknown key', changed((map) => (map.extra = 1))],
    ['an unknown key in the header', changed((map) => (map.header.extra = 1))],
    ['an unknown key of sampling', changed((map) => (map.header.sampling.extra = 1))],
    ['an unknown key in a group', group({ extra: 1 })],
    ['__proto__', changed((map) => Object.defineProperty(map, '__proto__', { value: {}, enumerable: true }))],
    ['a key that is no text', spliced(patternAt(SMALL_BYTES, 'topK') - 1, 5, Uint8Array.of(1))],
    ['no header', changed((map) => Object.assign(map, { header: 0 }))],
    ['no key of the header', changed((map) => delete map.header.kvDtype)],
    ['no samples', changed((map) => Reflect.deleteProperty(map, 'samples'))],
    ['samples in a map', changed((map) => Object.assign(map, { samples: {} }))],
    ['another version', changed((map) => (map.header.version = 2))],
    ['a sampler in another spelling', changed((map) => (map.header.tokenSampler = 'bernoulli:0.5'))],
    ['a fixed layer that the model lacks', changed((map) => (map.header.layerSampler = 'fixed:6'))],
    ['one token', changed((map) => (map.tokens = le32(1)))],
    ['half a token', changed((map) => (map.tokens = new Uint8Array(18)))],
    ['too many tokens', changed((map) => (map.tokens = new Uint8Array(4 * (2 ** 20 + 1))))],
    ['a longer prompt than tokens', changed((map) => (map.header.promptLength = 5))],
    ['a short context digest', changed((map) => (map.context = new Uint8Array(31)))],
    ['a group that is no map', changed((map) => Object.assign(map, { samples: [1] }))],
    ['a group without positions', group({ positions: new Uint8Array(0), k: new Uint8Array(0), v: new Uint8Array(0) })],
    ['two groups for a layer', changed((map) => (map.samples[1].layer = map.samples[0].layer))],
    ['groups out of order', changed((map) => map.samples.reverse())],
    ['a layer too deep', group({ layer: 6 })],
    ['a layer that is no integer', group({ layer: 'one' })],
    ['a position without KV', group({ positions: le32(1, 3) })],
    ['positions out of order', group({ positions: le32(2, 1) })],
    ['a position twice', group({ positions: le32(1, 1) })],
    ['a K row too few', group({ k: new Uint8Array(4) })],
    ['a V byte too many', group({ v: new Uint8Array(9) })],
  ])('%s is malformed', (_what, data) => {
    const error = errorOf(() => decodeProof(data))
    expect(error).toMatchObject({ code: 'PROOF_MALFORMED', where: expect.stringMatching(/^proof/) })
  })

  test.each<[string, Uint8Array]>([
    ['nested arrays', new Uint8Array(2 ** 26).fill(0x81)],
    ['nested maps', new Uint8Array(2 ** 26).fill(0xa1)],
    ['an array of 2^64 - 1', bytes('9bffffffffffffffff')],
    ['an array of 2^32 - 1 and many items', join(bytes('67736d616e79616c9affffffff'), new Uint8Array(2 ** 26))],
    ['a map of 2^32 - 1 and many items', join(bytes('67736d616e79616cbaffffffff'), new Uint8Array(2 ** 26).fill(0x60))],
    ['bytes of 2^64 - 1', bytes('67736d616e79616c5bffffffffffffffff')],
    ['bytes of 2^31', bytes('67736d616e79616c5a80000000')],
    ['text of 64 MiB', join(bytes('67736d616e79616c7a04000000'), new Uint8Array(2 ** 26).fill(0x61))],
  ])('%s cost no time and no memory', (_what, rest) => {
    const data = join(MAGIC, rest)
    const start = performance.now()
    expect(errorOf(() => decodeProof(data))?.code).toBe('PROOF_MALFORMED')
    expect(performance.now() - start).toBeLessThan(1000)
  })

  test('every truncation is malformed', () => {
    for (let length = 0; length < SMALL_BYTES.length; length++) {
      expect(errorOf(() => decodeProof(SMALL_BYTES.subarray(0, length)))?.code).toBe('PROOF_MALFORMED')
    }
  })

  test('every single bit flipped gives another proof or is malformed', () => {
    for (let bit = 0; bit < SMALL_BYTES.length * 8; bit++) {
      const data = SMALL_BYTES.slice()
      data[bit >> 3] ^= 1 << (bit & 7)
      decodesOrIsMalformed(data)
    }
  })

  test('every byte replaced by the heads that hurt gives another proof or is malformed', () => {
    for (let at = 0; at < SMALL_BYTES.length; at++) {
      for (const head of [0x00, 0x1b, 0x3b, 0x5b, 0x5f, 0x7b, 0x81, 0x9b, 0x9f, 0xbb, 0xbf, 0xdb, 0xf4, 0xfb, 0xff]) {
        const data = SMALL_BYTES.slice()
        data[at] = head
        decodesOrIsMalformed(data)
      }
    }
  })

  test('random bytes, bare and after a good beginning, are malformed or a proof', () => {
    const random = fc.uint8Array({ maxLength: 200 })
    fc.assert(
      fc.property(random, (data) => decodesOrIsMalformed(data)),
      { numRuns: 500 },
    )
    const cut = fc.nat(SMALL_BYTES.length)
    fc.assert(
      fc.property(cut, cut, random, (a, b, data) =>
        decodesOrIsMalformed(spliced(Math.min(a, b), Math.abs(b - a), data)),
      ),
      { numRuns: 3000 },
    )
  })

  test('random token structures after a good beginning are malformed or a proof', () => {
    const item = fc.letrec((tie) => ({
      value: fc.oneof(
        { depthSize: 'small' },
        fc.nat(300),
        fc.uint8Array({ maxLength: 40 }),
        fc.constantFrom('k', 'v', 'header', 'samples', '__proto__', 'constructor', ''),
        fc.double().map((value) => new Float(value)),
        fc.array(tie('value'), { maxLength: 4 }),
        fc.dictionary(fc.constantFrom('k', 'v', 'layer', 'positions', 'header', 'nonce'), tie('value'), { maxKeys: 4 }),
      ),
    })).value
    const key = fc.constantFrom('header', 'tokens', 'context', 'samples')
    const place = fc.constantFrom('map', 'header', 'sampling', 'group')
    fc.assert(
      fc.property(item, key, place, fc.nat(20), (value, name, where, index) => {
        const data = changed((map) => {
          const targets: Record<string, object> = {
            map,
            header: map.header,
            sampling: map.header.sampling,
            group: map.samples[0],
          }
          const target = targets[where] as Record<string, unknown>
          const keys = Object.keys(target)
          target[where === 'map' ? name : keys[index % keys.length]] = value
        })
        decodesOrIsMalformed(data)
      }),
      { numRuns: 3000 },
    )
  })

  test('a decoded proof does not change with the bytes it came from', () => {
    const data = SMALL_BYTES.slice()
    const proof = decodeProof(data)
    data.fill(0)
    expect(proof).toEqual(SMALL)
  })

  test('rows of any bits are legal', () => {
    const samples = SMALL.samples.map((sample) => ({
      ...sample,
      k: new Uint8Array(4).fill(0xff),
      v: bytes('807f0080'),
    }))
    expect(decodeProof(encodeProof({ ...SMALL, samples })).samples).toEqual(samples)
    expect(head(2, 8)).toEqual(Uint8Array.of(0x48))
  })
})
