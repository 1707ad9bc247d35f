// The main job on a really trained model: what honest and dishonest proofs lead to, and the bits behind it.
import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { bindingDigest, contextChain } from '../../lib/binding'
import { checkVerdict } from '../../lib/check'
import { generate } from '../../lib/generate'
import { Model } from '../../lib/model'
import { createPlan } from '../../lib/plan'
import { prefill } from '../../lib/prefill'
import { decodeProof, encodeProof, type Proof } from '../../lib/proof'
import { prove, proveWithHeader } from '../../lib/prove'
import { verify } from '../../lib/verify'

const models = process.env.POC_MODELS ?? path.join(__dirname, '../../../shared/models')
const stories = path.join(models, 'stories260K')
const present = existsSync(path.join(stories, 'hf-f32/model.safetensors'))
if (!present) console.warn(`skipped: stories260K is not at ${stories} (set POC_MODELS)`)
const tiny = path.join(__dirname, '../../models/tiny-stories')

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
const vectors = (proof: Proof) => proof.samples.map((s) => [s.layer, s.position, hex(s.k), hex(s.v)])
const copyOf = (proof: Proof): Proof => decodeProof(encodeProof(proof))

/** A proof whose binding and context digest fit its (changed) tokens: the work of a forger, not of an accident. */
function withTokens(proof: Proof, tokens: Uint32Array): Proof {
  const chain = contextChain(bindingDigest(proof.header))
  let digest = new Uint8Array(0)
  for (const token of tokens) digest = chain.push(token) as Uint8Array<ArrayBuffer>
  return { ...proof, tokens, contextDigest: hex(digest) }
}

;(present ? describe : describe.skip)('stories260K', () => {
  let real: Model
  let proof: Proof
  let tokens: Uint32Array
  const expected = present
    ? readFileSync(path.join(stories, 'expected-greedy-200.ids.txt'), 'utf8')
        .trim()
        .split(/[\s,]+/)
        .map(Number)
    : []

  beforeAll(async () => {
    real = await Model.load(path.join(stories, 'hf-f32'))
    ;({ tokens, proof } = await generate(real, [1], { maxNewTokens: 200 }))
  })
  afterAll(() => real.close())

  test('greedy from BOS gives the 200 ids of three other engines', () => {
    expect([...tokens]).toEqual(expected)
  })

  test('the honest proof is accepted, survives its encoding, and the verdict passes the user’s own check', async () => {
    const verdict = await verify(real, copyOf(proof))
    expect(verdict).toMatchObject({ status: 'accepted', mismatched: [], unchecked: [] })
    expect(verdict.matched).toHaveLength(proof.samples.length)
    expect(checkVerdict(proof, verdict)).toEqual({ valid: true, problems: [] })
    expect(await verify(real, proof)).toEqual(verdict)
  })

  test('every single changed token is rejected', async () => {
    for (let i = 0; i < tokens.length; i++) {
      const changed = tokens.slice()
      changed[i] = (changed[i] + 1 + (i % 500)) % 512
      expect((await verify(real, { ...proof, tokens: changed })).status).toBe('rejected')
    }
  })

  test('a changed token is rejected by the vectors too, when the forger repairs every digest', async () => {
    for (let i = 0; i < tokens.length - 1; i += 23) {
      const changed = tokens.slice()
      changed[i] = (changed[i] + 1) % 512
      const forged = withTokens(proof, changed)
      const plan = createPlan(forged.header, changed)
      const bySample = new Map(proof.samples.map((s) => [`${s.layer} ${s.position}`, s]))
      const filler = proof.samples[0]
      forged.samples = [...plan.layers].flatMap(([layer, positions]) =>
        Array.from(positions, (position) => ({ ...(bySample.get(`${layer} ${position}`) ?? filler), layer, position })),
      )
      const verdict = await verify(real, forged)
      expect(verdict).toMatchObject({ status: 'rejected', reasons: [{ code: 'sample_mismatch' }] })
    }
  })

  test('every single changed bit of a sample is rejected at that sample', async () => {
    const changed = copyOf(proof)
    for (const sample of [changed.samples[0], changed.samples[7], changed.samples[changed.samples.length - 1]]) {
      for (const part of ['k', 'v'] as const) {
        for (let bit = 0; bit < sample[part].length * 8; bit += 37) {
          sample[part][bit >> 3] ^= 1 << (bit & 7)
          const verdict = await verify(real, changed)
          sample[part][bit >> 3] ^= 1 << (bit & 7)
          const { layer, position } = sample
          expect(verdict).toMatchObject({ status: 'rejected', firstMismatch: { layer, position, part } })
          expect(checkVerdict(changed, verdict).valid).toBe(false) // the proof was changed back since
        }
      }
    }
    expect((await verify(real, changed)).status).toBe('accepted')
  })

  test('another model is named as the mismatch, without any model work', async () => {
    const other = await Model.load(path.join(stories, 'hf-bf16'))
    const verdict = await verify(other, proof)
    expect(verdict).toMatchObject({ status: 'rejected', computed: { layers: 0, positions: 0, share: 0 } })
    expect(verdict.reasons[0].code).toBe('model_mismatch')
    expect(verdict.reasons[0].message).toContain(real.digest)
    expect(verdict.reasons[0].message).toContain(other.digest)
    await other.close()
  })

  test('other weights under the real model’s name are rejected at the first sampled layer', async () => {
    const cheap = await Model.load(path.join(stories, 'hf-bf16'))
    for (const layerSampler of ['stratified:2', 'uniform:1', 'fixed:2,4']) {
      const output = await generate(cheap, [1], { maxNewTokens: 60, layerSampler })
      const header = { ...output.proof.header, modelDigest: real.digest }
      const forged = await proveWithHeader(cheap, header, output.tokens)
      const first = Math.min(...forged.samples.map((s) => s.layer))
      const verdict = await verify(real, forged)
      expect(first).toBeGreaterThanOrEqual(1)
      expect(verdict).toMatchObject({ status: 'rejected', firstMismatch: { layer: first } })
      expect(verdict.computed.layers).toBe(first + 1)
      expect(verdict.computed.share).toBeLessThan((first + 1) / real.config.numLayers)
      expect(checkVerdict(forged, verdict).valid).toBe(true)
    }
    await cheap.close()
  })

  test('a nonce other than the user’s is rejected', async () => {
    const fresh = await prove(real, tokens, { promptLength: 1, nonce: 'c0ffee' })
    expect((await verify(real, fresh, { nonce: 'C0FFEE' })).status).toBe('accepted')
    const replayed = await verify(real, fresh, { nonce: 'beef' })
    expect(replayed).toMatchObject({ status: 'rejected', reasons: [{ code: 'nonce_mismatch' }] })
  })

  test('a plan over the caller’s limit gives an inconclusive verdict', async () => {
    const verdict = await verify(real, proof, { maxFlops: 1000 })
    expect(verdict).toMatchObject({ status: 'inconclusive', reasons: [{ code: 'limit_exceeded' }] })
  })
})

