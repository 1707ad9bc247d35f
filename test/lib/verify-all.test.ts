// Many proofs at once: the verdicts are those of one at a time, whatever they share and however they are packed.
import path from 'node:path'
import { bindingDigest, contextChain } from '../../lib/binding'
import { PocError } from '../../lib/errors'
import type { KvDtype } from '../../lib/kv'
import { Model } from '../../lib/model'
import { decodeProof, encodeProof, type Proof } from '../../lib/proof'
import { prove } from '../../lib/prove'
import type { Verdict } from '../../lib/verdict'
import { verify } from '../../lib/verify'
import { type VerifyAllOptions, verifyAll } from '../../lib/verify-all'
import { makeModel, setValues } from '../models/make'

const tiny = path.join(__dirname, '../../models/tiny-stories')
const NUM_SHARED = 70
const NUM_OWN = 25
const BRANCHES = 16

let model: Model
/** Sixteen that begin alike, each with its nonce. */
let branches: Proof[]

const ids = (count: number, factor: number) => Array.from({ length: count }, (_, i) => (i * factor + 11) % 512)
const proofOf = (tokens: number[], nonce = '', kvDtype: KvDtype = 'f32', samplers = {}) =>
  prove(model, tokens, { promptLength: 2, nonce, kvDtype, tokenSampler: 'bernoulli:1/4', ...samplers })
const copyOf = (proof: Proof) => decodeProof(encodeProof(proof))
const nonceOf = (i: number) => `c0${i.toString(16).padStart(2, '0')}`
const statuses = (verdicts: (Verdict | PocError)[]) =>
  verdicts.map((one) => (one instanceof PocError ? one.code : one.status))

/** With one bit of one sample changed. */
function forged(proof: Proof, pick: (sample: Proof['samples'][number]) => boolean, part: 'k' | 'v' = 'k'): Proof {
  const changed = copyOf(proof)
  const sample = changed.samples.find(pick)
  if (!sample) throw new Error('the proof has no such sample')
  sample[part][5] ^= 4
  return changed
}

async function holdAll(proofs: Proof[], options: VerifyAllOptions = {}): Promise<Verdict[]> {
  const { nonce, maxPositions, beacon: _, root: __, ...rest } = options
  const expected: Verdict[] = []
  for (const [i, proof] of proofs.entries()) {
    expected.push(await verify(model, proof, { ...rest, nonce: typeof nonce === 'string' ? nonce : nonce?.[i] }))
  }
  const verdicts = await verifyAll(model, proofs, options)
  expect(verdicts).toEqual(expected)
  return verdicts as Verdict[]
}

beforeAll(async () => {
  model = await Model.load(tiny, { threads: 2 })
  branches = []
  for (let i = 0; i < BRANCHES; i++) {
    const own = ids(NUM_OWN + i, 7 * i + 3).map((id) => (id + i) % 512)
    branches.push(await proofOf([...ids(NUM_SHARED, 5), ...own], nonceOf(i)))
  }
})
afterAll(() => model.close())

test('sixteen honest proofs with one prefix are accepted, by any chunks and passes', async () => {
  for (const chunkSize of [1, 7, 64, undefined]) {
    for (const maxPositions of chunkSize === 64 ? [1, 100, 300, 4000] : [undefined]) {
      const nonce = branches.map((_, i) => nonceOf(i))
      const verdicts = await holdAll(branches, { chunkSize, maxPositions, nonce })
      expect(new Set(statuses(verdicts))).toEqual(new Set(['accepted']))
    }
  }
})

test('forged ones are rejected where they are forged, and change no other', async () => {
  const proofs = branches.slice(0, 8)
  proofs[0] = forged(proofs[0], () => true)
  proofs[2] = forged(proofs[2], ({ position }) => position < 32, 'v')
  proofs[3] = forged(proofs[3], ({ layer }) => layer === 5)
  proofs[5] = forged(proofs[5], ({ position }) => position >= NUM_SHARED)
  proofs[7] = forged(proofs[7], ({ layer, position }) => layer >= 2 && position >= 32, 'v')
  for (const maxPositions of [undefined, 130]) {
    const verdicts = await holdAll(proofs, { maxPositions })
    for (const [i, { status }] of verdicts.entries()) {
      expect(status).toBe([0, 2, 3, 5, 7].includes(i) ? 'rejected' : 'accepted')
    }
  }
})

