// Blind verification on a trained model: what is recomputed before the reveal gives the verdict of verify() after it.
import path from 'node:path'
import { claimedDigests, runningDigests } from '../../lib/agreement'
import { contextOf } from '../../lib/binding'
import { judge, matchRecomputed, type Recomputed, recompute } from '../../lib/blind'
import { plantCanaries, scoreCanaries } from '../../lib/canary'
import { checkVerdict } from '../../lib/check'
import { commitWithHeader } from '../../lib/commitment'
import { PocError } from '../../lib/errors'
import { generate } from '../../lib/generate'
import type { LayerSamples } from '../../lib/kv'
import { Model } from '../../lib/model'
import { createPlan, type Plan } from '../../lib/plan'
import { decodeProof, encodeProof, type Proof } from '../../lib/proof'
import { prove } from '../../lib/prove'
import {
  type BlindProof,
  blindProof,
  checkSeal,
  checkSealedVerdict,
  claimedResult,
  resultDigest,
  sealedOutcome,
  sealSubject,
  sealVerdict,
} from '../../lib/seal'
import { verify } from '../../lib/verify'

let model: Model
let proof: Proof
let plan: Plan
let recomputed: Recomputed
let layers: LayerSamples[]

beforeAll(async () => {
  model = await Model.load(path.join(__dirname, '../../models/tiny-stories'), { threads: 2 })
  const tokens = Array.from({ length: 48 }, (_, i) => (i * 37 + 11) % 512)
  const options = { promptLength: 5, nonce: '0b', tokenSampler: 'bernoulli:1/3', layerSampler: 'uniform:2' }
  proof = await prove(model, tokens, { ...options, kvDtype: 'f16' })
  const blind = blindProof(proof)
  plan = createPlan(blind.header, blind.tokens)
  recomputed = await recompute(model, blind, { chunkSize: 7 })
  layers = recomputed.layers
})
afterAll(() => model.close())

test('what it seals is compared with a claim by one digest, of whole vectors or of the digest for them', async () => {
  expect(resultDigest(runningDigests(layers))).toBe(claimedResult(proof))
  expect(claimedResult(forged(0))).not.toBe(claimedResult(proof))
  const options = { promptLength: 5, tokenSampler: 'bernoulli:1/3', layerSampler: 'uniform:2' }
  const short = await prove(model, proof.tokens, { ...options, form: 'digest' })
  const { layers: ours } = await recompute(model, blindProof(short))
  expect(resultDigest(runningDigests(ours))).toBe(claimedResult(short))
  expect(resultDigest(runningDigests(ours))).not.toBe(claimedResult({ ...short, samplesDigest: '00'.repeat(32) }))
  const sketched = await prove(model, proof.tokens, { ...options, form: 'sketch' })
  expect(() => claimedResult(sketched)).toThrow(expect.objectContaining({ where: 'proof.header.form' }))
  expect(() => resultDigest([])).toThrow(PocError)
})

/** With one bit of one vector changed. */
function forged(index: number): Proof {
  const copy = decodeProof(encodeProof(proof))
  const { k, v } = copy.samples[index]
  const row = index % 2 === 0 ? k : v
  row[3] ^= 2
  return copy
}

test('a blind verifier computes every layer of the plan, and has the claimed vectors of an honest generator', () => {
  expect(layers.map(({ layer }) => layer)).toEqual([...plan.layers.keys()])
  expect(layers.length).toBeGreaterThan(2)
  expect(runningDigests(layers)).toEqual(claimedDigests(proof.samples))
})

test('its verdict is that of verify(), for honest and for wrong proofs, and goes with its seal', async () => {
  const result = { verifier: 'v1', subject: sealSubject(blindProof(proof)), digests: runningDigests(layers) }
  expect(recomputed.subject).toBe(result.subject)
  const { seal: sealed, opening } = sealVerdict({ ...result, refuted: false })
  const proofs = [proof]
  for (let i = 0; i < proof.samples.length; i += 5) proofs.push(forged(i))
  for (const one of proofs) {
    const verdict = await judge(model, recomputed, one, { nonce: '0b' })
    expect(verdict).toEqual(await verify(model, one, { nonce: '0b' }))
    expect(checkVerdict(one, verdict)).toEqual({ valid: true, problems: [] })
    expect(checkSealedVerdict(opening, one, verdict)).toEqual([])
    expect(sealedOutcome(opening, one).status).toBe(one === proof ? 'accepted' : 'rejected')
  }
  expect(checkSeal(sealed, opening)).toBe(true)
})

