// The CUDA backend where there is no GPU: what is said about it, and that the CPU goes on.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { addon, info, useCudaModule } from '../../lib/addon'
import { main } from '../../lib/cli'
import { extractRowsFromDevice } from '../../lib/extract'
import { contiguousLayout } from '../../lib/kv-layout'
import { Model } from '../../lib/model'

const tiny = path.join(__dirname, '../../models/tiny-stories')
const folder = mkdtempSync(path.join(tmpdir(), 'poc-cuda-'))
const anything = (value: unknown) => value as never
const cuda = () => info().backends.find(({ name }) => name === 'cuda')
const layout = contiguousLayout('f32', 2, 4)

// A module that is not there stands for a machine without a GPU, whatever this one has.
const absent = path.join(folder, 'libpoc_cuda.so')
beforeEach(() => useCudaModule(absent))
afterAll(() => {
  useCudaModule('')
  rmSync(folder, { recursive: true })
})

test('info says why it is absent and where it was looked for', () => {
  expect(cuda()).toEqual({ name: 'cuda', available: false, reason: expect.any(String), path: absent, devices: [] })
  expect(cuda()?.reason).toContain(absent)
})

test('asked for, it is refused with that reason; auto takes the CPU', async () => {
  const refused = { code: 'BACKEND_UNAVAILABLE', where: 'backend', message: expect.stringContaining(absent) }
  await expect(Model.load(tiny, { backend: 'cuda' })).rejects.toMatchObject(refused)
  await expect(extractRowsFromDevice(4096n, layout, Uint32Array.of(0))).rejects.toMatchObject(refused)
  for (const backend of ['auto', undefined] as const) {
    const model = await Model.load(tiny, { backend, device: 3 })
    expect(model.backend).toBe('cpu')
    await model.close()
  }
})

test('the module beside the addon is looked for at its own place', () => {
  useCudaModule('')
  expect(cuda()?.path).toMatch(/libpoc_cuda\.so$/)
  expect(cuda()?.reason).not.toBe('')
})

/** A shared library of these lines, or null where there is no compiler. */
function library(name: string, source: string): string | null {
  const file = path.join(folder, name)
  const { status } = spawnSync('g++', ['-shared', '-fPIC', '-x', 'c++', '-', '-o', file], { input: source })
  if (status !== 0) console.warn(`skipped: no g++ to build ${name} with`)
  return status === 0 ? file : null
}

function textFile(): string {
  const file = path.join(folder, 'text.so')
  writeFileSync(file, 'this is no library\n')
  return file
}

const [, abi] = /kAbiVersion = (\d+)/.exec(readFileSync(path.join(__dirname, '../../native/cuda/abi.h'), 'utf8')) ?? []
const entry = 'extern "C" const void* poc_cuda_api(unsigned)'
const table = (version: string) => `
  struct Api { unsigned abi, size; const char *version, *targets; void* functions[28]; };
  static const Api api{${abi}, sizeof(Api), "${version}", ""};
  ${entry} { return &api; }`

test.each([
  ['a text file', textFile, /text\.so/],
  ['a library that is no module', () => library('other.so', 'int nothing;'), /not a module of this library/],
  ['a module of another interface', () => library('abi.so', `${entry} { return nullptr; }`), /another interface/],
  ['a module of another version', () => library('old.so', table('0.0.9')), /is of version 0\.0\.9, the addon of/],
])('%s is refused with a reason, and the CPU goes on', async (_, make, reason) => {
  const file = make()
  if (!file) return
  useCudaModule(file)
  expect(cuda()).toMatchObject({ available: false, reason: expect.stringMatching(reason), path: file })
  await expect(Model.load(tiny, { backend: 'cuda' })).rejects.toMatchObject({ code: 'BACKEND_UNAVAILABLE' })
  const model = await Model.load(tiny)
  expect(model.backend).toBe('cpu')
  await model.close()
})

test.each([
  [{ device: -1 }],
  [{ device: 0.5 }],
  [{ device: '0' }],
  [{ device: 1024 }],
  [{ weightBudgetBytes: 0 }],
  [{ weightBudgetBytes: -5 }],
  [{ weightBudgetBytes: 1.5 }],
  [{ weightBudgetBytes: Number.POSITIVE_INFINITY }],
  [{ weightBudgetBytes: 10n }],
  [{ backend: 'CUDA' }],
  [{ backend: null }],
])('load refuses %p', async (options) => {
  await expect(Model.load(tiny, anything(options))).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
})

test.each([
  ['a number for a pointer', [4096, layout, Uint32Array.of(0)]],
  ['no layout', [4096n, null, Uint32Array.of(0)]],
  ['a layout without heads', [4096n, { ...layout, numKvHeads: 0 }, Uint32Array.of(0)]],
  ['positions of another type', [4096n, layout, [0]]],
  ['a device that is none', [4096n, layout, Uint32Array.of(0), { device: -1 }]],
  ['a signal that is none', [4096n, layout, Uint32Array.of(0), { signal: {} }]],
  ['a pointer of more than 64 bits', [1n << 64n, layout, Uint32Array.of(0)]],
  ['a pointer below zero', [-1n, layout, Uint32Array.of(0)]],
])('extractRowsFromDevice refuses %s', async (_, call) => {
  const work = extractRowsFromDevice(...(call as Parameters<typeof extractRowsFromDevice>))
  await expect(work).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
})

test('extractRowsFromDevice ends with the reason of its signal', async () => {
  const reason = new Error('enough')
  const work = extractRowsFromDevice(4096n, layout, Uint32Array.of(0), { signal: AbortSignal.abort(reason) })
  await expect(work).rejects.toBe(reason)
})

test('the addon itself refuses what is no path, backend or pointer', () => {
  const invalid = expect.objectContaining({ code: 'INVALID_ARGUMENT' })
  expect(() => addon().useCudaModule(anything(7))).toThrow(invalid)
  const options = { backend: 'gpu', threads: 1, simd: 'auto', device: 0, weightBudgetBytes: 0 }
  expect(() => new (addon().Model)(anything({}), [], [], anything(options))).toThrow()
  const shape = { dtype: 'f32' as const, numKvHeads: 2, headDim: 4 }
  const strides = { ...layout, dimSplit: 0, splitStride: 0 }
  const call = [0, anything(4096), strides, null, shape, Uint32Array.of(0), new Uint8Array(32)] as const
  expect(() => addon().extractRowsFromDevice(...call)).toThrow(invalid)
})

test('poc info and --backend say it on the command line', async () => {
  let stdout = ''
  const write = (text: string) => {
    stdout += text
  }
  const poc = (...argv: string[]) => main(argv, { stdout: { write }, stderr: { write } })
  expect(await poc('info')).toBe(0)
  expect(stdout).toMatch(/backend cuda +absent: .*is not there/)
  const flags = ['--model', tiny, '--tokens', '0,540,539', '--prompt-length', '1', '--out', path.join(folder, 'a.poc')]
  expect(await poc('prove', ...flags, '--backend', 'cuda')).toBe(64)
  expect(await poc('prove', ...flags, '--backend', 'gpu')).toBe(64)
  expect(await poc('prove', ...flags, '--weight-budget', '1000', '--json')).toBe(64)
  expect(stdout).toMatch(/weightBudgetBytes must be at least \d+, received 1000/)
  expect(await poc('prove', ...flags, '--weight-budget', '100000000', '--backend', 'cpu')).toBe(0)
})
