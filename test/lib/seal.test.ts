import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { claimedDigests, type LayerDigest, runningDigests } from '../../lib/agreement'
import { contextOf } from '../../lib/binding'
import { matchRecomputed } from '../../lib/blind'
import { PocError } from '../../lib/errors'
import type { KvSample } from '../../lib/kv'
import * as seals from '../../lib/seal'
import type { SealedResult, SealOpening } from '../../lib/seal'
import type { Verdict } from '../../lib/verdict'
import { handMadeProof, layerOf, vectorAt } from './hand-made-proof'

const { blindProof, checkSeal, checkSealedVerdict, sealedOutcome, sealSubject, sealVerdict } = seals
const { proof, plan } = handMadeProof(60, { layerSampler: 'uniform:2' })
const sampledLayers = [...plan.layers.keys()]
const layers = sampledLayers.map((layer) => layerOf(plan, layer))
const subject = sealSubject(blindProof(proof))
const honest: SealedResult = { verifier: 'v1', subject, digests: runningDigests(layers), refuted: false }
const SALT = '5a'.repeat(32)
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')

/** The claimed samples with one bit changed in each of some. */
function corrupted(which: readonly number[]): KvSample[] {
  return proof.samples.map((sample, i) => {
    if (!which.includes(i)) return sample
    const part = i % 2 === 0 ? 'k' : 'v'
    return { ...sample, [part]: sample[part].map((byte, at) => (at === i % 16 ? byte ^ 1 : byte)) }
  })
}
const someSamples = fc.uniqueArray(fc.nat({ max: proof.samples.length - 1 }), { maxLength: 3 })

function expectRefused(action: () => unknown): void {
  expect(action).toThrow(PocError)
  expect(action).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
}

test('the plan has several layers with several positions each, or this file would show little', () => {
  expect(sampledLayers.length).toBeGreaterThan(3)
  expect(Math.min(...layers.map(({ positions }) => positions.length))).toBeGreaterThan(1)
})

describe('a blind proof', () => {
  const root = 'aa'.repeat(32)
  const header = { ...proof.header, challenge: 'beacon' as const }
  const opened = { ...proof, header, contextDigest: contextOf(header, proof.tokens), root, beacon: 'bb' }

  test('has the named fields, and no other that a proof may have now or later', () => {
    const later = { samplesDigest: 'd1'.repeat(32), sketches: [1], path: new Uint8Array(32) }
    const { contextDigest, tokens } = opened
    expect(blindProof({ ...opened, ...later })).toEqual({ header, tokens, contextDigest, root, beacon: 'bb' })
    expect(blindProof({ ...proof, ...later })).toMatchObject({ root: '', beacon: '' })
  })

  test('is named by a digest of tokens and header, root, and beacon', () => {
    const noncedHeader = { ...header, nonce: '' }
    const nonced = { ...opened, header: noncedHeader, contextDigest: contextOf(noncedHeader, proof.tokens) }
    const others = [proof, { ...opened, root: 'ab'.repeat(32) }, { ...opened, beacon: 'bbbb' }, nonced]
    const variants = [opened, ...others].map(sealSubject)
    expect(new Set(variants).size).toBe(variants.length)
    const texts = Buffer.from(Uint32Array.of(64, 2).buffer)
    const input = ['proof-of-cache/v1/blind\0', Buffer.from(opened.contextDigest, 'hex'), texts, root, 'bb']
    const expected = createHash('sha256')
    for (const part of input) expected.update(part)
    expect(variants[0]).toBe(expected.digest('hex'))
  })

  test('whose context digest is not that of header and tokens has no name: it would be that of the real one', () => {
    const changedTokens = proof.tokens.map((token, i) => (i === 3 ? token + 1 : token))
    const last = proof.tokens.map((token, i) => (i === proof.tokens.length - 1 ? token + 1 : token))
    const changes = [
      { tokens: changedTokens },
      { tokens: last },
      { header: { ...proof.header, headDim: 8 } },
      { header: { ...proof.header, modelDigest: 'cd'.repeat(32) } },
      { contextDigest: root },
      { contextDigest: 'ab' },
      { root },
      { beacon: 'bb' },
    ]
    for (const change of changes) expectRefused(() => sealSubject({ ...proof, ...change }))
    expect(sealSubject({ ...proof, root: '', beacon: '' })).toBe(subject)
  })

  test('is what a result is about: of another proof it says nothing', () => {
    expectRefused(() => sealedOutcome(honest, opened))
    expectRefused(() => sealedOutcome({ ...honest, subject: root }, proof))
    const verdict = { status: 'rejected', firstMismatch: null, samplesDigest: SALT } as const
    expect(checkSealedVerdict(honest, opened, verdict)).toEqual(['subject'])
    expect(checkSealedVerdict({ ...honest, subject: root }, proof, verdict)).toEqual(['subject'])
  })
})

