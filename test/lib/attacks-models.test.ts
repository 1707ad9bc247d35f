// What the attack kit computes with: stored values, draws, and changed copies of a model.
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { CHANGES, type ChangeName, computeCells, createRandom, roundedTo, writeChangedModel } from '../../lib/attacks'
import { bytesOfValues, valuesOf, withMantissa } from '../../lib/attacks/values'
import { Model } from '../../lib/model'
import { prove } from '../../lib/prove'
import { readCheckpoint } from '../../lib/safetensors'

const tiny = path.join(__dirname, '../../models/tiny-stories')

const words = (from: number, to: number) => {
  const bytes = new Uint8Array(2 * (to - from))
  const view = new DataView(bytes.buffer)
  for (let i = from; i < to; i++) view.setUint16(2 * (i - from), i, true)
  return bytes
}

test.each([
  ['f16', 0x7c00],
  ['bf16', 0x7f80],
] as const)('%s: every finite value comes back', (dtype, end) => {
  for (const bytes of [words(0, end), words(0x8000, 0x8000 + end)]) {
    expect(Buffer.compare(bytesOfValues(valuesOf(bytes, dtype), dtype), bytes)).toBe(0)
  }
})

test.each(['f16', 'bf16'] as const)('%s: a value goes to the nearest of all, ties to even', (dtype) => {
  const all = valuesOf(words(0, dtype === 'f16' ? 0x7c00 : 0x7f80), dtype)
  const random = createRandom(dtype)
  for (let n = 0; n < 500; n++) {
    const i = random.below(all.length - 1)
    const [a, b] = [all[i], all[i + 1]]
    const at = (share: number) => valuesOf(bytesOfValues([a + (b - a) * share], dtype), dtype)[0]
    expect([at(0.25), at(0.75)]).toEqual([a, b])
    if (i > 2) expect(at(0.5)).toBe(i % 2 === 0 ? a : b)
  }
})

test('a mantissa of 7 bits is that of bf16', () => {
  const random = createRandom('mantissa')
  for (let n = 0; n < 500; n++) {
    const value = Math.fround(random.below(2 ** 24) / 2 ** random.below(30) - 0.3)
    expect(withMantissa(value, 7)).toBe(valuesOf(bytesOfValues([value], 'bf16'), 'bf16')[0])
  }
})

test('draws are those of the seed, and forks are their own', () => {
  const draw = (random: ReturnType<typeof createRandom>) => Array.from({ length: 8 }, () => random.below(1000))
  expect(draw(createRandom('a'))).toEqual(draw(createRandom('a')))
  expect(draw(createRandom('a'))).not.toEqual(draw(createRandom('b')))
  const used = createRandom('a')
  draw(used)
  expect(draw(used.fork('x'))).toEqual(draw(createRandom('a').fork('x')))
})

