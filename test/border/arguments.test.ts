// What a caller may get wrong: always an error with a code, never a crash, never a wrong verdict.
import path from 'node:path'
import { addon, useCudaModule } from '../../lib/addon'
import { generate } from '../../lib/generate'
import { createMatcher } from '../../lib/matcher'
import { Model } from '../../lib/model'
import type { NativePart } from '../../lib/native'
import { createPlan } from '../../lib/plan'
import { prefill } from '../../lib/prefill'
import type { Proof } from '../../lib/proof'
import { prove } from '../../lib/prove'
import { verify } from '../../lib/verify'
import { verifyAll } from '../../lib/verify-all'
import { makeModel, setValues } from '../models/make'

const tiny = path.join(__dirname, '../../models/tiny-stories')
const anything = (value: unknown) => value as never

let model: Model
let proof: Proof
beforeAll(async () => {
  model = await Model.load(tiny)
  ;({ proof } = await generate(model, [0, 540, 539], {
    maxNewTokens: 40,
    ignoreEos: true,
  }))
})
afterAll(() => model.close())

const notModels = [undefined, null, 3, 'model', {}, [], Object.create(Model.prototype).constructor]
const notOptions = [null, 3, 'fast']
const badOptions = [
  { signal: {} },
  { signal: 5 },
  { onProgress: 3 },
  { chunkSize: 0 },
  { chunkSize: Number.NaN },
  { chunkSize: 2 ** 40 },
  { nonce: 5 },
]

test.each([
  ['verify', (m: never, o: never) => verify(m, proof, o)],
  ['verifyAll', (m: never, o: never) => verifyAll(m, [proof], o)],
  ['prove', (m: never, o: never) => prove(m, proof.tokens, o)],
  ['generate', (m: never, o: never) => generate(m, [0], o)],
  ['prefill', (m: never, o: never) => prefill(m, proof.tokens, createPlan(proof.header, proof.tokens), o).next()],
])('%s refuses what is no model and what are no options', async (_, call) => {
  const invalid = { name: 'PocError', code: 'INVALID_ARGUMENT' }
  for (const bad of notModels) await expect(call(anything(bad), anything({}))).rejects.toMatchObject(invalid)
  for (const bad of [...notOptions, ...badOptions]) {
    await expect(call(anything(model), anything(bad))).rejects.toMatchObject(invalid)
  }
})

test('a demand whose name is misspelt is refused, not ignored', async () => {
  const where = 'options.nonze'
  const refused = { code: 'INVALID_ARGUMENT', where, message: expect.stringContaining(where) }
  for (const bad of [{ nonze: '0e' }, { nonce: '', nonze: undefined }]) {
    await expect(verify(model, proof, anything(bad))).rejects.toMatchObject(refused)
    await expect(verifyAll(model, [proof], anything(bad))).rejects.toMatchObject(refused)
    await expect(verifyAll(model, [], anything(bad))).rejects.toMatchObject(refused)
  }
  await expect(verify(model, proof, anything({ maxPositions: 9 }))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
})

test.each([
  [null],
  [3],
  [{ threads: 0 }],
  [{ threads: 1.5 }],
  [{ threads: '2' }],
  [{ simd: 'mmx' }],
  [{ simd: 7 }],
  [{ backend: 'gpu' }],
  [{ device: 1.5 }],
  [{ weightBudgetBytes: 0 }],
  [{ timeOps: 1 }],
  [{ timeOps: true, backend: 'cuda' }],
  [{ signal: {} }],
])('load refuses options %j', async (options) => {
  await expect(Model.load(tiny, anything(options))).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
  })
})

test.each([[undefined], [''], [7], [{}]])('load refuses the path %j', async (dir) => {
  await expect(Model.load(anything(dir))).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
  })
})

test('a backend that is not there is refused by its own code', async () => {
  useCudaModule(path.join(__dirname, 'nowhere.so'))
  await expect(Model.load(tiny, { backend: 'cuda' })).rejects.toMatchObject({
    code: 'BACKEND_UNAVAILABLE',
  })
  useCudaModule('')
})

