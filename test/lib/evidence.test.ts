// An evidence bundle: everything that somebody could change in one is found, without a model as far as that goes.
import { generateKeyPairSync } from 'node:crypto'
import path from 'node:path'
import { commit } from '../../lib/commitment'
import { type Audit, auditEvidence, createEvidence, type Evidence, parseEvidence } from '../../lib/evidence'
import { digestOf } from '../../lib/form'
import { generate } from '../../lib/generate'
import { MAX_EVIDENCE_PROOF_CHARS } from '../../lib/limits'
import { Model } from '../../lib/model'
import { profileDigest, type SignedProfile, signProfile } from '../../lib/profile-signature'
import { encodeProof, type Proof, proofDigest } from '../../lib/proof'
import { bindingId } from '../../lib/registry'
import type { ToleranceProfile } from '../../lib/tolerance'
import type { Verdict } from '../../lib/verdict'
import { verify } from '../../lib/verify'
import { zerosUnderLaxLimits } from './hand-made-profile'

const PROMPT = [0, 540, 539, 7]
const OPTIONS = { temperature: 0.7, seed: 'e1', tokenSampler: 'every:3', layerSampler: 'uniform:2', nonce: '0e' }
const DEMANDS = { nonce: '0e', replay: '1/2', replaySeed: 'feed' }

let model: Model
let proof: Proof
let verdict: Verdict
let evidence: Evidence
beforeAll(async () => {
  model = await Model.load(path.join(__dirname, '../../models/tiny-stories'))
  ;({ proof } = await generate(model, PROMPT, { ...OPTIONS, maxNewTokens: 16, ignoreEos: true }))
  verdict = await verify(model, proof, DEMANDS)
  evidence = createEvidence(proof, verdict, DEMANDS)
})
afterAll(() => model.close())

const overJson = (value: unknown) => JSON.parse(JSON.stringify(value))
const codes = ({ valid, problems }: Audit) => {
  expect(valid).toBe(problems.length === 0)
  return problems.map(({ code }) => code)
}
const withoutModel = async (changes: object) => codes(await auditEvidence(overJson({ ...evidence, ...changes })))
const withModel = async (changes: object) => codes(await auditEvidence(overJson({ ...evidence, ...changes }), model))
const encoded = (changes: Partial<Proof>) => Buffer.from(encodeProof({ ...proof, ...changes })).toString('base64')

