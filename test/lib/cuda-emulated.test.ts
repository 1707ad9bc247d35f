// The CUDA backend through its module, with an emulated device in it (native/emulator): no GPU is needed, and every
// kernel runs as it is compiled. A file of its own, since a module stays loaded.
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { info, useCudaModule } from '../../lib/addon'
import { extractRows, extractRowsFromDevice } from '../../lib/extract'
import { generate } from '../../lib/generate'
import { contiguousLayout, type KvCacheLayout, pagedLayout, vllmLayouts } from '../../lib/kv-layout'
import { type LoadOptions, Model } from '../../lib/model'
import { encodeProof, type Proof } from '../../lib/proof'
import { prove } from '../../lib/prove'
import type { Verdict } from '../../lib/verdict'
import { verify } from '../../lib/verify'
import { verifyAll } from '../../lib/verify-all'
import { makeFolder, makeModel } from '../models/make'

const tiny = path.join(__dirname, '../../models/tiny-stories')
const file = path.join(__dirname, '../../build/emulated/libpoc_cuda.so')
const reason = existsSync(file) ? useModule() : `${file} is not there: node native/build.cjs --tests`
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
const prompt = [0, 540, 539]

/** Why the module cannot be used, or null. */
function useModule(): string | null {
  useCudaModule(file)
  const cuda = info().backends.find(({ name }) => name === 'cuda')
  return cuda?.available ? null : `${file}: ${cuda?.reason}`
}
if (reason) console.warn(`skipped: ${reason}`)
afterAll(() => useCudaModule(''))

/** Builds device_memory.cpp. */
function uploader(): (module: string, bytes: Uint8Array) => bigint {
  const out = path.join(makeFolder(), 'device_memory.node')
  const nodeHeaders = path.join(__dirname, '../../node_modules/node-api-headers/include')
  const flags = ['-std=c++17', '-shared', '-fPIC', '-I', nodeHeaders, '-o', out]
  execFileSync('g++', [...flags, path.join(__dirname, 'device_memory.cpp')])
  return require(out).upload
}

const withModule = reason ? describe.skip : describe

