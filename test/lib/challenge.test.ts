// Commit, then open, then verify, on a trained model: every beacon, form, depth and dtype; and what a cheat runs into.
import path from 'node:path'
import fc from 'fast-check'
import type { SampleForm } from '../../lib/binding'
import { type Claim, drawChallenge, planOf } from '../../lib/challenge'
import { checkVerdict } from '../../lib/check'
import { decodeClaim, encodeClaim } from '../../lib/claim'
import { type Commitment, commit, commitWithHeader, openClaim } from '../../lib/commitment'
import { parseDepth } from '../../lib/depth'
import { generate } from '../../lib/generate'
import { Model } from '../../lib/model'
import { decodeProof, encodeProof, type Proof } from '../../lib/proof'
import { prove, sampledBy } from '../../lib/prove'
import { parseVerdict, type Verdict } from '../../lib/verdict'
import { type VerifyOptions, verify } from '../../lib/verify'
import { verifyAll } from '../../lib/verify-all'
import { makeModel } from '../models/make'
import { referenceForward } from '../models/reference-forward'
import { anyHeader, anyTokens, cbor, contexts, H, headerMap, hex, le32 } from './second-implementation'

const PROMPT = [0, 540, 539, 7, 8, 9]
const SAMPLING = { temperature: 0.8, topK: 50, topP: 0.9, seed: '5eed' }
const OPTIONS = { ...SAMPLING, tokenSampler: 'every:4', layerSampler: 'uniform:2', nonce: '0b' }
/** Sizes of the bundled model. */
const TINY = {
  vocab_size: 1024,
  hidden_size: 128,
  intermediate_size: 232,
  num_hidden_layers: 6,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  head_dim: 16,
}
const BEACONS = ['00', '01', 'c0ffee', 'ff'.repeat(64)]

let model: Model
let tokens: Uint32Array
beforeAll(async () => {
  model = await Model.load(path.join(__dirname, '../../models/tiny-stories'))
  ;({ tokens } = await generate(model, PROMPT, { maxNewTokens: 20, ignoreEos: true, ...SAMPLING }))
})
afterAll(() => model.close())

const committed = (changes: object = {}) =>
  commit(model, tokens, { promptLength: PROMPT.length, ...OPTIONS, ...changes })

/** The verdict, after both survived their encodings and the user's own check. */
async function verdictOn(proof: Proof, options: VerifyOptions = {}): Promise<Verdict> {
  expect(decodeProof(encodeProof(proof))).toEqual(proof)
  const verdict = await verify(model, proof, options)
  expect(parseVerdict(JSON.parse(JSON.stringify(verdict)))).toEqual(verdict)
  expect(checkVerdict(proof, verdict, options)).toEqual({ valid: true, problems: [] })
  return verdict
}
const codes = ({ reasons }: Verdict) => reasons.map(({ code }) => code)