describe('an honest bundle', () => {
  test('holds proof, verdict and demands, and survives JSON', () => {
    expect(verdict.status).toBe('accepted')
    expect(verdict.replay?.positions).toBeLessThan(16)
    expect(overJson(evidence)).toEqual(evidence)
    const { decoded, ...read } = parseEvidence(overJson(evidence))
    expect(read).toEqual(evidence)
    expect(decoded).toEqual(proof)
    expect(evidence).toMatchObject({ version: 1, demands: DEMANDS, profile: null })
  })

  test('is valid, with a model and without', async () => {
    const valid = { valid: true, problems: [], unverifiable: [] }
    expect(await auditEvidence(overJson(evidence))).toEqual({ ...valid, verified: false })
    expect(await auditEvidence(overJson(evidence), model)).toEqual({ ...valid, verified: true })
    expect(await auditEvidence(evidence, model, { chunkSize: 3 })).toMatchObject({ valid: true })
  })

  test('demands that were not made are not in it', async () => {
    const plain = createEvidence(proof, await verify(model, proof))
    expect(plain.demands).toEqual({})
    expect(codes(await auditEvidence(overJson(plain), model))).toEqual([])
  })

  test('of a rejection, and of an opened commitment', async () => {
    const tokens = proof.tokens.slice()
    tokens[tokens.length - 1] ^= 1
    const { stop } = proof.header
    const forged = await commit(model, tokens, { ...OPTIONS, promptLength: PROMPT.length, stop, form: 'digest' })
    const opened = await forged.open('bea0')
    const demands = { beacon: 'bea0', nonce: '0e' }
    const rejected = await verify(model, opened, demands)
    expect(rejected.reasons.map(({ code }) => code)).toEqual(['token_mismatch'])
    const bundle = createEvidence(opened, rejected, demands)
    expect(codes(await auditEvidence(overJson(bundle)))).toEqual([])
    expect(codes(await auditEvidence(overJson(bundle), model))).toEqual([])
    const other = overJson({ ...bundle, demands: { ...demands, beacon: 'bea1' } })
    expect(codes(await auditEvidence(other))).toContain('structure_overlooked')
    expect(codes(await auditEvidence(other, model))).toContain('other_verdict')
  })

  test('a limit is one of the demands', async () => {
    const found = await verify(model, proof, { ...DEMANDS, maxFlops: 1000 })
    expect(found.reasons.map((reason) => reason.code)).toEqual(['limit_exceeded'])
    const bundle = overJson(createEvidence(proof, found, { ...DEMANDS, maxFlops: 1000 }))
    expect(bundle.demands.maxFlops).toBe(1000)
    expect(await auditEvidence(bundle, model)).toMatchObject({ valid: true, verified: true })
    expect(codes(await auditEvidence({ ...bundle, demands: DEMANDS }, model))).toEqual(['other_verdict'])
    const unlimited = createEvidence(proof, verdict, { ...DEMANDS, maxFlops: Number.POSITIVE_INFINITY })
    expect(unlimited).toEqual(evidence)
  })

  test('what was asked for is in the bundle', async () => {
    for (const request of [{ tokenSampler: 'all', prompt: PROMPT }, { prompt: Uint32Array.of(1) }]) {
      const found = await verify(model, proof, { ...DEMANDS, request })
      expect(found.reasons.map(({ code }) => code)).toEqual(['request_mismatch'])
      const bundle = overJson(createEvidence(proof, found, { ...DEMANDS, request }))
      expect(codes(await auditEvidence(bundle, model))).toEqual([])
      expect(codes(await auditEvidence({ ...bundle, demands: DEMANDS }, model))).toEqual(['other_verdict'])
    }
  })

  test('of a proof that does not say how its tokens were chosen', async () => {
    const { tokens } = proof
    const unstated = await commit(model, tokens, { promptLength: PROMPT.length, nonce: '0e' })
    const opened = await unstated.open('01')
    const demands = { probabilityTest: true }
    const found = await verify(model, opened, demands)
    expect(found.replay).toMatchObject({ positions: 16, meanScoreGap: null })
    const bundle = createEvidence(opened, found, demands)
    expect(codes(await auditEvidence(overJson(bundle), model))).toEqual([])
    expect(codes(await auditEvidence(overJson({ ...bundle, demands: {} }), model))).toEqual(['replay', 'other_verdict'])
  })
})

describe('what was changed is found without a model', () => {
  test('another proof under the verdict', async () => {
    const samples = proof.samples.map((one, i) => (i === 1 ? { ...one, v: one.v.map((byte) => byte ^ 1) } : one))
    expect(await withoutModel({ proof: encoded({ samples }) })).toEqual(['other_proof', 'samples_digest'])
    expect(await withoutModel({ proof: encoded({ contextDigest: '00'.repeat(32) }) })).toEqual([
      'other_proof',
      'accepted_despite_structure',
    ])
  })

  test.each<[string, (verdict: Verdict) => Partial<Verdict>, string[]]>([
    ['another status', () => ({ status: 'inconclusive' }), ['reason_status']],
    ['an index left out', ({ matched }) => ({ matched: matched.slice(1) }), ['index_missing']],
    ['another samples digest', () => ({ samplesDigest: '00'.repeat(32) }), ['samples_digest']],
    ['another model', () => ({ modelDigest: '00'.repeat(32) }), ['accepted_despite_structure']],
    ['fewer layers', ({ computed }) => ({ computed: { ...computed, layers: 1 } }), ['computed']],
    [
      'more replayed tokens than there are',
      ({ replay }) => ({ replay: replay && { ...replay, positions: 17 } }),
      ['replay'],
    ],
    [
      'replayed tokens that mismatched',
      ({ replay }) => ({ replay: replay && { ...replay, mismatched: 1 } }),
      ['replay'],
    ],
  ])('%s', async (_, change, expected) => {
    expect(await withoutModel({ verdict: { ...verdict, ...change(verdict) } })).toEqual(expected)
  })

  test('another nonce than the one given out', async () => {
    expect(await withoutModel({ demands: { ...DEMANDS, nonce: '0f' } })).toEqual(['accepted_despite_structure'])
  })
})

