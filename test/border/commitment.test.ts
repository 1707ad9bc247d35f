// The native calls behind commitments, token replay and traces: what they give, and that wrong arguments are refused
// before memory is touched.
import { createHash } from 'node:crypto'
import path from 'node:path'
import { addon } from '../../lib/addon'
import { Model } from '../../lib/model'
import { type NativePrefill, type NativeSampling, REPLAY_VALUES } from '../../lib/native'

const tiny = path.join(__dirname, '../../models/tiny-stories')
const anything = (value: unknown) => value as never
const u32 = (...values: number[]) => Uint32Array.from(values)
const bytes = (count: number) => new Uint8Array(count)
const none = u32()
const greedy: NativeSampling = {
  temperature: 0,
  topK: 0,
  topP: 1,
  key: u32(1, 2),
}
const tokens = u32(0, 540, 539, 7, 8, 9)

let model: Model
let layers: number
let hiddenBytes: number
beforeAll(async () => {
  model = await Model.load(tiny)
  layers = model.config.numLayers
  hiddenBytes = model.config.hiddenSize * 4
})
afterAll(() => model.close())

/** A pass that samples the virtual layer at `positions`, and has come there. */
async function replayable(positions: Uint32Array): Promise<NativePrefill> {
  const samples = {
    layers: u32(layers),
    counts: u32(positions.length),
    positions,
  }
  const run = new (addon().Prefill)(
    model.native,
    [
      {
        tokens,
        parent: null,
        firstPosition: 0,
        layers: u32(0),
        counts: u32(1),
        positions: u32(0),
      },
      { tokens, parent: null, firstPosition: 0, ...samples },
    ],
    'f32',
    16,
  )
  const rowBytes = model.config.numKvHeads * model.config.headDim * 4
  expect(() => run.replay(1, positions, positions, greedy, false, new Float64Array(0))).toThrow('virtual layer')
  expect(await run.next(bytes(rowBytes), bytes(rowBytes))).toBe(0)
  for (let layer = 1; layer < layers; layer++) expect(await run.next(bytes(0), bytes(0))).toBe(layer)
  const numBytes = positions.length * hiddenBytes
  expect(() => run.next(bytes(numBytes), bytes(numBytes))).toThrow('v must be')
  expect(await run.next(bytes(numBytes), bytes(0))).toBe(layers)
  return run
}

test('replay gives the tokens that decoding chooses', async () => {
  const decoded: number[] = []
  const sequence = new (addon().Sequence)(model.native, 'f32', tokens.length, 16)
  for (const token of tokens) {
    decoded.push(await sequence.append(u32(token), none, none, none, bytes(0), bytes(0), greedy, null))
  }
  sequence.cancel()
  const run = await replayable(u32(1, 3, 4))
  const out = new Float64Array(2 * REPLAY_VALUES)
  await run.replay(1, u32(4, 1), u32(decoded[4], decoded[1] === 5 ? 6 : 5), greedy, true, out)
  expect([out[0], out[1]]).toEqual([decoded[4], 0])
  expect(out[REPLAY_VALUES]).toBe(decoded[1])
  expect(out[REPLAY_VALUES + 1]).toBeGreaterThan(0)
  expect(out[2]).toBeLessThan(0) // the likeliest token is no surprise
  expect(out[REPLAY_VALUES + 2]).toBeGreaterThan(0) // this one is
  const one = out.subarray(0, REPLAY_VALUES)
  await run.replay(1, u32(3), u32(0), null, false, one)
  expect(Array.from(one)).toEqual([-1, Number.NaN, Number.NaN])
  run.cancel()
  expect(() => run.replay(1, u32(3), u32(0), null, false, one)).toThrow('aborted')
})