describe('what is drawn', () => {
  test('is a pure function of root and beacon, from the hashes of the text', () => {
    const anyClaim = fc
      .tuple(anyHeader, anyTokens, fc.constantFrom('kv', 'full', 'random:3'))
      .map(([h, ids, depth]) => {
        const header = { ...h, challenge: 'beacon' as const, depth: h.layerSampler === 'fixed:0' ? 'full' : depth }
        return { header, tokens: ids, root: hex(H('a', le32(ids[0]))), contextDigest: '00'.repeat(32) }
      })
    fc.assert(
      fc.property(anyClaim, fc.uint8Array({ minLength: 1, maxLength: 64 }), (claim, beacon) => {
        const challenge = drawChallenge(claim, hex(beacon))
        const seed = H('challenge', Uint8Array.from(Buffer.from(claim.root, 'hex')), beacon)
        expect(hex(challenge.seed)).toBe(hex(seed))
        const { numLayers, depth, tokenSampler } = claim.header
        const last = claim.tokens.length - 2
        const isSampled = (position: number) => {
          const context = H('challenge-context', seed, le32(position))
          const word = Buffer.from(H('token-sampler', context)).readBigUInt64LE()
          if (tokenSampler === 'bernoulli:1/4') return word < 2n ** 62n
          return tokenSampler === 'every:3' ? position % 3 === 2 : true
        }
        const expected = Array.from({ length: last + 1 }, (_, i) => i).filter((i) => i === last || isSampled(i))
        const sampled = new Set([...challenge.plan.layers.values()].flatMap((some) => [...some]))
        expect([...sampled].sort((a, b) => a - b)).toEqual(expected)
        const deepest = parseDepth(depth).deepest(seed, numLayers)
        expect(challenge.plan.deepestLayer).toBeLessThanOrEqual(deepest)
        if (depth !== 'kv') expect(deepest).toBeGreaterThanOrEqual(1)
        expect(deepest).toBeLessThanOrEqual(depth === 'kv' ? numLayers - 1 : numLayers)
      }),
    )
  })

  test('the depth of random:n is the least of n uniform draws', () => {
    const numLayers = 4
    const runs = 3000
    for (const draws of [1, 3]) {
      const counts = new Array<number>(numLayers + 1).fill(0)
      const policy = parseDepth(`random:${draws}`)
      for (let i = 0; i < runs; i++) counts[policy.deepest(H('b', le32(i)), numLayers)]++
      expect(counts[0]).toBe(0)
      for (let depth = 1; depth <= numLayers; depth++) {
        const share = ((numLayers - depth + 1) / numLayers) ** draws - ((numLayers - depth) / numLayers) ** draws
        const deviation = Math.sqrt(runs * share * (1 - share))
        expect(Math.abs(counts[depth] - runs * share)).toBeLessThan(4.5 * deviation)
      }
    }
  })

  test.each<[string, (claim: Claim) => [Claim, string]]>([
    ['no beacon', (claim) => [claim, '']],
    ['a beacon of 65 bytes', (claim) => [claim, '00'.repeat(65)]],
    ['positions from the context', (claim) => [{ ...claim, header: { ...claim.header, challenge: 'context' } }, '01']],
    ['a root that is none', (claim) => [{ ...claim, root: '' }, '01']],
  ])('%s is refused', async (_, change) => {
    const { claim } = await committed()
    expect(() => drawChallenge(...change(claim))).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
  })
})