describe('a seal', () => {
  test('is SHA-256 over id, subject, running digests and salt', () => {
    const le = (...values: number[]) => Buffer.from(Uint32Array.from(values).buffer)
    const parts = [Buffer.from('proof-of-cache/v1/seal\0'), le(2), Buffer.from('v1'), Buffer.from(subject, 'hex')]
    parts.push(le(0, honest.digests.length))
    for (const [layer, digest] of honest.digests) parts.push(le(layer), Buffer.from(digest, 'hex'))
    parts.push(Buffer.from(SALT, 'hex'))
    const expected = createHash('sha256').update(Buffer.concat(parts)).digest('hex')
    expect(sealVerdict(honest, SALT).seal).toBe(expected)
  })

  test('is opened by its opening, also after JSON, and hides the result behind a random salt', () => {
    const first = sealVerdict(honest)
    const second = sealVerdict(honest)
    expect(checkSeal(first.seal, first.opening)).toBe(true)
    expect(checkSeal(first.seal, JSON.parse(JSON.stringify(first.opening)))).toBe(true)
    expect(second.seal).not.toBe(first.seal)
    expect(checkSeal(first.seal, second.opening)).toBe(false)
  })

  test('is opened by nothing else', () => {
    const { seal: sealed, opening } = sealVerdict(honest, SALT)
    const other = 'cd'.repeat(32)
    const digests = (change: (list: LayerDigest[]) => void) => {
      const list = [...opening.digests]
      change(list)
      return { ...opening, digests: list }
    }
    const openings: SealOpening[] = [
      { ...opening, verifier: 'v2' },
      { ...opening, subject: other },
      { ...opening, refuted: true },
      { ...opening, salt: other },
      digests((list) => list.pop()),
      digests((list) => list.splice(0, 1)),
      digests((list) => list.splice(1, 1, [list[1][0], other])),
      digests((list) => list.push([100, other])),
    ]
    for (const one of openings) expect(checkSeal(sealed, one)).toBe(false)
    expect(checkSeal(other, opening)).toBe(false)
  })

  test('what is no result, opening or seal is refused', () => {
    const { seal: sealed, opening } = sealVerdict(honest, SALT)
    const wrong: unknown[] = [
      null,
      {},
      { ...opening, verifier: 'user' },
      { ...opening, subject: subject.slice(1) },
      { ...opening, refuted: 'no' },
      { ...opening, salt: 'ab' },
      { ...opening, digests: [] },
      { ...opening, digests: 'x' },
      { ...opening, digests: [[1]] },
      { ...opening, digests: [[1, 'ab']] },
      { ...opening, digests: [...opening.digests].reverse() },
      { ...opening, digests: [opening.digests[0], opening.digests[0]] },
      { ...opening, digests: [[4097, SALT]] },
      { ...opening, digests: Array.from({ length: 5000 }, (_, i) => [i, SALT]) },
    ]
    for (const one of wrong) expectRefused(() => checkSeal(sealed, one as SealOpening))
    for (const one of [null, '', sealed.toUpperCase(), 7]) expectRefused(() => checkSeal(one as string, opening))
    expectRefused(() => sealVerdict(honest, 'ab'))
    expectRefused(() => sealVerdict({ ...honest, digests: [] }))
    expectRefused(() => sealedOutcome(honest, { ...proof, samples: [] }))
    fc.assert(
      fc.property(fc.anything(), (value) => {
        try {
          checkSeal(sealed, value as SealOpening)
        } catch (error) {
          expect(error).toMatchObject({ code: 'INVALID_ARGUMENT' })
        }
      }),
    )
  })
})