test('a forger that others share a prefix with, in every place', async () => {
  for (let i = 0; i < 4; i++) {
    const proofs = branches.slice(0, 4)
    proofs[i] = forged(proofs[i], () => true)
    const verdicts = await holdAll(proofs)
    expect(verdicts.filter(({ status }) => status === 'accepted')).toHaveLength(3)
  }
})

test('proofs inside one another, the same one twice, and two groups', async () => {
  const tokens = [...ids(NUM_SHARED, 5), ...ids(60, 9)]
  const nested = await Promise.all([130, 65, 33, 96, 97, 2, 130].map((n, i) => proofOf(tokens.slice(0, n), nonceOf(i))))
  const others = await Promise.all([1, 2, 3].map((i) => proofOf([...ids(40, 13), ...ids(30, 100 + i)])))
  const all = [...nested, ...others, nested[0], branches[3]]
  for (const chunkSize of [5, undefined]) {
    expect(new Set(statuses(await holdAll(all, { chunkSize })))).toEqual(new Set(['accepted']))
  }
})

test('samples everywhere, at one layer, and of a sampler of the caller', async () => {
  const custom = {
    name: 'custom:ends',
    samples: (_: Uint8Array, position: number) => position % 9 === 0,
    rate: { num: 1, den: 9 },
  }
  const tokens = branches.slice(0, 3).map((proof) => [...proof.tokens])
  const every = { tokenSampler: 'all', layerSampler: 'fixed:0,1,2,3,4,5' }
  const own = { tokenSampler: custom, layerSampler: 'fixed:1' }
  for (const samplers of [every, own]) {
    const proofs = await Promise.all(tokens.map((some) => proofOf(some, '', 'f32', samplers)))
    const verdicts = await holdAll(proofs, samplers === own ? { tokenSampler: custom } : {})
    expect(statuses(verdicts)).toEqual(['accepted', 'accepted', 'accepted'])
  }
})

test('caches of every dtype', async () => {
  const dtypes = ['f32', 'bf16', 'f16', 'bf16', 'f32'] as const
  const proofs = await Promise.all(dtypes.map((dtype, i) => proofOf([...branches[i].tokens], '', dtype)))
  proofs.push(forged(proofs[1], () => true))
  expect(statuses(await holdAll(proofs))).toEqual([...new Array(5).fill('accepted'), 'rejected'])
})

test('what contradicts itself, has another nonce or costs too much needs no model', async () => {
  const [good, wrong] = branches
  const changed = { ...copyOf(good), tokens: good.tokens.map((token, i) => (i === 3 ? token + 1 : token)) }
  const fewer = { ...copyOf(good), samples: good.samples.slice(1) }
  const nonce = [nonceOf(0), 'beef', undefined, undefined]
  const verdicts = await holdAll([good, wrong, changed, fewer], { nonce })
  expect(statuses(verdicts)).toEqual(['accepted', 'rejected', 'rejected', 'rejected'])
  expect(verdicts[1].reasons).toMatchObject([{ code: 'nonce_mismatch' }])
  const dear = await holdAll([good, wrong], { maxFlops: 1000 })
  expect(dear.map(({ reasons }) => reasons[0].code)).toEqual(['limit_exceeded', 'limit_exceeded'])
  expect(statuses(await holdAll([good, wrong], { nonce: nonceOf(1).toUpperCase() }))).toEqual(['rejected', 'accepted'])
})

test('none, and one', async () => {
  expect(await verifyAll(model, [])).toEqual([])
  await holdAll([branches[0]])
  await holdAll([forged(branches[0], () => true)])
})

