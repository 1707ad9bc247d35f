// Blind verification on a trained model: what is recomputed before the reveal gives the verdict of verify() after it.
import path from 'node:path'
import { claimedDigests, runningDigests } from '../../lib/agreement'
import { judge, matchRecomputed, recompute } from '../../lib/blind'
import { plantCanaries, scoreCanaries } from '../../lib/canary'
import { checkVerdict } from '../../lib/check'
import { PocError } from '../../lib/errors'
import type { LayerSamples } from '../../lib/kv'
import { Model } from '../../lib/model'
import { createPlan, type Plan } from '../../lib/plan'
import { decodeProof, encodeProof, type Proof } from '../../lib/proof'
import { prove } from '../../lib/prove'
import { blindProof, checkSeal, checkSealedVerdict, seal, sealedOutcome, sealSubject } from '../../lib/seal'
import { verify } from '../../lib/verify'

let model: Model
let proof: Proof
let plan: Plan
let layers: LayerSamples[]

beforeAll(async () => {
  model = await Model.load(path.join(__dirname, '../../models/tiny-stories'), { threads: 2 })
  const tokens = Array.from({ length: 48 }, (_, i) => (i * 37 + 11) % 512)
  const options = { promptLength: 5, nonce: '0b', tokenSampler: 'bernoulli:1/3', layerSampler: 'uniform:2' }
  proof = await prove(model, tokens, { ...options, kvDtype: 'f16' })
  const blind = blindProof(proof)
  plan = createPlan(blind.header, blind.tokens)
  layers = await recompute(model, blind, plan, { chunkSize: 7 })
})
afterAll(() => model.close())

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
  const { seal: sealed, opening } = seal({ ...result, refuted: false })
  const proofs = [proof]
  for (let i = 0; i < proof.samples.length; i += 5) proofs.push(forged(i))
  for (const one of proofs) {
    const verdict = judge(model, layers, one, { nonce: '0b' })
    expect(verdict).toEqual(await verify(model, one, { nonce: '0b' }))
    expect(checkVerdict(one, verdict)).toEqual({ valid: true, problems: [] })
    expect(checkSealedVerdict(opening, one, verdict)).toEqual([])
    expect(sealedOutcome(opening, one.samples).status).toBe(one === proof ? 'accepted' : 'rejected')
  }
  expect(checkSeal(sealed, opening)).toBe(true)
})

test('structure is judged as ever: the vectors do not come into it', async () => {
  const wrongNonce = judge(model, layers, proof, { nonce: '0c' })
  expect(wrongNonce).toEqual(await verify(model, proof, { nonce: '0c' }))
  expect(wrongNonce.reasons.map(({ code }) => code)).toEqual(['nonce_mismatch'])
})

test('layers that are missing leave the verdict open, layers of another plan are refused', () => {
  expect(judge(model, layers.slice(0, -1), proof).status).toBe('inconclusive')
  expect(() => judge(model, layers.slice(1), proof)).toThrow(PocError)
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

test('an abort ends the recomputation with the reason', async () => {
  const controller = new AbortController()
  const reason = new Error('enough')
  controller.abort(reason)
  await expect(recompute(model, blindProof(proof), plan, { signal: controller.signal })).rejects.toBe(reason)
})