describe('what only a model finds', () => {
  test('a proof of made-up vectors, with the verdict that they deserve were they right', async () => {
    const samples = proof.samples.map((one, i) => (i === 1 ? { ...one, v: one.v.map((byte) => byte ^ 1) } : one))
    const forged = { ...proof, samples }
    const honest = await verify(model, forged, DEMANDS)
    expect(honest.status).toBe('rejected')
    const { samplesDigest } = await verify(model, proof, DEMANDS)
    const lie = { ...verdict, proofDigest: proofDigest(forged), samplesDigest }
    expect(await withoutModel({ proof: encoded({ samples }), verdict: lie })).toEqual(['samples_digest'])
    expect(await withModel({ proof: encoded({ samples }), verdict: lie })).toEqual(['samples_digest', 'other_verdict'])
    // Only the digest of the forged samples makes the lie consistent; the model still tells.
    const smooth = { ...lie, samplesDigest: digestOf(samples) }
    expect(await withoutModel({ proof: encoded({ samples }), verdict: smooth })).toEqual([])
    expect(await withModel({ proof: encoded({ samples }), verdict: smooth })).toEqual(['other_verdict'])
  })

  test('another share of replayed tokens than was asked for', async () => {
    for (const demands of [{ ...DEMANDS, replay: '1/8' }, { ...DEMANDS, replaySeed: 'feee' }, { nonce: '0e' }]) {
      expect(await withModel({ demands })).toContain('other_verdict')
    }
    expect(await withoutModel({ demands: { nonce: '0e' } })).toEqual(['replay']) // all of them: a share is fewer
  })

  test('a verdict with other words', async () => {
    const reasons = [{ ...verdict.reasons[0], message: 'all is well' }]
    expect(await withModel({ verdict: { ...verdict, reasons } })).toEqual(['other_verdict'])
  })
})