withModule('the emulated device', () => {
  let onCpu: Proof
  let tokens: Uint32Array
  let device: Model

  async function generated(options: LoadOptions) {
    const model = await Model.load(tiny, options)
    const output = await generate(model, prompt, { maxNewTokens: 12, ignoreEos: true, tokenSampler: 'every:3' })
    await model.close()
    return output
  }
  beforeAll(async () => {
    ;({ proof: onCpu, tokens } = await generated({ backend: 'cpu' }))
    device = await Model.load(tiny, { backend: 'cuda' })
  })
  afterAll(() => device.close())

  test('is described by info', () => {
    const [cpu, cuda] = info().backends
    expect(cpu).toMatchObject({ name: 'cpu', available: true })
    expect(cuda).toMatchObject({ name: 'cuda', available: true, path: file })
    const numbers = { multiprocessors: expect.any(Number), memoryBytes: expect.any(Number) }
    expect(cuda.devices).toEqual([{ name: 'Emulated GPU', computeCapability: '9.0', ...numbers }])
  })

  test('generates the same tokens and proof bytes as the CPU', async () => {
    expect(device.backend).toBe('cuda')
    const output = await generate(device, prompt, { maxNewTokens: 12, ignoreEos: true, tokenSampler: 'every:3' })
    expect(output.tokens).toEqual(tokens)
    expect(hex(encodeProof(output.proof))).toBe(hex(encodeProof(onCpu)))
  })

  test.each(['f16', 'bf16'] as const)('proves the same bytes with a %s cache', async (kvDtype) => {
    const cpu = await Model.load(tiny, { backend: 'cpu' })
    const options = { promptLength: 3, kvDtype, tokenSampler: 'all', layerSampler: 'uniform:6' }
    const expected = await prove(cpu, tokens, options)
    expect(hex(encodeProof(await prove(device, tokens, options)))).toBe(hex(encodeProof(expected)))
    await cpu.close()
  })

  test('accepts the CPU’s proof and rejects it with one bit changed, with the CPU’s verdicts', async () => {
    const cpu = await Model.load(tiny, { backend: 'cpu' })
    const samples = onCpu.samples.map((sample) => ({ ...sample, v: sample.v.slice() }))
    samples[1].v[0] ^= 1
    const forged = { ...onCpu, samples }
    const accepted = await verify(device, onCpu)
    const rejected = await verify(device, forged)
    expect(accepted.status).toBe('accepted')
    expect(rejected).toMatchObject({ status: 'rejected', firstMismatch: { layer: samples[1].layer, part: 'v' } })
    expect(accepted).toEqual(await verify(cpu, onCpu))
    expect(rejected).toEqual(await verify(cpu, forged))
    await cpu.close()
  })

  test('verifies proofs that begin alike together, with the CPU’s verdicts', async () => {
    const cpu = await Model.load(tiny, { backend: 'cpu' })
    const begin = Array.from({ length: 70 }, (_, i) => (i * 5) % 512)
    const proofs = await Promise.all(
      [0, 1, 2].map((i) => prove(cpu, [...begin, i, 7, i + 9], { promptLength: 1, layerSampler: 'uniform:6' })),
    )
    const { k } = proofs[1].samples[0]
    k[1] ^= 8
    const verdicts = (await verifyAll(device, proofs)) as Verdict[]
    expect(verdicts.map(({ status }) => status)).toEqual(['accepted', 'rejected', 'accepted'])
    expect(verdicts).toEqual(await verifyAll(cpu, proofs))
    await cpu.close()
  })

  test('auto takes it, but for a named instruction set, another device or heads it has no kernel for', async () => {
    const { dir } = makeModel({ config: { head_dim: 320, num_hidden_layers: 1 } })
    const cases: [string, LoadOptions, string][] = [
      [tiny, {}, 'cuda'],
      [tiny, { simd: 'plain' }, 'cpu'],
      [tiny, { timeOps: true }, 'cpu'],
      [tiny, { device: 1 }, 'cpu'],
      [dir, {}, 'cpu'],
    ]
    for (const [folder, options, backend] of cases) {
      const model = await Model.load(folder, options)
      expect(model.backend).toBe(backend)
      await model.close()
    }
    const unsupported = { code: 'MODEL_UNSUPPORTED', where: 'head_dim', received: '320' }
    await expect(Model.load(dir, { backend: 'cuda' })).rejects.toMatchObject(unsupported)
    const noDevice = { code: 'INVALID_ARGUMENT', where: 'device', expected: 'below 1' }
    await expect(Model.load(tiny, { backend: 'cuda', device: 1 })).rejects.toMatchObject(noDevice)
  })

  test('under a budget it streams the layers and finds the same bytes', async () => {
    const error = await Model.load(tiny, { backend: 'cuda', weightBudgetBytes: 1000 }).catch((e) => e)
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', where: 'weightBudgetBytes', received: '1000' })
    const least = Number(/^at least (\d+)$/.exec(error.expected)?.[1])
    const { proof } = await generated({ backend: 'cuda', weightBudgetBytes: least })
    expect(hex(encodeProof(proof))).toBe(hex(encodeProof(onCpu)))
    await expect(Model.load(tiny, { backend: 'cuda', weightBudgetBytes: least - 1 })).rejects.toMatchObject({
      expected: `at least ${least}`,
    })
  })

  test('keeps no file of packed weights, which are the CPU backend’s', async () => {
    const cacheDir = path.join(__dirname, 'nowhere')
    const model = await Model.load(tiny, { backend: 'cuda', cacheDir })
    expect(model.weightCache).toBeUndefined()
    expect(existsSync(cacheDir)).toBe(false)
    await model.close()
  })

  test('refuses a pointer that is not its own, and reads nothing', async () => {
    const layout = contiguousLayout('f32', 2, 4)
    const positions = Uint32Array.of(0)
    for (const pointer of [0n, 8n, 0xdead0000n, (1n << 64n) - 8n]) {
      await expect(extractRowsFromDevice(pointer, layout, positions)).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        where: 'pointer',
      })
    }
    const elsewhere = extractRowsFromDevice(4096n, layout, positions, { device: 1 })
    await expect(elsewhere).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', where: 'device' })
  })

  test('copies the rows of another engine’s cache, and none that lie outside it', async () => {
    const upload = uploader()
    const shape = { numKvHeads: 3, headDim: 16 }
    const blockTable = Uint32Array.of(2, 0, 3)
    const positions = Uint32Array.of(11, 0, 5, 5, 3)
    const { k, v } = vllmLayouts({ ...shape, dtype: 'bf16', blockSize: 4, blockTable })
    const layouts: KvCacheLayout[] = [
      pagedLayout({ ...shape, dtype: 'f16', pageSize: 4, blockTable }),
      pagedLayout({ ...shape, dtype: 'f32', pageSize: 4, blockTable, order: 'hnd' }),
      contiguousLayout('f32', 3, 16, 'hnd', 16),
      k,
      v,
    ]
    for (const layout of layouts) {
      const data = Uint8Array.from({ length: 4 * 4 * 3 * 16 * (layout.dtype === 'f32' ? 4 : 2) }, (_, i) => i * 37)
      const pointer = upload(file, data)
      const rows = await extractRowsFromDevice(pointer, layout, positions)
      expect(hex(rows)).toBe(hex(extractRows(data, layout, positions)))
      expect(await extractRowsFromDevice(pointer, layout, new Uint32Array(0))).toHaveLength(0)
      const invalid = { code: 'INVALID_ARGUMENT' }
      await expect(extractRowsFromDevice(pointer, layout, Uint32Array.of(16))).rejects.toMatchObject(invalid)
      await expect(extractRowsFromDevice(pointer + 1n, layout, positions)).rejects.toMatchObject(invalid)
      // From a later address on, the allocation ends too early for the last row.
      const late = pointer + BigInt(data.length - 64)
      await expect(extractRowsFromDevice(late, layout, positions)).rejects.toMatchObject({ ...invalid, where: 'data' })
    }
    const wild = { ...layouts[0], blockTable: Uint32Array.of(2, 0, 1000) }
    const elsewhere = extractRowsFromDevice(upload(file, new Uint8Array(2048)), wild, positions)
    await expect(elsewhere).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', where: 'data' })
  })

  test('close() during work ends it; others go on', async () => {
    const model = await Model.load(tiny, { backend: 'cuda' })
    const works = [
      generate(model, prompt, { maxNewTokens: 400, ignoreEos: true }),
      prove(model, new Array(400).fill(7), { promptLength: 1, layerSampler: 'fixed:5' }),
    ]
    const settled = Promise.allSettled(works)
    const other = verify(device, onCpu)
    await new Promise((resolve) => setTimeout(resolve, 50))
    await model.close()
    for (const one of await settled) expect(one).toMatchObject({ status: 'rejected', reason: { code: 'CLOSED' } })
    expect((await other).status).toBe('accepted')
  })

  test('an aborted verification is inconclusive, and the model works on', async () => {
    const controller = new AbortController()
    setTimeout(() => controller.abort(), 20)
    const signal = controller.signal
    const long = prove(device, new Array(300).fill(7), { promptLength: 1, layerSampler: 'fixed:5', signal })
    await expect(long).rejects.toMatchObject({ name: 'AbortError' })
    expect((await verify(device, onCpu)).status).toBe('accepted')
  })
})
