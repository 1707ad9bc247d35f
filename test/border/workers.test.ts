// Threads and processes that end while native work is under way; each runs the built package (npm run build:ts).
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { Worker } from 'node:worker_threads'
import { makeModel } from '../models/make'

const script = path.join(__dirname, 'work.cjs')
if (!existsSync(path.join(__dirname, '../../dist/index.js'))) throw new Error('no dist/: run npm run build:ts first')
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

let dir: string
beforeAll(() => {
  const shape = { hidden_size: 256, intermediate_size: 768, num_hidden_layers: 8, head_dim: 64 }
  dir = makeModel({ config: { ...shape, vocab_size: 512, max_position_embeddings: 1024 }, dtype: 'BF16' }).dir
})

function start(task: string): { worker: Worker; ready: Promise<unknown>; errors: unknown[] } {
  const worker = new Worker(script, { workerData: { task, dir } })
  const errors: unknown[] = []
  worker.on('error', (error) => errors.push(error))
  return { worker, errors, ready: new Promise((resolve) => worker.once('message', resolve)) }
}

/** Runs a task in a process of its own. */
function run(
  task: string,
  ...flags: string[]
): Promise<{ code: number | null; signal: string | null; output: string }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [...flags, script, task, dir])
    let output = ''
    child.stdout.on('data', (data) => (output += data))
    child.stderr.on('data', (data) => (output += data))
    child.on('close', (code, signal) => resolve({ code, signal, output }))
  })
}

test.each([0, 1, 3, 7, 15, 40])('terminate() %d ms into loading, again and again', async (ms) => {
  const { worker, ready, errors } = start('load')
  await ready
  await wait(ms)
  expect(await worker.terminate()).toBe(1)
  expect(errors).toEqual([])
})

test.each(['prove', 'generate'])('terminate() while it runs %s, at ten moments', async (task) => {
  for (let i = 0; i < 10; i++) {
    const { worker, ready, errors } = start(task)
    await ready
    await wait(i * 3)
    const from = Date.now()
    expect(await worker.terminate()).toBe(1)
    expect(Date.now() - from).toBeLessThan(5000) // it does not wait for the work, which never ends
    expect(errors).toEqual([])
  }
})

test('three threads use the addon at once and find the same bits', async () => {
  const digests = await Promise.all([1, 2, 3].map(() => start('result').ready))
  expect(digests[0]).toMatch(/^[0-9a-f]{64}$/)
  expect(new Set(digests).size).toBe(1)
})

test('a thread that fails with work under way reports its own error', async () => {
  const { worker, errors } = start('throw')
  await new Promise((resolve) => worker.once('exit', resolve))
  expect(errors).toEqual([expect.objectContaining({ message: 'on purpose' })])
})

test('a process that exits, fails or just ends with work under way does so with its own code', async () => {
  expect(await run('exit')).toMatchObject({ code: 7, signal: null })
  expect(await run('throw')).toMatchObject({ code: 1, signal: null })
  expect(await run('idle')).toEqual({ code: 0, signal: null, output: '' })
})

test('models, iterators and generations that are dropped while in use can be collected', async () => {
  expect(await run('collect', '--expose-gc')).toEqual({ code: 0, signal: null, output: 'collected true\n' })
})