describe('an honest opening is accepted', () => {
  test.each<[SampleForm, 'f32' | 'f16' | 'bf16', string]>([
    ['rows', 'f32', 'full'],
    ['rows', 'f16', 'kv'],
    ['rows', 'bf16', 'random:1'],
    ['rows', 'f32', 'random:4'],
    ['digest', 'f32', 'full'],
    ['digest', 'bf16', 'kv'],
    ['digest', 'f16', 'random:2'],
  ])('%s, %s, depth %s', async (form, kvDtype, depth) => {
    const stated = { form, kvDtype, depth }
    const { commitment } = await generate(model, PROMPT, {
      ...OPTIONS,
      ...stated,
      maxNewTokens: 20,
      ignoreEos: true,
      commit: true,
    })
    expect(commitment.claim.tokens).toEqual(tokens)
    for (const beacon of BEACONS) {
      const proof = await commitment.open(beacon)
      expect(proof).toMatchObject({ root: commitment.root, beacon, header: { ...stated, challenge: 'beacon' } })
      expect(proof.samples.length > 0).toBe(form === 'rows')
      const verdict = await verdictOn(proof, { beacon, nonce: '0b', request: { ...stated, stop: proof.header.stop } })
      expect(verdict).toMatchObject({ status: 'accepted', mismatched: [], unchecked: [] })
      const { plan, seed } = planOf(proof)
      expect(verdict.matched).toHaveLength(plan.numSamples)
      const stopsEarly = depth.startsWith('random') && parseDepth(depth).deepest(seed, 6) < 6
      expect(verdict.replay?.positions ?? null).toBe(stopsEarly ? null : 20)
      expect(verdict.computed.layers).toBe(stopsEarly ? plan.deepestLayer + 1 : 7)
    }
  })

  test.each([1, 3, 16, 512])('commit() in chunks of %d gives the root that generate() streams', async (chunkSize) => {
    const options = { ...OPTIONS, kvDtype: 'bf16' as const, maxNewTokens: 20, ignoreEos: true }
    const { commitment } = await generate(model, PROMPT, { ...options, commit: true, chunkSize })
    const { stop } = commitment.claim.header
    const again = await committed({ kvDtype: 'bf16', stop, chunkSize })
    expect(again.claim).toEqual(commitment.claim)
    expect(hex(again.tree.head)).toBe(hex(commitment.tree.head))
    expect(again.tree.numLeaves).toBe(25 * 7)
    expect(await again.open('01', { chunkSize })).toEqual(await commitment.open('01'))
  })

  test('a claim that was encoded can be opened by whoever has the model', async () => {
    const commitment = await committed()
    const claim = decodeClaim(encodeClaim(commitment.claim))
    expect(await openClaim(model, claim, '0123')).toEqual(await commitment.open('0123'))
    const other = { ...claim, root: '00'.repeat(32) }
    await expect(openClaim(model, other, '0123')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  })

  test('a beacon is its bytes: in capitals it is drawn, opened and asked for as in small letters', async () => {
    const commitment = await committed()
    expect(drawChallenge(commitment.claim, 'AB')).toEqual(drawChallenge(commitment.claim, 'ab'))
    const proof = await commitment.open('AB')
    expect(proof).toEqual(await commitment.open('ab'))
    for (const beacon of ['AB', 'ab']) expect((await verify(model, proof, { beacon })).status).toBe('accepted')
  })

  test('a challenge drawn from the claim opens it as its beacon does, one from another is refused', async () => {
    const commitment = await committed()
    const { claim } = commitment
    const challenge = drawChallenge(claim, '0123')
    const proof = await commitment.open('0123')
    expect(await commitment.open(challenge)).toEqual(proof)
    expect(await openClaim(model, claim, challenge)).toEqual(proof)
    const otherHeader = { ...claim.header, tokenSampler: 'all' }
    const wrong: [unknown, string][] = [
      [drawChallenge((await committed({ nonce: '0c' })).claim, '0123'), 'challenge.root'],
      [drawChallenge({ ...claim, header: otherHeader }, '0123'), 'challenge.plan'],
      [{ ...challenge, beacon: '0124' }, 'challenge.plan'],
      [{ ...challenge, plan: undefined }, 'challenge.plan'],
      [{ ...challenge, beacon: 7 }, 'beacon'],
      [[], 'challenge.root'],
      [null, 'beacon'],
      [7, 'beacon'],
    ]
    for (const [one, where] of wrong) {
      const refusal = { code: 'INVALID_ARGUMENT', where }
      await expect(commitment.open(one as string)).rejects.toMatchObject(refusal)
      await expect(openClaim(model, claim, one as string)).rejects.toMatchObject(refusal)
    }
  })

  test('two tokens, of which one has KV', async () => {
    const two = await commit(model, [0, 540], { promptLength: 1, depth: 'full', tokenSampler: 'every:9' })
    expect(two.tree.numLeaves).toBe(7)
    expect(codes(await verdictOn(await two.open('aa')))).toEqual(['all_samples_match'])
    await expect(commit(model, [0], { promptLength: 1 })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
  })
})

describe('form digest and depth full without a commitment', () => {
  test.each<[SampleForm, string]>([
    ['digest', 'kv'],
    ['digest', 'full'],
    ['rows', 'full'],
  ])('%s, %s', async (form, depth) => {
    const options = { ...OPTIONS, form, depth, kvDtype: 'f16' as const }
    const grown = await generate(model, PROMPT, { ...options, maxNewTokens: 20, ignoreEos: true })
    const { stop } = grown.proof.header
    const proven = await prove(model, tokens, { ...options, promptLength: PROMPT.length, stop, chunkSize: 3 })
    expect(grown.proof).toEqual(proven)
    expect(await verdictOn(proven)).toMatchObject({ status: 'accepted', replay: { positions: 20, mismatched: 0 } })
    if (depth === 'full' && form === 'rows') {
      const hidden = proven.samples.filter(({ layer }) => layer === 6)
      expect(hidden.length).toBeGreaterThan(0)
      for (const { k, v } of hidden) expect([k.length, v.length]).toEqual([128 * 4, 0])
      const changed = hidden[0].k.slice()
      changed[9] ^= 1
      const samples = proven.samples.map((one) => (one === hidden[0] ? { ...one, k: changed } : one))
      const verdict = await verdictOn({ ...proven, samples })
      expect(verdict.firstMismatch).toEqual({ layer: 6, position: hidden[0].position, part: 'hidden' })
    }
    if (form === 'digest') {
      const samplesDigest = proven.samplesDigest.replace(/^./, (digit) => (digit === '0' ? '1' : '0'))
      const verdict = await verdictOn({ ...proven, samplesDigest })
      expect(codes(verdict)).toEqual(['digest_mismatch'])
      expect(verdict).toMatchObject({ matched: [], mismatched: [] })
    }
  })

  test('a digest is that of the rows', async () => {
    const rows = await prove(model, tokens, { ...OPTIONS, promptLength: PROMPT.length, depth: 'full' })
    expect((await verdictOn(rows)).samplesDigest).toHaveLength(64)
    const digest = await prove(model, tokens, {
      ...OPTIONS,
      promptLength: PROMPT.length,
      depth: 'full',
      form: 'digest',
    })
    // The binding differs, and with it the positions; so the rows are taken where the digest's plan asks for them.
    expect(digest.contextDigest).not.toBe(rows.contextDigest)
    expect((await verdictOn(digest)).samplesDigest).toBe(digest.samplesDigest)
  })
})

describe('whatever is stated, an honest run is accepted and a changed one is not', () => {
  const anyRun = fc.record({
    ids: fc.array(fc.nat(95), { minLength: 2, maxLength: 24 }),
    promptLength: fc.constantFrom(1, 2),
    kvDtype: fc.constantFrom('f32' as const, 'f16' as const, 'bf16' as const),
    form: fc.constantFrom('rows' as const, 'digest' as const),
    depth: fc.constantFrom('kv', 'full', 'random:1', 'random:3'),
    tokenSampler: fc.constantFrom('all', 'every:5', 'bernoulli:1/3'),
    layerSampler: fc.constantFrom('uniform:1', 'uniform:9', 'stratified:2'),
    chunkSize: fc.integer({ min: 1, max: 9 }),
  })
  const anyBeacon = fc.uint8Array({ minLength: 1, maxLength: 64 }).map(hex)

  test.each(['llama', 'mistral', 'qwen2', 'qwen3'] as const)('%s', async (architecture) => {
    const made = await Model.load(makeModel({ architecture, seed: 8 }).dir)
    try {
      await fc.assert(
        fc.asyncProperty(anyRun, anyBeacon, fc.nat(), async ({ ids, chunkSize, ...options }, beacon, seed) => {
          const { open } = await commit(made, ids, { ...options, chunkSize })
          const proof = await open(beacon, { chunkSize })
          const verdict = await verify(made, proof, { beacon })
          expect(codes(verdict)).toEqual(['all_samples_match'])
          expect(checkVerdict(proof, verdict, { beacon }).problems).toEqual([])
          const [opened] = await verifyAll(made, [proof], { beacon })
          expect(opened).toEqual(verdict)

          const changed = encodeProof(proof)
          changed[seed % changed.length] ^= 1 << (seed & 7)
          let forged: Proof
          try {
            forged = decodeProof(changed)
          } catch {
            return // most changes do not leave a proof
          }
          // Bits of a token over the vocabulary, or more positions than the model has, are errors of their own.
          const found = await verify(made, forged, { beacon }).catch((error) => error.code as string)
          const status = typeof found === 'string' ? found : found.status
          expect(['rejected', 'inconclusive', 'INVALID_ARGUMENT', 'TOKEN_OUT_OF_RANGE']).toContain(status)
        }),
        { numRuns: 25 },
      )
    } finally {
      await made.close()
    }
  })
})

describe('what is committed to', () => {
  const headOf = (leaves: Uint8Array[]): Uint8Array => {
    if (leaves.length === 1) return leaves[0]
    const split = 2 ** Math.floor(Math.log2(leaves.length - 1))
    return H('node', headOf(leaves.slice(0, split)), headOf(leaves.slice(split)))
  }

  test.each([
    'f32',
    'f16',
    'bf16',
  ] as const)('the root is that of all vectors that a prefill gives, %s', async (kvDtype) => {
    const { claim } = await committed({ kvDtype })
    const whole = { tokenSampler: 'all', layerSampler: 'fixed:0,1,2,3,4,5,6', depth: 'full', kvDtype }
    const { samples } = await prove(model, tokens, { promptLength: PROMPT.length, ...whole })
    const inOrder = [...samples].sort((a, b) => a.position - b.position || a.layer - b.layer)
    expect(inOrder).toHaveLength(25 * 7)
    const leaves = inOrder.map(({ layer, position, k, v }) => H('leaf', le32(layer, position), k, v))
    const binding = H('binding', cbor(headerMap(claim.header)))
    const context = contexts(claim.header, tokens).at(-1) as Uint8Array
    expect(claim.contextDigest).toBe(hex(context))
    expect(claim.root).toBe(hex(H('commitment', binding, context, le32(25, 7), headOf(leaves))))
  })

  test('the virtual layer holds what the head makes logits of', async () => {
    const made = makeModel({ seed: 21 })
    const real = await Model.load(made.dir)
    try {
      const ids = Array.from({ length: 18 }, (_, i) => (i * 29 + 3) % 96)
      const options = { tokenSampler: 'all', layerSampler: 'fixed:3', depth: 'full' }
      const { samples } = await prove(real, ids, { promptLength: 1, ...options })
      const head = made.tensors.get('lm_head.weight')?.values as Float32Array
      for (const { layer, position, k } of samples) {
        expect([layer, k.length]).toEqual([3, 32 * 4])
        const hidden = new Float32Array(k.slice().buffer)
        const { logits } = referenceForward(made, ids.slice(0, position + 1))
        const error = logits.map((logit, id) => hidden.reduce((sum, x, i) => sum + x * head[id * 32 + i], -logit))
        expect(Math.hypot(...error) / Math.hypot(...logits)).toBeLessThan(1e-5)
      }
    } finally {
      await real.close()
    }
  })
})

describe('what a cheat runs into', () => {
  let commitment: Commitment
  let proof: Proof
  beforeAll(async () => {
    commitment = await committed({ depth: 'full' })
    proof = await commitment.open('d1ce')
  })
  const flipped = (data: Uint8Array, at: number) => data.map((byte, i) => (i === at ? byte ^ 1 : byte))

  test('another beacon than the verifier gave out', async () => {
    const other = await commitment.open('d1cd')
    expect(codes(await verdictOn(other))).toEqual(['all_samples_match'])
    expect(codes(await verdictOn(other, { beacon: 'd1ce' }))).toEqual(['beacon_mismatch'])
  })

  test('a beacon that was exchanged under the samples', async () => {
    expect(codes(await verdictOn({ ...proof, beacon: 'd1cd' }))).toEqual(['plan_mismatch'])
    expect(codes(await verdictOn({ ...proof, beacon: 'd1cd' }, { beacon: 'd1ce' }))).toEqual([
      'beacon_mismatch',
      'plan_mismatch',
    ])
  })

  test('any node of the path', async () => {
    for (let at = 0; at < proof.path.length; at += 32) {
      const verdict = await verdictOn({ ...proof, path: flipped(proof.path, at + ((at / 32) % 32)) })
      expect(codes(verdict)).toEqual(['opening_mismatch'])
      expect(verdict.computed.layers).toBe(0) // found before any work
    }
    expect(codes(await verdictOn({ ...proof, path: proof.path.slice(32) }))).toEqual(['opening_mismatch'])
  })

  test('any sample', async () => {
    for (const [i, sample] of proof.samples.entries()) {
      const samples = proof.samples.map((one) => (one === sample ? { ...one, k: flipped(one.k, i) } : one))
      expect(codes(await verdictOn({ ...proof, samples }))).toEqual(['opening_mismatch'])
    }
  })

  test('vectors of another model', async () => {
    const made = makeModel({ config: { ...TINY, max_position_embeddings: 512 } })
    const cheap = await Model.load(made.dir)
    try {
      const committedByCheap = await commitWithHeader(cheap, commitment.claim.header, tokens)
      const cheapProof = await committedByCheap.open('d1ce')
      const verdict = await verdictOn(cheapProof)
      expect(codes(verdict)).toEqual(['sample_mismatch'])
      expect(verdict.firstMismatch?.layer).toBe(cheapProof.samples[0].layer)
      // The real model's vectors do not lead to that root, and its own root asks for other samples.
      const { plan } = drawChallenge(committedByCheap.claim, 'd1ce')
      const real = await sampledBy(model, tokens, plan, 'f32', {})
      expect(codes(await verdictOn({ ...cheapProof, samples: real }))).toEqual(['opening_mismatch'])
      expect(codes(await verdictOn({ ...cheapProof, root: proof.root }))).toEqual(['plan_mismatch'])
    } finally {
      await cheap.close()
    }
  })

  test('form digest: a path or root that is not the one of the recomputed rows', async () => {
    const digest = await (await committed({ form: 'digest', depth: 'full' })).open('d1ce')
    expect(codes(await verdictOn(digest))).toEqual(['all_samples_match'])
    const path = await verdictOn({ ...digest, path: flipped(digest.path, 40) })
    expect(codes(path)).toEqual(['opening_mismatch'])
    expect(path.computed.layers).toBe(7) // only the rows could show it
    const samplesDigest = digest.samplesDigest.replace(/^./, (digit) => (digit === '0' ? '1' : '0'))
    expect(codes(await verdictOn({ ...digest, samplesDigest }))).toEqual(['digest_mismatch'])
    const root = digest.root.replace(/^./, (digit) => (digit === '0' ? '1' : '0'))
    expect((await verdictOn({ ...digest, root })).status).toBe('rejected')
  })

  test('tokens of another sampler under honest vectors', async () => {
    const greedy = await generate(model, PROMPT, { maxNewTokens: 20, ignoreEos: true })
    const forged = await commit(model, greedy.tokens, { promptLength: PROMPT.length, ...OPTIONS })
    const verdict = await verdictOn(await forged.open('d1ce'))
    expect(codes(verdict)).toEqual(['token_mismatch'])
    expect(verdict).toMatchObject({ mismatched: [], unchecked: [] })
    const first = greedy.tokens.findIndex((token, i) => token !== tokens[i])
    expect(verdict.replay?.first).toEqual({ position: first, claimed: greedy.tokens[first], chosen: tokens[first] })
  })

  test('form digest: wrong tokens under a path that leads nowhere, of which the path is told', async () => {
    const last = tokens.slice()
    last[last.length - 1] ^= 1
    const forged = await commit(model, last, { promptLength: PROMPT.length, ...OPTIONS, form: 'digest' })
    const digest = await forged.open('d1ce')
    expect(codes(await verdictOn(digest))).toEqual(['token_mismatch'])
    const verdict = await verdictOn({ ...digest, path: flipped(digest.path, 1) })
    expect(codes(verdict)).toEqual(['opening_mismatch'])
    expect(verdict.replay).toMatchObject({ mismatched: 1 })
  })

  test('generation that stopped early', async () => {
    const stop = { maxNewTokens: 21, stopTokens: [1] }
    const early = await (await committed({ stop })).open('d1ce')
    expect(codes(await verdictOn(early))).toEqual(['termination_mismatch'])
    const exact = await (await committed({ stop: { ...stop, maxNewTokens: 20 } })).open('d1ce')
    expect(codes(await verdictOn(exact))).toEqual(['all_samples_match'])
  })

  test('a proof that was accepted before', async () => {
    const seen = new Set<string>()
    expect(codes(await verify(model, proof, { seen }))).toEqual(['all_samples_match'])
    expect(seen.size).toBe(1)
    const again = await verify(model, proof, { seen })
    expect(codes(again)).toEqual(['replayed'])
    expect(again.computed.layers).toBe(0)
    // The same binding opened for another beacon is the same run.
    expect(codes(await verify(model, await commitment.open('d1cd'), { seen }))).toEqual(['replayed'])
    expect(codes(await verify(model, await (await committed({ nonce: '0c' })).open('d1ce'), { seen }))).toEqual([
      'all_samples_match',
    ])
    // What was not accepted is not seen.
    const path = flipped(proof.path, 0)
    const fresh = new Set<string>()
    expect(codes(await verify(model, { ...proof, path }, { seen: fresh }))).toEqual(['opening_mismatch'])
    expect(fresh.size).toBe(0)
  })

  test('two verifications of one proof at once: one of them is accepted', async () => {
    const seen = new Set<string>()
    const verdicts = await Promise.all([verify(model, proof, { seen }), verify(model, proof, { seen })])
    expect(verdicts.flatMap(codes).sort()).toEqual(['all_samples_match', 'replayed'])
  })

  test('a conversation: the next turn names the root of the one before', async () => {
    const next = await (await committed({ previousRoot: commitment.root })).open('02')
    expect(codes(await verdictOn(next, { request: { previousRoot: commitment.root } }))).toEqual(['all_samples_match'])
    expect(codes(await verdictOn(next, { request: { previousRoot: '' } }))).toEqual(['request_mismatch'])
  })
})