describe('bit equality on the bundled model', () => {
  const every = { tokenSampler: 'all', layerSampler: 'fixed:0,1,2,3,4,5' }
  let reference: Proof
  let tokens: Uint32Array

  beforeAll(async () => {
    const model = await Model.load(tiny, { threads: 1 })
    const output = await generate(model, [0, 540, 539, 260, 384], { maxNewTokens: 60, ignoreEos: true, ...every })
    tokens = output.tokens
    reference = output.proof
    await model.close()
  })

  test.each(['avx512', 'avx2', 'neon', 'plain'])('%s: any threads and chunks give what decoding gave', async (simd) => {
    for (const threads of [1, 2, 7]) {
      const model = await Model.load(tiny, { threads, simd }).catch((error) => {
        if (error.code !== 'INVALID_ARGUMENT') throw error
        console.warn(`skipped: this CPU has no ${simd}`)
        return null
      })
      if (!model) return
      for (const chunkSize of [1, 7, 64, 4096]) {
        const again = await prove(model, tokens, { promptLength: 5, chunkSize, ...every })
        expect(vectors(again)).toEqual(vectors(reference))
      }
      await model.close()
    }
  })

  test.each([
    'f32',
    'f16',
    'bf16',
  ] as const)('%s cache: capturing while decoding equals proving afterwards', async (kvDtype) => {
    const model = await Model.load(tiny)
    const options = { kvDtype, temperature: 0.8, topK: 40, topP: 0.95, seed: 'ab', nonce: '01' }
    const output = await generate(model, [0, 540, 539], { maxNewTokens: 40, ...options })
    const { stop } = output.proof.header
    const again = await prove(model, output.tokens, { promptLength: 3, ...options, stop })
    expect(hex(encodeProof(again))).toBe(hex(encodeProof(output.proof)))
    expect((await verify(model, output.proof)).status).toBe('accepted')
    await model.close()
  })

  test('the cone computes the same rows as the whole pass', async () => {
    const model = await Model.load(tiny)
    const header = { ...reference.header, tokenSampler: 'bernoulli:1/8', layerSampler: 'uniform:2' }
    const plan = createPlan(header, tokens)
    const whole = new Map(reference.samples.map((s) => [`${s.layer} ${s.position}`, s]))
    for await (const { layer, positions, k, v } of prefill(model, tokens, plan)) {
      const rowBytes = k.length / positions.length
      positions.forEach((position, row) => {
        const sample = whole.get(`${layer} ${position}`)
        expect(hex(k.subarray(row * rowBytes, (row + 1) * rowBytes))).toBe(hex(sample?.k as Uint8Array))
        expect(hex(v.subarray(row * rowBytes, (row + 1) * rowBytes))).toBe(hex(sample?.v as Uint8Array))
      })
    }
    await model.close()
  })
})