test('replay refuses what does not fit', async () => {
  const run = await replayable(u32(1, 3, 4))
  const values = () => new Float64Array(REPLAY_VALUES)
  const replay =
    (...args: unknown[]) =>
    () =>
      (run.replay as (...args: unknown[]) => unknown).apply(run, args)
  expect(replay(2, u32(1), u32(0), null, false, values())).toThrow('part')
  expect(replay(-1, u32(1), u32(0), null, false, values())).toThrow('part')
  expect(replay(0, u32(1), u32(0), null, false, values())).toThrow('positions') // samples no virtual layer
  expect(replay(1, u32(2), u32(0), null, false, values())).toThrow('positions')
  expect(replay(1, u32(0xffffffff), u32(0), null, false, values())).toThrow('positions')
  expect(replay(1, [1], u32(0), null, false, values())).toThrow('positions')
  expect(replay(1, u32(1), u32(), null, false, values())).toThrow('tokens')
  expect(replay(1, u32(1), u32(model.config.vocabSize), null, false, values())).toThrow('tokens')
  expect(replay(1, u32(1), u32(0), { ...greedy, key: u32(1) }, false, values())).toThrow('sampling')
  expect(replay(1, u32(1), u32(0), { ...greedy, temperature: Number.NaN }, false, values())).toThrow('sampling')
  expect(replay(1, u32(1), u32(0), {}, false, values())).toThrow()
  expect(replay(1, u32(1), u32(0), null, false, new Float64Array(REPLAY_VALUES - 1))).toThrow('out')
  expect(replay(1, u32(1), u32(0), null, false, bytes(8 * REPLAY_VALUES))).toThrow('out')
  expect(replay()).toThrow()
  const many = 3000 // so that the second call comes while the first is under way
  const first = run.replay(
    1,
    new Uint32Array(many).fill(4),
    new Uint32Array(many),
    greedy,
    true,
    new Float64Array(REPLAY_VALUES * many),
  )
  expect(replay(1, u32(1), u32(0), null, false, values())).toThrow('settled')
  await first
  await run.replay(1, none, none, null, true, new Float64Array(0))
  expect(await run.next(bytes(0), bytes(0))).toBe(-1)
  run.cancel()
})

test('a replay that is cancelled or outlives its model is aborted', async () => {
  const run = await replayable(u32(1))
  const many = 20000
  const going = run.replay(
    1,
    new Uint32Array(many).fill(1),
    new Uint32Array(many),
    greedy,
    true,
    new Float64Array(REPLAY_VALUES * many),
  )
  run.cancel()
  await expect(going).rejects.toMatchObject({ code: 'ABORTED' })
  expect(() => run.next(bytes(0), bytes(0))).toThrow('aborted')
})