test('what is no proof is refused in its place, and takes nothing from the others', async () => {
  const bad: [unknown, string][] = [
    [{}, 'INVALID_ARGUMENT'],
    [undefined, 'INVALID_ARGUMENT'],
    [{ ...branches[1], samples: [{ layer: 1, position: 0 }] }, 'INVALID_ARGUMENT'],
    [unknownToken(), 'TOKEN_OUT_OF_RANGE'],
  ]
  const all = [branches[0], ...bad.map(([proof]) => proof as Proof), forged(branches[2], () => true), branches[3]]
  const results = await verifyAll(model, all)
  expect(statuses(results)).toEqual(['accepted', ...bad.map(([, code]) => code), 'rejected', 'accepted'])
  for (const [i, [proof, code]] of bad.entries()) {
    const error = results[i + 1]
    expect(error).toMatchObject({ name: 'PocError', code, where: expect.stringMatching(`^proofs\\[${i + 1}\\]`) })
    await expect(verify(model, proof as Proof)).rejects.toMatchObject({ code })
  }
})

/** A proof that fits together, but for a last token that the model does not have. */
function unknownToken(): Proof {
  const proof = copyOf(branches[1])
  proof.tokens[proof.tokens.length - 1] = 5_000_000
  const chain = contextChain(bindingDigest(proof.header))
  for (const token of proof.tokens) proof.contextDigest = Buffer.from(chain.push(token)).toString('hex')
  return proof
}

test.each([
  [{ nonce: ['aa'] }, 'options.nonce'],
  [{ nonce: ['aa', 7] }, 'options.nonce[1]'],
  [{ nonce: 7 }, 'options.nonce'],
  [{ maxPositions: 0 }, 'options.maxPositions'],
  [{ maxPositions: '5' }, 'options.maxPositions'],
  [{ maxFlops: -1 }, 'options.maxFlops'],
])('options %j are refused', async (options, where) => {
  const call = verifyAll(model, branches.slice(0, 2), options as never)
  await expect(call).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', where })
})

