// Aborting, closing and leaving while work is under way: every case ends as documented, and nothing is left behind.
import { getEventListeners } from 'node:events'
import path from 'node:path'
import { generate } from '../../lib/generate'
import { Model } from '../../lib/model'
import { createPlan, type Plan } from '../../lib/plan'
import { prefill } from '../../lib/prefill'
import type { Proof } from '../../lib/proof'
import { prove, proofHeader } from '../../lib/prove'
import type { Verdict } from '../../lib/verdict'
import { verify } from '../../lib/verify'
import { verifyAll } from '../../lib/verify-all'
import { makeModel } from '../models/make'

const tiny = path.join(__dirname, '../../models/tiny-stories')
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
const every = { tokenSampler: 'all', layerSampler: 'uniform:4096' }
const unhandled: unknown[] = []
const remember = (reason: unknown) => unhandled.push(reason)

// Large enough that a pass takes some hundred milliseconds, so that it can be interrupted.
let dir: string
let big: Model
let tokens: Uint32Array
let proof: Proof
let plan: Plan

beforeAll(async () => {
  process.on('unhandledRejection', remember)
  const shape = { hidden_size: 256, intermediate_size: 768, num_hidden_layers: 10, head_dim: 64 }
  dir = makeModel({ config: { ...shape, vocab_size: 512, max_position_embeddings: 4096 }, dtype: 'BF16' }).dir
  big = await Model.load(dir, { threads: 2 })
  tokens = Uint32Array.from({ length: 701 }, (_, i) => (i * 31) % 512)
  proof = await prove(big, tokens, { promptLength: 1 })
  plan = createPlan(proof.header, tokens)
})
afterAll(async () => {
  await big.close()
  await wait(20)
  process.off('unhandledRejection', remember)
  expect(unhandled).toEqual([])
})

/** A signal that aborts after some time, with a reason of its own. */
function abortAfter(ms: number) {
  const controller = new AbortController()
  const reason = new Error(`aborted after ${ms} ms`)
  if (ms < 0) controller.abort(reason)
  else setTimeout(() => controller.abort(reason), ms)
  return { signal: controller.signal, reason }
}
const listeners = (signal: AbortSignal) => getEventListeners(signal, 'abort').length

describe('abort', () => {
  test.each([-1, 0, 2, 5, 15])('verify, after %d ms: an inconclusive verdict', async (ms) => {
    const { signal } = abortAfter(ms)
    const verdict = await verify(big, proof, { signal })
    expect(verdict).toMatchObject({ status: 'inconclusive', reasons: [{ code: 'aborted' }], mismatched: [] })
    expect(verdict.matched.length + verdict.unchecked.length).toBe(proof.samples.length)
    expect(listeners(signal)).toBe(0)
  })

  test.each([-1, 0, 3, 15])('verifyAll, after %d ms: an inconclusive verdict for each', async (ms) => {
    const proofs = [proof, { ...proof }, { ...proof }]
    const { signal } = abortAfter(ms)
    const verdicts = (await verifyAll(big, proofs, { signal })) as Verdict[]
    expect(verdicts).toHaveLength(3)
    for (const verdict of verdicts) {
      expect(verdict).toMatchObject({ status: 'inconclusive', reasons: [{ code: 'aborted' }], mismatched: [] })
      expect(verdict.matched.length + verdict.unchecked.length).toBe(proof.samples.length)
    }
    expect(listeners(signal)).toBe(0)
  })

  test.each([-1, 0, 3, 12])('prove, after %d ms: the signal’s reason', async (ms) => {
    const { signal, reason } = abortAfter(ms)
    await expect(prove(big, tokens, { promptLength: 1, signal })).rejects.toBe(reason)
    expect(listeners(signal)).toBe(0)
  })

  test.each([-1, 0, 4, 40])('generate, after %d ms: the signal’s reason', async (ms) => {
    const { signal, reason } = abortAfter(ms)
    const work = generate(big, tokens.subarray(0, 400), { maxNewTokens: 2000, ignoreEos: true, signal })
    await expect(work).rejects.toBe(reason)
    expect(listeners(signal)).toBe(0)
  })

  test('generate, from its own token callback', async () => {
    const controller = new AbortController()
    const seen: number[] = []
    const onToken = (token: number) => {
      seen.push(token)
      if (seen.length === 3) controller.abort('enough')
    }
    const work = generate(big, [1], { maxNewTokens: 2000, ignoreEos: true, signal: controller.signal, onToken })
    await expect(work).rejects.toBe('enough')
    expect(seen).toHaveLength(3)
  })

  test.each([-1, 0, 1, 3, 8])('load, after %d ms: the signal’s reason, or a model that was faster', async (ms) => {
    const { signal, reason } = abortAfter(ms)
    const outcome = await Model.load(dir, { signal }).catch((error) => error)
    if (outcome instanceof Model) await outcome.close()
    else expect(outcome).toBe(reason)
    expect(listeners(signal)).toBe(0)
  })

  test('one of four verifications on one model: the others are not disturbed', async () => {
    const { signal } = abortAfter(5)
    const work = [{}, { signal }, {}, {}].map((options) => verify(big, proof, options))
    const statuses = (await Promise.all(work)).map((verdict) => verdict.status)
    expect(statuses).toEqual(['accepted', 'inconclusive', 'accepted', 'accepted'])
  })
})