describe('changed copies', () => {
  let folder: string
  beforeEach(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'poc-changed-'))
  })
  afterEach(() => rm(folder, { recursive: true, force: true }))

  const tensorsOf = async (dir: string) => {
    const { files, tensors } = await readCheckpoint(dir)
    const bytes = await readFile(files[0])
    const at = ({ offset, bytes: size }: (typeof tensors)[0]) => bytes.subarray(offset, offset + size)
    return new Map(tensors.map((tensor) => [tensor.name, valuesOf(at(tensor), tensor.dtype)]))
  }
  const changedBy = async (name: ChangeName) => {
    await writeChangedModel(tiny, folder, CHANGES[name])
    const [before, after] = [await tensorsOf(tiny), await tensorsOf(folder)]
    const changed = [...after.keys()].filter((tensor) => before.get(tensor)?.join() !== after.get(tensor)?.join())
    return { before, after, changed }
  }

  test('int8: at most 255 values in a row, all of them near', async () => {
    const { before, after, changed } = await changedBy('int8')
    expect(changed.every((name) => name.endsWith('_proj.weight'))).toBe(true)
    expect(changed).toHaveLength(6 * 7)
    const name = 'model.layers.3.mlp.down_proj.weight'
    const [old, rounded] = [before.get(name), after.get(name)] as Float32Array[]
    for (let start = 0; start < old.length; start += 232) {
      const row = old.slice(start, start + 232)
      const step = Math.max(...row.map(Math.abs)) / 127
      expect(new Set(rounded.slice(start, start + 232)).size).toBeLessThanOrEqual(255)
      row.forEach((value, i) => {
        expect(Math.abs(rounded[start + i] - value)).toBeLessThanOrEqual(step * 0.5 + Math.abs(value) * 2 ** -8 + 1e-9)
      })
    }
  })

  test('projections of f32 are rounded to the nearest of a narrower dtype, narrow ones not at all', async () => {
    const { config, tensors } = await readCheckpoint(tiny)
    const projection = tensors.find(({ name }) => name.endsWith('_proj.weight'))!
    const rounded = (dtype: 'f16' | 'bf16', values: number[]) => {
      const rows = Float32Array.from(values)
      roundedTo(dtype)({ ...projection, dtype: 'f32' }, config)!(rows)
      return [...rows]
    }
    // Neighbours of 0.1 and 1/3 by hand: 0.1 lies in [2^-4, 2^-3), 1/3 in [2^-2, 2^-1).
    expect(rounded('f16', [0.1, -1 / 3, 1])).toEqual([1638 / 2 ** 14, -1365 / 2 ** 12, 1])
    expect(rounded('bf16', [0.1, -1 / 3, 1])).toEqual([205 / 2 ** 11, -171 / 2 ** 9, 1])
    const unchanged = writeChangedModel(tiny, folder, roundedTo('bf16'))
    await expect(unchanged).rejects.toMatchObject({ code: 'MODEL_UNSUPPORTED' })
  })

  test.each([
    ['tuned', ['model.layers.0.mlp.down_proj.weight']],
    ['norm', ['model.norm.weight']],
    ['pruned', ['model.layers.0.self_attn.o_proj.weight', 'model.layers.0.mlp.down_proj.weight']],
    ['head', ['lm_head.weight']],
  ] as const)('%s changes %p', async (name, expected) => {
    expect((await changedBy(name)).changed).toEqual(expected)
  })

  test('another last block changes final hidden states and no K or V', async () => {
    await writeChangedModel(tiny, folder, CHANGES.lastBlock)
    const [model, other] = await Promise.all([Model.load(tiny), Model.load(folder)])
    const tokens = Uint32Array.from([0, 5, 9, 300, 17, 4])
    const cells = await computeCells(model, tokens, 'f32')
    const changed = (await computeCells(other, tokens, 'f32')).filter(({ k, v }, i) => {
      return Buffer.compare(k, cells[i].k) !== 0 || Buffer.compare(v, cells[i].v) !== 0
    })
    expect(changed.map(({ layer, position }) => [layer, position])).toEqual([0, 1, 2, 3, 4].map((i) => [6, i]))
    await Promise.all([model.close(), other.close()])
  })

  test('cells are the samples of a proof of everything', async () => {
    const model = await Model.load(tiny)
    const tokens = Uint32Array.from([0, 5, 9, 300, 17, 4])
    const cells = await computeCells(model, tokens, 'f16')
    const options = { promptLength: 2, kvDtype: 'f16', tokenSampler: 'all', layerSampler: 'fixed:0,1,2,3,4,5' } as const
    const { samples } = await prove(model, tokens, options)
    expect(samples.length).toBe(30)
    for (const sample of samples) {
      const { k, v } = cells[sample.position * 7 + sample.layer]
      expect([Buffer.compare(k, sample.k), Buffer.compare(v, sample.v)]).toEqual([0, 0])
    }
    await model.close()
  })

  test('a change of nothing is refused', async () => {
    await expect(writeChangedModel(tiny, folder, () => null)).rejects.toMatchObject({ code: 'MODEL_UNSUPPORTED' })
  })
})
