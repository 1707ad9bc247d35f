import { createPublicKey, generateKeyPairSync, verify } from 'node:crypto'
import { upperBound, lowerBound } from '../../lib/binomial'
import { PocError } from '../../lib/errors'
import { parseProfile } from '../../lib/parse-profile'
import {
  profileBytes,
  profileDigest,
  type SignedProfile,
  signProfile,
  verifyProfile,
} from '../../lib/profile-signature'
import { type ToleranceProfile, whyNotCovered } from '../../lib/tolerance'
import { handMadeProof } from './hand-made-proof'
import { handMadeProfile } from './hand-made-profile'

const PROFILE = handMadeProfile(3)
const copy = <T>(value: T): T => JSON.parse(JSON.stringify(value))
const pem = (kind: 'ed25519' | 'x25519') => {
  const { privateKey } = generateKeyPairSync(kind as 'ed25519')
  return privateKey.export({ type: 'pkcs8', format: 'pem' }) as string
}

const invalid = expect.objectContaining({ code: 'INVALID_ARGUMENT' })
function refused(json: unknown) {
  expect(() => parseProfile(json)).toThrow(PocError)
  expect(() => parseProfile(json)).toThrow(invalid)
}

test('a profile is read back from its JSON as it was', () => {
  expect(parseProfile(copy(PROFILE))).toEqual(PROFILE)
  const more = {
    ...PROFILE,
    tokenGap: {
      maxMeanGap: 1e-4,
      fittedSequences: 5,
      heldOutSequences: 5,
      rejectedSequences: 0,
      maxFalseRejection: 0.4,
      greatestHonestGap: 0,
      cheats: [],
    },
  }
  expect(parseProfile(copy(more))).toEqual(more)
})

/** Every field of a value by its path. */
function paths(value: unknown, at: (string | number)[] = []): (string | number)[][] {
  if (typeof value !== 'object' || value === null) return [at]
  const keys = Array.isArray(value) ? value.map((_, i) => i) : Object.keys(value)
  return [...(at.length > 0 ? [at] : []), ...keys.flatMap((key) => paths((value as never)[key], [...at, key]))]
}

function changed(path: (string | number)[], change: (parent: object, key: string | number) => void): unknown {
  const json = copy(PROFILE)
  const parent = path.slice(0, -1).reduce((value, key) => (value as never)[key], json as unknown)
  change(parent as object, path[path.length - 1])
  return json
}

test('every field is needed, has its type, and has none beside it', () => {
  for (const path of paths(PROFILE)) {
    const isItem = typeof path[path.length - 1] === 'number'
    const isList = Array.isArray(path.reduce((value, key) => (value as never)[key], PROFILE as unknown))
    for (const bad of [
      isList ? {} : [],
      undefined,
      true,
      'none of these \u00e9',
      Number.NaN,
      -1,
      Number.POSITIVE_INFINITY,
    ]) {
      refused(changed(path, (parent, key) => void Object.assign(parent, { [key]: bad })))
    }
    if (!isItem) refused(changed(path, (parent, key) => void Reflect.deleteProperty(parent, key)))
    if (!isItem) refused(changed(path, (parent) => void Object.assign(parent, { more: 1 })))
  }
  for (const bad of [null, 1, 'profile', [], {}]) refused(bad)
})

test.each<[string, (profile: ToleranceProfile) => void]>([
  ['a forgery left out', ({ forgeries }) => void forgeries.pop()],
  ['a forgery twice', ({ forgeries }) => void forgeries.splice(1, 1, forgeries[0])],
  ['a forgery that passes', ({ forgeries }) => void Object.assign(forgeries[2], { passedSequences: 1 })],
  ['a forgery within the limits', ({ forgeries }) => void Object.assign(forgeries[3], { minStrain: 1 })],
  ['sums in form rows', (profile) => void Object.assign(profile, { projections: 16 })],
  ['form sketch without sums', (profile) => void Object.assign(profile, { form: 'sketch' })],
  ['V at the virtual layer', ({ layers }) => void layers.splice(3, 1, layers[0])],
  ['a shortest length over the longest', (profile) => void Object.assign(profile, { minPositions: 513 })],
  ['more rejected than there were', ({ honest }) => void Object.assign(honest, { rejectedSequences: 51 })],
  ['minus zero', ({ honest }) => void Object.assign(honest.strain, { min: -0 })],
])('%s is refused', (_, change) => {
  const profile = copy(PROFILE)
  change(profile)
  refused(profile)
})

/** RFC 8785 for these values: sorted keys, no blanks. */
function sortedJson(value: unknown): string {
  return JSON.stringify(value, (_, field) => {
    if (typeof field !== 'object' || field === null || Array.isArray(field)) return field
    return Object.fromEntries(
      Object.keys(field)
        .sort()
        .map((key) => [key, field[key]]),
    )
  })
}