describe('a verdict that rests on what only its verifier knew', () => {
  const onItsWord = (code: string) => ({ valid: true, problems: [], verified: false, unverifiable: [code] })
  const binding = () => bindingId(proof.header, proof.root)

  test('replayed: everything beside it is verified again, and it too where the auditor has a registry', async () => {
    const found = await verify(model, proof, { ...DEMANDS, seen: new Set([binding()]) })
    expect(found.reasons.map(({ code }) => code)).toEqual(['replayed'])
    const bundle = overJson(createEvidence(proof, found, DEMANDS))
    expect(await auditEvidence(bundle)).toEqual(onItsWord('replayed'))
    expect(await auditEvidence(bundle, model)).toEqual(onItsWord('replayed'))
    const known = await auditEvidence(bundle, model, { seen: new Set([binding()]) })
    expect(known).toEqual({ valid: true, problems: [], verified: true, unverifiable: [] })
    expect(codes(await auditEvidence(bundle, model, { seen: new Set() }))).toEqual(['other_verdict'])
    // Not the word of anybody: another nonce, which was to be found beside it.
    const asked = overJson({ ...bundle, demands: { ...DEMANDS, nonce: '0f' } })
    expect(await auditEvidence(asked, model)).toMatchObject({ valid: false, verified: false })
  })

  test('replayed meanwhile: another was first while this one computed', async () => {
    let asked = 0
    const found = await verify(model, proof, { ...DEMANDS, seen: { has: () => asked++ > 0, add() {} } })
    expect(found).toMatchObject({ reasons: [{ code: 'replayed' }], mismatched: [], unchecked: [] })
    expect(found.computed.layers).toBeGreaterThan(0)
    const bundle = overJson(createEvidence(proof, found, DEMANDS))
    expect(await auditEvidence(bundle, model)).toEqual(onItsWord('replayed'))
    const known = await auditEvidence(bundle, model, { seen: new Set([binding()]) })
    expect(known).toMatchObject({ valid: true, verified: true })
    const lie = { ...bundle, verdict: { ...bundle.verdict, samplesDigest: '00'.repeat(32) } }
    expect(codes(await auditEvidence(lie, model))).toContain('other_verdict')
  })

  test('an audit asks a registry about replayed verdicts alone, and adds nothing to it', async () => {
    const seen = new Set([binding()])
    expect(await auditEvidence(overJson(evidence), model, { seen })).toMatchObject({ valid: true, verified: true })
    seen.clear()
    await auditEvidence(overJson(evidence), model, { seen })
    expect(seen.size).toBe(0)
  })

  /** The verdict of a verifier that is aborted while it looks at the `count`th layer. */
  async function abortedAt(count: number, of: Proof): Promise<Verdict> {
    const controller = new AbortController()
    let layers = 0
    const onProgress = () => {
      if (++layers === count) controller.abort(new Error('stop'))
    }
    if (count === 0) controller.abort(new Error('stop'))
    return await verify(model, of, { ...DEMANDS, signal: controller.signal, onProgress })
  }

  test.each(['rows', 'digest'] as const)('aborted, %s: the layers that were compared are again', async (form) => {
    const made = await commit(model, proof.tokens, { ...OPTIONS, promptLength: PROMPT.length, form })
    const opened = await made.open('bea0')
    const reached = new Set<number>()
    for (let count = 0; count <= model.config.numLayers + 1; count++) {
      const found = await abortedAt(count, opened)
      expect(found).toMatchObject({ status: 'inconclusive', reasons: [{ code: 'aborted' }], replay: null })
      reached.add(found.computed.layers)
      const bundle = overJson(createEvidence(opened, found, DEMANDS))
      expect(await auditEvidence(bundle)).toEqual(onItsWord('aborted'))
      expect(await auditEvidence(bundle, model)).toEqual(onItsWord('aborted'))
      const { computed } = found
      for (const change of [
        { samplesDigest: '00'.repeat(32) },
        { computed: { ...computed, layers: (computed.layers + 1) % (model.config.numLayers + 2) } },
        { computed: { ...computed, share: computed.share + 0.001 } },
      ]) {
        const lie = { ...bundle, verdict: { ...found, ...change } }
        expect(codes(await auditEvidence(lie, model))).toContain('other_verdict')
      }
    }
    expect([...reached][0]).toBe(0)
    expect(reached).toContain(model.config.numLayers + 1) // all compared, and aborted while tokens were replayed
  })

  test('aborted behind a layer at which the proof had to be rejected', async () => {
    const samples = proof.samples.map((one, i) => (i === 0 ? { ...one, v: one.v.map((byte) => byte ^ 1) } : one))
    const forged = { ...proof, samples }
    expect((await verify(model, forged, DEMANDS)).status).toBe('rejected')
    const honest = await abortedAt(model.config.numLayers, proof)
    expect(honest.matched.length).toBeGreaterThan(0)
    const lie = {
      ...honest,
      proofDigest: proofDigest(forged),
      samplesDigest: digestOf(samples, honest.computed.layers),
    }
    const bundle = overJson(createEvidence(forged, lie, DEMANDS))
    expect(await auditEvidence(bundle)).toEqual(onItsWord('aborted'))
    expect(codes(await auditEvidence(bundle, model))).toEqual(['other_verdict'])
  })

  test('an audit that is aborted itself says nothing', async () => {
    const reason = new Error('no more')
    const found = await abortedAt(0, proof)
    for (const bundle of [evidence, createEvidence(proof, found, DEMANDS)]) {
      const auditing = auditEvidence(overJson(bundle), model, { signal: AbortSignal.abort(reason) })
      await expect(auditing).rejects.toBe(reason)
    }
  })
})