test.each([
  ['nothing', null],
  ['no fields', {}],
  ['no samples', { samples: undefined }],
  ['a sample without vectors', { samples: [{ layer: 1, position: 0 }] }],
  ['tokens of another type', { tokens: [1, 2, 3] }],
  ['a header without a model', { header: {} }],
])('verify refuses a proof with %s', async (_, changes) => {
  const bad = changes === null ? null : Object.keys(changes).length === 0 ? {} : { ...proof, ...changes }
  await expect(verify(model, anything(bad))).rejects.toMatchObject({
    name: 'PocError',
    code: 'INVALID_ARGUMENT',
  })
})

test('a proof that its owner changes or gives away meanwhile is judged as it was', async () => {
  const copy = (): Proof => ({
    ...proof,
    tokens: proof.tokens.slice(),
    samples: proof.samples.map((s) => ({
      ...s,
      k: s.k.slice(),
      v: s.v.slice(),
    })),
  })
  const honest = copy()
  const accepted = verify(model, honest)
  for (const { k } of honest.samples) k.fill(0)
  honest.tokens.fill(0)
  expect((await accepted).status).toBe('accepted')

  const forged = copy()
  for (const { k } of forged.samples) k[0] ^= 1
  const rejected = verify(model, forged)
  for (const { k, v } of forged.samples) structuredClone([k, v], { transfer: [k.buffer, v.buffer] as never })
  expect((await rejected).status).toBe('rejected')
})

test('a matcher takes a detached vector for a mismatch', async () => {
  const plan = createPlan(proof.header, proof.tokens)
  const samples = proof.samples.map((s) => ({
    ...s,
    k: s.k.slice(),
    v: s.v.slice(),
  }))
  const matcher = createMatcher(plan, samples)
  for (const { k, v } of samples) structuredClone([k, v], { transfer: [k.buffer, v.buffer] as never })
  for await (const layer of prefill(model, proof.tokens, plan)) {
    matcher.push(layer)
    break
  }
  expect(matcher.result().matched).toEqual([])
})

describe('the native classes', () => {
  const native = () => addon()
  const some = new Uint32Array(1)

  test('called without new, with nothing, or on another object: a JS error', async () => {
    for (const name of ['Model', 'Prefill', 'Sequence'] as const) {
      const Class = native()[name] as unknown as new (...args: unknown[]) => Record<string, () => unknown>
      expect(() => (Class as unknown as () => void)()).toThrow()
      for (const args of [
        [],
        [null],
        [{}, {}, {}],
        [1, 2, 3, 4, 5, 6, 7],
        [model, some, 'f32', 1],
        [model, [{}], 'f32', 1],
      ]) {
        expect(() => new Class(...args)).toThrow()
      }
      for (const method of Object.getOwnPropertyNames(Class.prototype)) {
        if (method !== 'constructor') expect(() => Class.prototype[method].call({})).toThrow()
      }
    }
  })

  test('plans that do not fit are refused where memory would be touched', () => {
    const { Prefill } = native()
    const u32 = (...values: number[]) => Uint32Array.from(values)
    const make = (tokens: Uint32Array, layers: Uint32Array, counts: Uint32Array, positions: Uint32Array) => () =>
      new Prefill(
        model.native,
        [
          {
            tokens,
            parent: null,
            firstPosition: 0,
            layers,
            counts,
            positions,
          },
        ],
        'f32',
        16,
      )
    const tokens = u32(1, 2, 3)
    expect(make(tokens, u32(7), u32(1), u32(0))).toThrow('layers') // 0 to 5, and the virtual one
    expect(make(tokens, u32(2, 1), u32(1, 1), u32(0, 0))).toThrow('layers')
    expect(make(tokens, u32(1), u32(2), u32(0))).toThrow('counts')
    expect(make(tokens, u32(1), u32(0xffffffff), u32(0))).toThrow('counts')
    expect(make(tokens, u32(1), u32(1), u32(3))).toThrow('positions')
    expect(make(tokens, u32(1), u32(1), u32(0, 1))).toThrow('positions')
    expect(make(u32(1, 1024), u32(1), u32(1), u32(0))).toThrow('1024')
    expect(make(u32(), u32(1), u32(1), u32(0))).toThrow('tokens')
    expect(make(tokens, u32(), u32(), u32())).toThrow('layers')
  })

  test('parts that do not continue one another as they say are refused', () => {
    const { Prefill } = native()
    const page = Prefill.pageSlots(model.native, 'f32')
    expect(page).toBe(32)
    const one = Uint32Array.of(1)
    const part = (parent: unknown, firstPosition: number, count: number, position = 0): NativePart => ({
      tokens: new Uint32Array(count),
      parent: parent as null,
      firstPosition,
      layers: one,
      counts: one,
      positions: Uint32Array.of(position),
    })
    const make = (...parts: unknown[]) => {
      return () => new Prefill(model.native, parts as NativePart[], 'f32', 16)
    }
    const first = part(null, 0, page)
    expect(make(first, part(0, page, 0))).not.toThrow()
    expect(make(first, part(0, page, 1, page))).not.toThrow()
    expect(make(first, part(0, page, 1, page + 1))).toThrow('positions')
    expect(make(first, part(1, page, 1))).toThrow('parent')
    expect(make(first, part(-1, page, 1))).toThrow('parent')
    expect(make(first, part(0, page - 1, 1))).toThrow('firstPosition')
    expect(make(first, part(0, 2 * page, 1))).toThrow('firstPosition')
    expect(make(part(null, page, 1))).toThrow('firstPosition')
    expect(make(first, part(null, 0, 0))).toThrow('tokens')
    expect(make(first, 7)).toThrow('parts')
    expect(make()).toThrow('layers')
    const chain = Array.from({ length: 40 }, (_, i) => part(i === 0 ? null : i - 1, i * page, page))
    expect(make(...chain.slice(0, 33))).not.toThrow()
    expect(make(...chain)).toThrow('parent')
    expect(() => new Prefill(model.native, [first], 'f32', 16).drop(1)).toThrow('part')
  })

  test('outputs of a wrong size, and two calls at a time, are refused', async () => {
    const { Prefill } = native()
    const one = Uint32Array.of(1)
    const samples = {
      layers: Uint32Array.of(0),
      counts: one,
      positions: Uint32Array.of(1),
    }
    const part = {
      tokens: Uint32Array.of(1, 2),
      parent: null,
      firstPosition: 0,
      ...samples,
    }
    const run = new Prefill(model.native, [part], 'f32', 16)
    expect(() => run.next(new Uint8Array(1), new Uint8Array(1))).toThrow('256')
    const rows = () => new Uint8Array(256)
    const first = run.next(rows(), rows())
    expect(() => run.next(rows(), rows())).toThrow()
    expect(await first).toBe(0)
    expect(await run.next(new Uint8Array(0), new Uint8Array(0))).toBe(-1)
  })
})