test('a task that is not what it says, or not of this model, is refused before any work', async () => {
  const blind = blindProof(proof)
  const header = (changes: object) => {
    const changed = { ...blind.header, ...changes }
    return { ...blind, header: changed, contextDigest: contextOf(changed, blind.tokens) }
  }
  const tokens = (list: ArrayLike<number>) => {
    const changed = Uint32Array.from(list)
    return { ...blind, tokens: changed, contextDigest: contextOf(blind.header, changed) }
  }
  const outside = Uint32Array.from(blind.tokens, (token, i) => (i === 40 ? model.config.vocabSize : token))
  const lastOutside = Uint32Array.from(blind.tokens, (token, i) => (i === 47 ? model.config.vocabSize : token))
  const tooLong = new Uint32Array(model.config.maxPositions + 2)
  const framed: [string, unknown][] = [
    ['INVALID_ARGUMENT', { ...blind, tokens: blind.tokens.map((token, i) => (i === 3 ? token + 1 : token)) }],
    ['INVALID_ARGUMENT', { ...blind, tokens: blind.tokens.map((token, i) => (i === 47 ? token + 1 : token)) }],
    ['INVALID_ARGUMENT', { ...blind, contextDigest: 'ab'.repeat(32) }],
    ['INVALID_ARGUMENT', { ...blind, header: { ...blind.header, modelDigest: 'ab'.repeat(32) } }],
    ['INVALID_ARGUMENT', header({ modelDigest: 'ab'.repeat(32) })],
    ['INVALID_ARGUMENT', header({ headDim: 2 * blind.header.headDim })],
    ['INVALID_ARGUMENT', header({ numKvHeads: blind.header.numKvHeads + 1 })],
    ['INVALID_ARGUMENT', header({ hiddenSize: 1 })],
    ['INVALID_ARGUMENT', header({ numLayers: 1 })],
    ['INVALID_ARGUMENT', { ...blind, tokens: [...blind.tokens] }],
    ['INVALID_ARGUMENT', { ...blind, root: 'aa'.repeat(32) }],
    ['CONTEXT_OVERFLOW', tokens(tooLong)],
    ['TOKEN_OUT_OF_RANGE', tokens(outside)],
    ['TOKEN_OUT_OF_RANGE', tokens(lastOutside)],
  ]
  for (const [code, one] of framed) {
    const onProgress = jest.fn()
    await expect(recompute(model, one as BlindProof, { onProgress })).rejects.toMatchObject({ name: 'PocError', code })
    expect(onProgress).not.toHaveBeenCalled()
  }
})

test('a change while it is recomputed does not count, and the result names its subject', async () => {
  const blind = blindProof(proof)
  const running = recompute(model, blind)
  blind.tokens.fill(7)
  blind.contextDigest = 'ab'.repeat(32)
  const ours = await running
  expect(ours.subject).toBe(sealSubject(proof))
  expect(runningDigests(ours.layers)).toEqual(claimedDigests(proof.samples))
  const other = await prove(model, proof.tokens, { ...proof.header, promptLength: 5, nonce: '0c' })
  await expect(judge(model, ours, other)).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    where: 'recomputed.subject',
  })
})

test('structure is judged as ever: the vectors do not come into it', async () => {
  const wrongNonce = await judge(model, recomputed, proof, { nonce: '0c' })
  expect(wrongNonce).toEqual(await verify(model, proof, { nonce: '0c' }))
  expect(wrongNonce.reasons.map(({ code }) => code)).toEqual(['nonce_mismatch'])
})

test('a demand that is misspelt is refused, not ignored', async () => {
  const misspelt = { nonse: '0b' } as object
  const unknown = { code: 'INVALID_ARGUMENT', where: 'options.nonse' }
  await expect(judge(model, recomputed, proof, misspelt)).rejects.toMatchObject(unknown)
  await expect(recompute(model, blindProof(proof), misspelt)).rejects.toMatchObject(unknown)
})