test('what is signed are the documented bytes, whatever order the fields come in', () => {
  const bytes = Buffer.from(`proof-of-cache/v1/profile\0${sortedJson(PROFILE)}`)
  expect(Buffer.from(profileBytes(PROFILE)).equals(bytes)).toBe(true)
  const reversed = Object.fromEntries(Object.entries(PROFILE).reverse()) as unknown as ToleranceProfile
  expect(profileDigest(reversed)).toBe(profileDigest(PROFILE))
  expect(profileDigest({ ...PROFILE, maxPositions: 511 })).not.toBe(profileDigest(PROFILE))

  const key = pem('ed25519')
  const { signature } = signProfile(PROFILE, key)
  expect(verify(null, bytes, createPublicKey(key), Buffer.from(signature, 'hex'))).toBe(true)
})

test('a signed profile is taken from a trusted key only, and unchanged', () => {
  const signed = copy(signProfile(PROFILE, pem('ed25519')))
  expect(verifyProfile(signed, [signed.publicKey])).toEqual(PROFILE)
  const other = signProfile(PROFILE, pem('ed25519'))
  const isRefused = (change: Partial<Record<keyof SignedProfile | 'more', unknown>>, keys = [signed.publicKey]) => {
    expect(() => verifyProfile({ ...signed, ...change }, keys)).toThrow(invalid)
  }
  isRefused({}, [])
  isRefused({}, [other.publicKey])
  isRefused({ publicKey: other.publicKey }, [other.publicKey])
  isRefused({ signature: other.signature })
  isRefused({ signature: signed.signature.slice(2) })
  isRefused({ profile: { ...PROFILE, maxPositions: 513 } })
  isRefused({ more: 1 })
  isRefused({ publicKey: 'zz' })
  expect(() => verifyProfile(null, [])).toThrow(invalid)
  expect(() => signProfile(PROFILE, 'no key')).toThrow(invalid)
  expect(() => signProfile(PROFILE, pem('x25519'))).toThrow(invalid)
})

test('a profile covers proofs of its own model, engines, form, samplers and lengths, at layers that it knows', () => {
  const header = {
    numerics: 'llama.cpp',
    kvDtype: 'f32',
    tokenSampler: 'bernoulli:1/4',
    layerSampler: 'uniform:3',
  } as const
  const { proof, plan } = handMadeProof(40, header)
  const { tokenSampler, layerSampler } = proof.header
  const profile = handMadeProfile(6, undefined, { tokenSampler, layerSampler })
  const why = (change: Partial<ToleranceProfile>) => {
    return whyNotCovered({ ...profile, ...change }, proof.header, 'rows', 'ieee32', plan)
  }
  expect(why({})).toBeNull()
  expect(why({ modelDigest: 'cd'.repeat(32) })).toMatch('model')
  expect(why({ kvDtype: 'f16' })).toMatch('kvDtype')
  expect(why({ generator: 'vllm' })).toMatch('generator')
  expect(why({ verifier: 'ieee64' })).toMatch('verifier')
  expect(why({ form: 'sketch' })).toMatch('form')
  expect(why({ tokenSampler: 'all' })).toMatch('token sampler')
  expect(why({ layerSampler: 'uniform:1' })).toMatch('layer sampler')
  expect(why({ layers: profile.layers.slice(1) })).toMatch('number of layers')
  expect(why({ minPositions: 40 })).toMatch('positions')
  expect(why({ maxPositions: 38 })).toMatch('positions')
  expect(why({ minPositions: 39, maxPositions: 39 })).toBeNull()
  const [sampled] = plan.layers.keys()
  const without = profile.layers.map((limits, layer) => (layer === sampled ? { ...limits, v: null } : limits))
  expect(why({ layers: without })).toMatch(`layer ${sampled}`)
})

test('bounds of a share are those at which the count becomes improbable', () => {
  // None of n: 1 - 0.05^(1/n), the "rule of three".
  for (const n of [1, 10, 60, 300]) expect(upperBound(0, n, 0.95)).toBeCloseTo(1 - 0.05 ** (1 / n), 8)
  const choose = (n: number, k: number): number => (k === 0 ? 1 : (choose(n, k - 1) * (n - k + 1)) / k)
  const atMost = (k: number, n: number, p: number) => {
    return Array.from({ length: k + 1 }, (_, i) => choose(n, i) * p ** i * (1 - p) ** (n - i)).reduce((a, b) => a + b)
  }
  for (const [k, n] of [
    [1, 10],
    [2, 100],
    [49, 50],
    [30, 60],
  ]) {
    expect(atMost(k, n, upperBound(k, n, 0.95))).toBeCloseTo(0.05, 6)
    expect(1 - atMost(k - 1, n, lowerBound(k, n, 0.95))).toBeCloseTo(0.05, 6)
  }
  expect([upperBound(5, 5, 0.95), lowerBound(0, 5, 0.95), lowerBound(0, 0, 0.95)]).toEqual([1, 0, 0])
})