describe('after the reveal', () => {
  test('a sealed result gives the status, layer and digest that comparing the vectors gives', () => {
    const reached = new Set<string>()
    fc.assert(
      fc.property(someSamples, (which) => {
        const claimed = corrupted(which)
        const { firstMismatch, samplesDigest } = matchRecomputed(plan, layers, claimed)
        const outcome = sealedOutcome(honest, { ...proof, samples: claimed })
        reached.add(outcome.status)
        expect(outcome).toEqual({
          status: which.length > 0 ? 'rejected' : 'accepted',
          layer: firstMismatch?.layer ?? plan.deepestLayer,
          samplesDigest,
        })
      }),
    )
    expect(reached.size).toBe(2)
  })

  test('an honest verdict goes with the seal; one changed to please somebody does not', () => {
    fc.assert(
      fc.property(someSamples, (which) => {
        const samples = corrupted(which)
        const { firstMismatch, samplesDigest } = matchRecomputed(plan, layers, samples)
        const status = firstMismatch ? 'rejected' : 'accepted'
        const verdict = { status, firstMismatch, samplesDigest } satisfies Partial<Verdict>
        expect(checkSealedVerdict(honest, { ...proof, samples }, verdict)).toEqual([])
        const opposite = { ...verdict, status: firstMismatch ? 'accepted' : 'rejected' } as const
        expect(checkSealedVerdict(honest, { ...proof, samples }, opposite)).toEqual(['status'])
        const elsewhere = { ...verdict, firstMismatch: { layer: 0, position: 0, part: 'k' as const } }
        expect(checkSealedVerdict(honest, { ...proof, samples }, elsewhere)).toEqual(['stopping_layer'])
        const changed = { ...verdict, samplesDigest: SALT }
        expect(checkSealedVerdict(honest, { ...proof, samples }, changed)).toEqual(['samples_digest'])
      }),
    )
  })

  test('tokens that the model would not choose reject samples that all match, at the deepest layer', () => {
    const refuting = { ...honest, refuted: true }
    const [layer, samplesDigest] = honest.digests[honest.digests.length - 1]
    expect(sealedOutcome(refuting, proof)).toEqual({ status: 'rejected', layer, samplesDigest })
    const verdict = { status: 'rejected' as const, firstMismatch: null, samplesDigest }
    expect(checkSealedVerdict(refuting, proof, verdict)).toEqual([])
    expect(checkSealedVerdict(honest, proof, verdict)).toEqual(['status'])
  })

  test('a result with a layer less, or another one, rejects', () => {
    for (const digests of [honest.digests.slice(0, -1), honest.digests.slice(1)]) {
      expect(sealedOutcome({ ...honest, digests }, proof).status).toBe('rejected')
    }
    const more = [...honest.digests, [99, SALT] as const]
    expect(sealedOutcome({ ...honest, digests: more }, proof)).toMatchObject({ status: 'rejected', layer: 99 })
  })
})

describe('a verifier that does not compute', () => {
  const verdictOf = (samples: KvSample[]) => {
    const deepest = claimedDigests(samples).at(-1)
    return { status: 'accepted', firstMismatch: null, samplesDigest: deepest?.[1] ?? '' } as const
  }

  test('could echo the claimed digests while it was not blind', () => {
    // What a seal is for: the echo of an honest proof is word for word the honest verdict.
    expect(checkSealedVerdict(honest, proof, verdictOf(proof.samples))).toEqual([])
  })

  test('has nothing to echo before it seals: whatever it makes up, its acceptance contradicts the seal', () => {
    const inventions = fc.array(fc.nat({ max: 0xffffffff }), { minLength: layers.length, maxLength: layers.length })
    fc.assert(
      fc.property(inventions, (numbers) => {
        const digests = sampledLayers.map((layer, i): LayerDigest => {
          return [layer, createHash('sha256').update(`${numbers[i]}`).digest('hex')]
        })
        const lazy = { ...honest, digests }
        expect(sealedOutcome(lazy, proof).status).toBe('rejected')
        expect(checkSealedVerdict(lazy, proof, verdictOf(proof.samples))).toContain('status')
      }),
    )
  })

  test('that computes all layers but the deepest, or guesses one vector, is found out as well', () => {
    const guessed = layers.map((layer, i) => (i < layers.length - 1 ? layer : { ...layer, v: layer.k }))
    const lazy = { ...honest, digests: runningDigests(guessed) }
    expect(sealedOutcome(lazy, proof)).toMatchObject({ status: 'rejected', layer: plan.deepestLayer })
  })

  test('sees in its blind proof none of the claimed vectors', () => {
    const { header, tokens, ...digests } = blindProof(proof)
    const seen = JSON.stringify({ header, tokens: hex(new Uint8Array(tokens.buffer)), digests })
    for (const { layer, position } of proof.samples) {
      for (const part of ['k', 'v'] as const) expect(seen).not.toContain(hex(vectorAt(layer, position, part)))
    }
  })
})