describe('leaving the loop', () => {
  test.each([1, 2, 5, 9])('break at sampled layer %d stops the work, and the model goes on', async (layers) => {
    let seen = 0
    for await (const layer of prefill(big, tokens, plan)) {
      expect(layer.positions.length).toBeGreaterThan(0)
      if (++seen === layers) break
    }
    expect(seen).toBe(Math.min(layers, plan.layers.size))
    expect((await verify(big, proof)).status).toBe('accepted')
  })

  test('an error inside the loop comes out as it is', async () => {
    const failure = new Error('mine')
    const run = async () => {
      for await (const _ of prefill(big, tokens, plan)) throw failure
    }
    await expect(run()).rejects.toBe(failure)
  })

  test('an iterator that is never started, or returned before its first layer', async () => {
    prefill(big, tokens, plan)
    const iterator = prefill(big, tokens, plan)
    await expect(iterator.return()).resolves.toMatchObject({ done: true })
    await expect(iterator.next()).resolves.toMatchObject({ done: true })
  })

  test('return() while a layer is awaited waits for it, then ends', async () => {
    const iterator = prefill(big, tokens, plan)
    const first = iterator.next()
    const ended = iterator.return()
    expect((await first).done).toBe(false)
    expect((await ended).done).toBe(true)
  })
})

describe('close', () => {
  test('while four verifications and a generation run: all end with CLOSED', async () => {
    const model = await Model.load(dir, { threads: 2 })
    const work = [
      ...[0, 1, 2, 3].map(() => verify(model, proof)),
      generate(model, [1], { maxNewTokens: 2000, ignoreEos: true }),
    ]
    const ends = Promise.allSettled(work)
    await wait(10)
    await model.close()
    for (const end of await ends) expect(end).toMatchObject({ status: 'rejected', reason: { code: 'CLOSED' } })
  })

  test('twice, and use afterwards', async () => {
    const model = await Model.load(tiny)
    const header = proofHeader(model, 1)
    await Promise.all([model.close(), model.close()])
    await model.close()
    expect(model.closed).toBe(true)
    const closed = { code: 'CLOSED' }
    await expect(generate(model, [0], { maxNewTokens: 2 })).rejects.toMatchObject(closed)
    await expect(prove(model, [0, 1, 2], { promptLength: 1 })).rejects.toMatchObject(closed)
    await expect(prefill(model, Uint32Array.of(0, 1), createPlan(header, [0, 1, 2])).next()).rejects.toMatchObject(
      closed,
    )
  })

  test('right after loading, and between the layers of a pass', async () => {
    await (await Model.load(tiny)).close()
    const model = await Model.load(dir)
    const iterator = prefill(model, tokens, plan)
    await iterator.next()
    await model.close()
    await expect(iterator.next()).rejects.toMatchObject({ code: 'CLOSED' })
  })

  test('fifty models one after another leave no memory behind', async () => {
    const round = async () => {
      const model = await Model.load(dir)
      await generate(model, [1, 2, 3], { maxNewTokens: 2, ...every })
      await model.close()
    }
    for (let i = 0; i < 10; i++) await round()
    const before = process.memoryUsage().rss
    for (let i = 0; i < 40; i++) await round()
    // A model has 15 MB; forty that leaked would be 600.
    expect(process.memoryUsage().rss - before).toBeLessThan(150e6)
  })
})

test('the event loop goes on turning while a pass runs', async () => {
  let turns = 0
  const timer = setInterval(() => turns++, 1)
  const from = Date.now()
  await verify(big, proof)
  clearInterval(timer)
  // At least one turn in 20 ms on average: a pass on this thread would allow a handful.
  expect(turns).toBeGreaterThan((Date.now() - from) / 20)
})