describe('a verdict under a tolerance profile', () => {
  const pem = generateKeyPairSync('ed25519').privateKey.export({ format: 'pem', type: 'pkcs8' }) as string
  const other = generateKeyPairSync('ed25519').privateKey.export({ format: 'pem', type: 'pkcs8' }) as string
  let zeros: Proof
  let lax: ToleranceProfile
  let signed: SignedProfile
  let accepted: Verdict
  beforeAll(async () => {
    ;({ proof: zeros, profile: lax } = zerosUnderLaxLimits(proof.header, proof.tokens))
    signed = signProfile(lax, pem)
    accepted = await verify(model, zeros, { profile: lax })
    expect(accepted).toMatchObject({ status: 'accepted', profile: profileDigest(lax) })
  })
  const untrusted = { valid: true, problems: [], verified: false, unverifiable: ['profile_untrusted'] }

  test('that anybody may have made up is right under it, and not verified', async () => {
    const bare = overJson(createEvidence(zeros, accepted, {}, lax))
    expect(bare.profile).toEqual(overJson(lax))
    for (const profileKeys of [undefined, [], [signed.publicKey]]) {
      expect(await auditEvidence(bare, model, { profileKeys })).toEqual(untrusted)
      expect(await auditEvidence(bare, undefined, { profileKeys })).toEqual(untrusted)
    }
  })

  test('that somebody trusted has signed is verified', async () => {
    const bundle = overJson(createEvidence(zeros, accepted, {}, signed))
    expect(bundle.profile).toEqual(overJson(signed))
    const { publicKey } = signProfile(lax, other)
    const trusting = { profileKeys: [publicKey, signed.publicKey.toUpperCase()] }
    const trusted = { valid: true, problems: [], unverifiable: [] }
    expect(await auditEvidence(bundle, model, trusting)).toEqual({ ...trusted, verified: true })
    expect(await auditEvidence(bundle, undefined, trusting)).toEqual({ ...trusted, verified: false })
    for (const profileKeys of [undefined, [], [publicKey]]) {
      expect(await auditEvidence(bundle, model, { profileKeys })).toEqual(untrusted)
    }
  })

  test('whose signature is not that of the key it names, or not over this profile', async () => {
    const { signature } = signProfile(lax, other)
    const lenient = { ...lax, maxPositions: 511 }
    const found = await verify(model, zeros, { profile: lenient })
    const profileKeys = [signed.publicKey]
    const bundles = [
      createEvidence(zeros, accepted, {}, { ...signed, signature }),
      createEvidence(zeros, found, {}, { ...signed, profile: lenient }),
    ]
    for (const bundle of bundles)
      expect(await auditEvidence(overJson(bundle), model, { profileKeys })).toEqual(untrusted)
    const exchanged = createEvidence(zeros, accepted, {}, { ...signed, profile: lenient })
    expect(codes(await auditEvidence(overJson(exchanged)))).toEqual(['other_profile'])
  })

  test('only where the verdict depends on it', async () => {
    const rejected = await verify(model, zeros, { profile: lax, nonce: '0f' })
    expect(rejected).toMatchObject({ reasons: [{ code: 'nonce_mismatch' }], profile: null })
    const verified = { valid: true, problems: [], verified: true, unverifiable: [] }
    expect(await auditEvidence(overJson(createEvidence(zeros, rejected, { nonce: '0f' }, lax)), model)).toEqual(
      verified,
    )
    expect(await auditEvidence(overJson(createEvidence(proof, verdict, DEMANDS, lax)), model)).toEqual(verified)
    const unknown = { ...lax, generator: 'vllm' }
    const open = await verify(model, zeros, { profile: unknown })
    expect(open).toMatchObject({ status: 'inconclusive', reasons: [{ code: 'no_profile' }] })
    expect(await auditEvidence(overJson(createEvidence(zeros, open, {}, unknown)), model)).toEqual(untrusted)
  })

  test('keys that are none, and options that there are not, are refused', async () => {
    const bundle = overJson(evidence)
    for (const options of [
      { profileKeys: 'ab' },
      { profileKeys: ['ab'] },
      { profileKey: [] },
      { profile: lax },
      null,
    ]) {
      await expect(auditEvidence(bundle, model, options as never)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
    }
    expect(() => createEvidence(zeros, accepted, {}, { ...signed, signature: 'ab' })).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
    )
  })
})