test('a list that is none is refused', async () => {
  for (const bad of [undefined, null, {}, branches[0], 'proofs'] as never[]) {
    await expect(verifyAll(model, bad)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', where: 'proofs' })
  }
})

test('what the caller changes once the passes have begun does not count', async () => {
  const proofs = branches.slice(0, 3).map(copyOf)
  proofs[1].samples[0].k = Buffer.from(proofs[1].samples[0].k)
  let calls = 0
  const onProgress = () => {
    if (calls++ > 0) return
    for (const { tokens, samples } of proofs) {
      tokens.fill(0)
      for (const { k } of samples) k.fill(0)
    }
    proofs.length = 0
  }
  expect(statuses(await verifyAll(model, proofs, { onProgress }))).toEqual(['accepted', 'accepted', 'accepted'])
  expect(calls).toBeGreaterThan(1)
})

test('aborted before it begins: inconclusive, but what contradicts itself is rejected', async () => {
  const fewer = { ...branches[1], samples: branches[1].samples.slice(1) }
  const verdicts = await verifyAll(model, [branches[0], fewer], { signal: AbortSignal.abort(new Error('stop')) })
  expect(statuses(verdicts)).toEqual(['inconclusive', 'rejected'])
  expect(verdicts[0]).toMatchObject({ reasons: [{ code: 'aborted' }], matched: [], computed: { layers: 0 } })
})

test('aborted between passes: those before it are decided, those after it are not', async () => {
  const controller = new AbortController()
  let last = 0
  const onProgress = (fraction: number) => {
    expect(fraction).toBeGreaterThanOrEqual(last)
    last = fraction
    if (fraction > 0.5) controller.abort(new Error('stop'))
  }
  const { signal } = controller
  const verdicts = await verifyAll(model, branches.slice(0, 4), { maxPositions: 1, signal, onProgress })
  const found = statuses(verdicts).sort()
  expect(found.slice(0, 2)).toEqual(['accepted', 'accepted'])
  expect(found.at(-1)).toBe('inconclusive')
  expect(found).not.toContain('rejected')
})

test('progress ends at 1, and early where all are decided', async () => {
  const seen: number[] = []
  await verifyAll(model, branches, { maxPositions: 200, onProgress: (fraction) => seen.push(fraction) })
  expect(seen.at(-1)).toBeCloseTo(1, 12)
  expect([...seen].sort((a, b) => a - b)).toEqual(seen)
  seen.length = 0
  const first = branches.map((proof) => forged(proof, () => true))
  const verdicts = await verifyAll(model, first, { onProgress: (fraction) => seen.push(fraction) })
  const deepest = Math.max(...verdicts.map((one) => (one as Verdict).firstMismatch?.layer ?? 9))
  expect(deepest).toBeLessThan(5)
  expect(seen.length).toBe(deepest + 1)
})

test('a closed model, and one that is closed meanwhile', async () => {
  const other = await Model.load(tiny, { threads: 1 })
  const running = verifyAll(other, branches)
  await other.close()
  await expect(running).rejects.toMatchObject({ code: 'CLOSED' })
  await expect(verifyAll(other, branches)).rejects.toMatchObject({ code: 'CLOSED' })
})

describe('a model that breaks down on some tokens', () => {
  const BAD = 5
  const [HEAD, HUGE] = [9, 2 ** 126]
  let fragile: Model
  beforeAll(async () => {
    // After BAD nearly all of the hidden state is dimension 0, by which the logit of HEAD overflows.
    const { dir } = makeModel({
      edit: (tensors) => {
        for (const [name, row, change] of [
          ['model.embed_tokens.weight', BAD, (_: number, i: number) => (i === 0 ? 1e4 : 0)],
          ['model.norm.weight', 0, () => 1],
          ['lm_head.weight', HEAD, (_: number, i: number) => (i === 0 ? HUGE : 0)],
        ] as const) {
          const tensor = tensors.get(name)
          if (!tensor) throw new Error(name)
          const width = tensor.shape.at(-1) as number
          const values = Float32Array.from(tensor.values)
          values.set(values.subarray(row * width, (row + 1) * width).map(change), row * width)
          setValues(tensor, values)
        }
      },
    })
    fragile = await Model.load(dir, { threads: 2 })
  })
  afterAll(() => fragile.close())

  const first = Array.from({ length: 80 }, (_, i) => 10 + (i % 70))
  const proved = (tokens: number[], options: object) => prove(fragile, tokens, { promptLength: 70, ...options })

  /** What verify gives for each, an error as verifyAll is to give it. */
  async function expectedOf(proofs: Proof[]): Promise<unknown[]> {
    const each = proofs.map((proof, i) =>
      verify(fragile, proof).catch(({ code, where, expected, received }: PocError) =>
        expect.objectContaining({ name: 'PocError', code, where: `proofs[${i}]: ${where}`, expected, received }),
      ),
    )
    return await Promise.all(each)
  }

  test('logits that are not finite fail their proof alone, wherever it stands', async () => {
    const stated = { temperature: 0.5, seed: '01' }
    const broken = await proved([...first, BAD, 7], stated)
    const others = [
      await proved([...first, 7], stated), // its tokens are not what the sampler chooses
      await proved([...first, BAD, 8], {}), // its tokens are not replayed
      await proved([...first.slice(0, 75), BAD], stated), // nothing is chosen after it
      forged(await proved([...first, 9], {}), () => true),
    ]
    for (let place = 0; place <= others.length; place++) {
      const proofs = [...others.slice(0, place), broken, ...others.slice(place)]
      const expected = await expectedOf(proofs)
      for (const maxPositions of [undefined, 1]) {
        const results = await verifyAll(fragile, proofs, { maxPositions })
        expect(results).toEqual(expected)
        expect(results[place]).toMatchObject({ code: 'MODEL_NON_FINITE' })
        expect(statuses(results.filter((_, i) => i !== place))).toEqual([
          'rejected',
          'accepted',
          'rejected',
          'rejected',
        ])
      }
    }
    const results = await verifyAll(fragile, [broken, others[1], broken])
    expect(statuses(results)).toEqual(['MODEL_NON_FINITE', 'accepted', 'MODEL_NON_FINITE'])
  })
})