test('leaves are the digests of what is extracted, and the tree joins them', async () => {
  const { Sequence, merkleTree } = addon()
  const perToken = (layers + 1) * 32
  const sequence = new Sequence(model.native, 'bf16', tokens.length, 16)
  const append = (leaves: unknown) => () =>
    sequence.append(tokens, none, none, none, bytes(0), bytes(0), greedy, null, anything(leaves))
  expect(append(bytes(tokens.length * perToken - 1))).toThrow('leaves')
  expect(append(bytes(0))).toThrow('leaves')
  expect(append(new Uint16Array(tokens.length * perToken))).toThrow('leaves')
  const leaves = bytes(tokens.length * perToken)
  await append(leaves)()
  const rowBytes = model.config.numKvHeads * model.config.headDim * 2
  const digest = (use: string, ...parts: Uint8Array[]) => {
    const hash = createHash('sha256').update(`proof-of-cache/v1/${use}\0`)
    for (const part of parts) hash.update(part)
    return new Uint8Array(hash.digest())
  }
  const le32 = (...values: number[]) => new Uint8Array(u32(...values).buffer)
  const leaf = (position: number, layer: number) =>
    leaves.subarray(position * perToken + layer * 32, position * perToken + layer * 32 + 32)
  for (let position = 0; position < tokens.length; position++) {
    for (let layer = 0; layer < layers; layer++) {
      const k = bytes(rowBytes)
      const v = bytes(rowBytes)
      sequence.extract(u32(layer), position, k, v)
      expect(leaf(position, layer)).toEqual(digest('leaf', le32(layer, position), k, v))
    }
  }
  const last = tokens.length - 1
  const hidden = bytes(hiddenBytes)
  sequence.extract(u32(layers), last, hidden, bytes(0))
  expect(leaf(last, layers)).toEqual(digest('leaf', le32(layers, last), hidden))
  expect(() => sequence.extract(u32(layers), last - 1, hidden, bytes(0))).toThrow('layers')
  expect(() => sequence.extract(u32(layers, 0), last, hidden, bytes(0))).toThrow('layers')
  expect(() => sequence.extract(u32(layers), last, hidden, hidden)).toThrow('v must be')
  sequence.cancel()

  const three = await merkleTree(leaves.slice(0, 96))
  const pair = digest('node', leaves.subarray(0, 32), leaves.subarray(32, 64))
  const odd = leaves.subarray(64, 96)
  expect(three).toEqual(new Uint8Array(Buffer.concat([pair, odd, digest('node', pair, odd)])))
  expect(await merkleTree(bytes(32))).toEqual(bytes(0))
  for (const bad of [undefined, null, bytes(0), bytes(31), bytes(65), new Uint32Array(8), [1], 'leaves']) {
    expect(() => merkleTree(anything(bad))).toThrow('leaves')
  }
})

test('a trace names the ops of one leaf, and refuses leaves that there are not', async () => {
  const { native } = model
  const all = await native.trace(tokens, 'f16', 2, 4)
  expect(all.slice(0, 4).map(({ op }) => op)).toEqual(['input', 'input_norm', 'q', 'rope_q'])
  expect(all.map(({ op }) => op).slice(-5)).toEqual(['next_norm', 'k', 'v', 'rope_k', 'v_row'])
  expect(new Set(all.map(({ digest }) => digest)).size).toBe(all.length)
  for (const { digest } of all) expect(digest).toMatch(/^[0-9a-f]{64}$/)
  expect(await native.trace(tokens.slice(0, 5), 'f16', 2, 4)).toEqual(all) // later tokens do not matter
  expect((await native.trace(tokens, 'f16', layers, 0)).at(-1)?.op).toBe('final_norm')
  expect((await native.trace(tokens, 'f16', 0, 0))[0].op).toBe('embed')
  const trace =
    (...args: unknown[]) =>
    () =>
      (native.trace as (...args: unknown[]) => unknown).apply(native, args)
  expect(trace(tokens, 'f16', layers + 1, 0)).toThrow('layer')
  expect(trace(tokens, 'f16', -1, 0)).toThrow('layer')
  expect(trace(tokens, 'f16', 0, tokens.length)).toThrow('position')
  expect(trace(tokens, 'f16', 0, 0.5)).toThrow('position')
  expect(trace(u32(), 'f16', 0, 0)).toThrow('position')
  expect(trace(u32(model.config.vocabSize), 'f16', 0, 0)).toThrow('tokens')
  expect(trace([1], 'f16', 0, 0)).toThrow('tokens')
  expect(trace(tokens, 'f8', 0, 0)).toThrow('dtype')
  expect(trace()).toThrow()
})

test('a large tree keeps no one waiting', async () => {
  let late = 0
  let turns = 0
  let last = performance.now()
  const clock = setInterval(() => {
    const now = performance.now()
    late = Math.max(late, now - last)
    last = now
    turns++
  }, 1)
  const nodes = await addon().merkleTree(bytes(32 * 2 ** 19))
  clearInterval(clock)
  expect(nodes.length).toBe(32 * (2 ** 19 - 1))
  expect(turns).toBeGreaterThan(3)
  expect(late).toBeLessThan(500)
})