test('layers that are missing leave the verdict open, layers of another plan are refused', async () => {
  const without = (some: LayerSamples[]) => judge(model, { ...recomputed, layers: some }, proof)
  expect((await without(layers.slice(0, -1))).status).toBe('inconclusive')
  await expect(without(layers.slice(1))).rejects.toThrow(PocError)
  expect(() => matchRecomputed(plan, layers, proof.samples.slice(1))).toThrow(PocError)
})

test('canaries in a real proof are found by everyone who computes, and by nobody who does not', async () => {
  for (let n = 0; n < 12; n++) {
    const kind = n % 2 === 0 ? 'bit' : 'swap'
    const seed = n.toString(16).padStart(32, '0')
    const { proof: planted, canaries } = plantCanaries(proof, { seed, kind, count: 1 + (n % 3) })
    const verdict = await verify(model, planted)
    expect(checkVerdict(planted, verdict).valid).toBe(true)
    expect(scoreCanaries(canaries, verdict, { honest: true }).result).toBe('passed')
    expect(scoreCanaries(canaries, matchRecomputed(plan, layers, planted.samples)).result).toBe('passed')
    const echoed = await verify(model, proof) // word for word what an echoing verifier says of the planted one
    expect(scoreCanaries(canaries, echoed).result).toBe('failed')
  }
})

test('canaries in the virtual layer are found by everyone who computes, as hidden states', async () => {
  const full = await prove(model, Array.from(proof.tokens), { promptLength: 5, tokenSampler: 'all', depth: 'full' })
  const { layers: ours } = await recompute(model, blindProof(full))
  const wholePlan = createPlan(full.header, full.tokens)
  const reached = new Set<string>()
  for (let n = 0; n < 120; n++) {
    const kind = n % 2 === 0 ? 'bit' : 'swap'
    const given = { seed: n.toString(16).padStart(32, '0'), kind, count: 1 + (n % 3) } as const
    const { proof: planted, canaries } = plantCanaries(full, given)
    for (const { layer, part } of canaries) {
      reached.add(`${kind} ${part}`)
      expect(part === 'hidden').toBe(layer === full.header.numLayers)
    }
    const report = matchRecomputed(wholePlan, ours, planted.samples)
    expect(scoreCanaries(canaries, report, { honest: true }).result).toBe('passed')
    if (n < 8) expect(scoreCanaries(canaries, await verify(model, planted), { honest: true }).result).toBe('passed')
  }
  expect([...reached].sort()).toEqual(['bit hidden', 'bit k', 'bit v', 'swap hidden', 'swap k'])
})

test('an abort ends the recomputation with the reason', async () => {
  const controller = new AbortController()
  const reason = new Error('enough')
  controller.abort(reason)
  await expect(recompute(model, blindProof(proof), { signal: controller.signal })).rejects.toBe(reason)
})

test('tokens are replayed before the reveal: cheap text under real vectors is refuted by the seal', async () => {
  const honest = await generate(model, [0, 540, 539], { maxNewTokens: 30, commit: true, temperature: 0.9, seed: '05' })
  for (const seed of ['05', '06']) {
    const { tokens, header } = honest.commitment.claim
    const stated = { ...header, sampling: header.sampling && { ...header.sampling, seed } }
    const opened = await (await commitWithHeader(model, stated, tokens)).open('b0')
    const again = await recompute(model, blindProof(opened))
    expect(again.replay?.mismatched === 0).toBe(seed === '05')
    const verdict = await judge(model, again, opened)
    expect(verdict).toEqual(await verify(model, opened))
    expect(verdict.status).toBe(seed === '05' ? 'accepted' : 'rejected')
    const refuted = again.replay !== null && again.replay.mismatched > 0
    const result = { verifier: 'v1', subject: sealSubject(blindProof(opened)), digests: runningDigests(again.layers) }
    expect(checkSealedVerdict({ ...result, refuted }, opened, verdict)).toEqual([])
  }
})