describe('what is not a bundle is refused', () => {
  const refusal = (code: string, where: string | RegExp) => ({ code, where: expect.stringMatching(where) })
  test.each<[string, () => unknown, string, RegExp]>([
    ['null', () => null, 'EVIDENCE_MALFORMED', /^evidence$/],
    ['a string', () => 'evidence', 'EVIDENCE_MALFORMED', /^evidence$/],
    ['an array', () => [], 'EVIDENCE_MALFORMED', /version$/],
    ['another version', () => ({ ...evidence, version: 2 }), 'EVIDENCE_MALFORMED', /version$/],
    ['a key more', () => ({ ...evidence, comment: 'trust me' }), 'EVIDENCE_MALFORMED', /comment$/],
    ['a key without a name', () => ({ ...evidence, '': 1, comment: 'trust me' }), 'EVIDENCE_MALFORMED', /evidence/],
    ['no profile', () => ({ ...evidence, profile: undefined }), 'EVIDENCE_MALFORMED', /profile$/],
    ['a proof in hex', () => ({ ...evidence, proof: `${evidence.proof}!` }), 'EVIDENCE_MALFORMED', /proof$/],
    ['a profile that is none', () => ({ ...evidence, profile: {} }), 'EVIDENCE_MALFORMED', /profile$/],
    ['half a signed profile', () => ({ ...evidence, profile: { profile: null } }), 'EVIDENCE_MALFORMED', /profile$/],
    [
      'a proof over the limit',
      () => ({ ...evidence, proof: ' '.repeat(MAX_EVIDENCE_PROOF_CHARS + 1) }),
      'EVIDENCE_MALFORMED',
      /proof$/,
    ],
    ['no proof', () => ({ ...evidence, proof: '' }), 'PROOF_MALFORMED', /proof/],
    ['half a proof', () => ({ ...evidence, proof: evidence.proof.slice(0, 400) }), 'PROOF_MALFORMED', /proof/],
    ['no verdict', () => ({ ...evidence, verdict: null }), 'VERDICT_MALFORMED', /^verdict$/],
    ['no demands', () => ({ ...evidence, demands: null }), 'EVIDENCE_MALFORMED', /demands$/],
    ['a demand more', () => ({ ...evidence, demands: { mercy: 1 } }), 'EVIDENCE_MALFORMED', /mercy$/],
    ['a nonce that is no hex', () => ({ ...evidence, demands: { nonce: 'xyz' } }), 'EVIDENCE_MALFORMED', /nonce$/],
    [
      'a beacon of 65 bytes',
      () => ({ ...evidence, demands: { beacon: '00'.repeat(65) } }),
      'EVIDENCE_MALFORMED',
      /beacon$/,
    ],
    ['a number for a seed', () => ({ ...evidence, demands: { replaySeed: 7 } }), 'EVIDENCE_MALFORMED', /replaySeed$/],
    ['a number for a share', () => ({ ...evidence, demands: { replay: 1 } }), 'EVIDENCE_MALFORMED', /replay$/],
    ['a limit below 0', () => ({ ...evidence, demands: { maxFlops: -1 } }), 'EVIDENCE_MALFORMED', /maxFlops$/],
    ['a limit in words', () => ({ ...evidence, demands: { maxFlops: '9' } }), 'EVIDENCE_MALFORMED', /maxFlops$/],
    [
      'a word for a switch',
      () => ({ ...evidence, demands: { probabilityTest: 'yes' } }),
      'EVIDENCE_MALFORMED',
      /Test$/,
    ],
  ])('%s', async (_, bundle, code, where) => {
    expect(() => parseEvidence(bundle())).toThrow(expect.objectContaining(refusal(code, where)))
    await expect(auditEvidence(bundle())).rejects.toMatchObject({ code })
  })

  test('a share that is none is an error of the audit with a model', async () => {
    const bundle = overJson({ ...evidence, demands: { ...DEMANDS, replay: 'half' } })
    await expect(auditEvidence(bundle, model)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  })
})