describe('models that are broken in themselves', () => {
  test.each([
    'F32',
    'F16',
    'BF16',
  ] as const)('a NaN or an infinity among %s weights is refused by name', async (dtype) => {
    for (const [value, name] of [
      [Number.NaN, 'model.layers.1.mlp.up_proj.weight'],
      [Number.POSITIVE_INFINITY, 'model.embed_tokens.weight'],
      [Number.NEGATIVE_INFINITY, 'model.norm.weight'],
    ] as const) {
      const made = makeModel({
        dtype,
        edit: (tensors) => {
          const tensor = tensors.get(name)
          if (!tensor) throw new Error(name)
          const values = Float32Array.from(tensor.values)
          values[values.length - 1] = value
          setValues(tensor, values)
        },
      })
      await expect(Model.load(made.dir)).rejects.toMatchObject({
        code: 'MODEL_NON_FINITE',
        where: name,
      })
    }
  })

  test('finite weights whose products overflow: no proof, and no accepted one', async () => {
    const blown = makeModel({
      edit: (tensors) => {
        for (const [name, tensor] of tensors) {
          if (name.includes('mlp') || name.includes('_proj'))
            setValues(
              tensor,
              tensor.values.map((x) => x * 1e30),
            )
        }
      },
    })
    const broken = await Model.load(blown.dir)
    const error = { code: 'MODEL_NON_FINITE' }
    await expect(prove(broken, [1, 2, 3, 4], { promptLength: 1, tokenSampler: 'all' })).rejects.toMatchObject(error)
    await expect(generate(broken, [1], { maxNewTokens: 4 })).rejects.toMatchObject(error)
    const sound = await Model.load(makeModel().dir)
    const fair = await prove(sound, [1, 2, 3, 4], {
      promptLength: 1,
      tokenSampler: 'all',
    })
    const claimed = {
      ...fair,
      header: { ...fair.header, modelDigest: broken.digest },
    }
    expect((await verify(broken, claimed)).status).toBe('rejected')
    await Promise.all([broken.close(), sound.close()])
  })
})
