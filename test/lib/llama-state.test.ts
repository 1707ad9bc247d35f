import { execFileSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import fc from 'fast-check'
import { type LlamaShape, llamaSamples, readLlamaState } from '../../lib/adapters/llama-state'
import { PocError } from '../../lib/errors'
import { llamaHeader, proveLlamaState } from '../../lib/adapters/prove-llama-state'
import { samplesOf } from '../../lib/kv'
import { Model } from '../../lib/model'
import { createPlan, type Plan } from '../../lib/plan'
import { prefill } from '../../lib/prefill'
import { decodeProof, encodeProof } from '../../lib/proof'
import { proofHeader } from '../../lib/prove'
import { relativeError, valuesOf } from '../../lib/relative-error'
import { verify } from '../../lib/verify'
import { handMadeProfile } from './hand-made-profile'
import { HEADER } from './hand-made-proof'

// A builder of the file from its description, knowing nothing of the reader.
interface Built {
  tokens: number[]
  /** Position of each cell. */
  cells: number[]
  streams: number
  stream: number
  type: number
  isTransposed: boolean
}

const SHAPE: LlamaShape = { architecture: 'llama', numLayers: 3, numKvHeads: 2, headDim: 6 }
const WIDTH = 12
const TYPES = { 0: 4, 1: 2, 30: 2 } as Record<number, number>
const PLAIN: Built = { tokens: [1, 7, 9, 4], cells: [0, 1, 2, 3], streams: 1, stream: 0, type: 0, isTransposed: false }

/** A number of its own for every element; `dim` as llama.cpp counts it. */
const elementAt = (part: 'k' | 'v', layer: number, position: number, column: number) =>
  (part === 'k' ? 1 : 2) * 16384 + layer * 1024 + position * 64 + column

function build({ tokens, cells, streams, stream, type, isTransposed }: Built): Uint8Array {
  const parts: Buffer[] = []
  const u32 = (...values: number[]) => parts.push(Buffer.from(Uint32Array.from(values).buffer))
  const element = (value: number) => {
    if (type === 0) u32(value)
    else parts.push(Buffer.from(Uint16Array.of(value).buffer))
  }
  u32(0x67677371, 3, tokens.length, ...tokens, streams)
  for (let s = 0; s < stream; s++) u32(0)
  u32(cells.length)
  for (const position of cells) u32(position, 1, stream)
  u32(isTransposed ? 1 : 0, SHAPE.numLayers)
  const columns = Array.from({ length: WIDTH }, (_, column) => column)
  for (let layer = 0; layer < SHAPE.numLayers; layer++) {
    u32(type, WIDTH * TYPES[type], 0)
    for (const position of cells) for (const column of columns) element(elementAt('k', layer, position, column))
  }
  for (let layer = 0; layer < SHAPE.numLayers; layer++) {
    if (isTransposed) {
      u32(type, TYPES[type], WIDTH)
      for (const column of columns) for (const position of cells) element(elementAt('v', layer, position, column))
    } else {
      u32(type, WIDTH * TYPES[type], 0)
      for (const position of cells) for (const column of columns) element(elementAt('v', layer, position, column))
    }
  }
  for (let s = stream + 1; s < streams; s++) u32(0)
  return new Uint8Array(Buffer.concat(parts))
}

function planOf(layers: [number, number[]][], numPositions = 4): Plan {
  const map = new Map(layers.map(([layer, positions]) => [layer, Uint32Array.from(positions)]))
  const numSamples = layers.reduce((sum, [, positions]) => sum + positions.length, 0)
  return {
    numPositions,
    layers: map,
    deepestLayer: layers[layers.length - 1][0],
    contextDigest: new Uint8Array(32),
    numSamples,
  }
}

const PLAN = planOf([
  [0, [0, 3]],
  [2, [1, 2, 3]],
])

const wordsOf = (row: Uint8Array, type: number) => {
  const copy = row.slice().buffer
  return Array.from(type === 0 ? new Uint32Array(copy) : new Uint16Array(copy))
}

/** What K's row is in order of halves: element i of a head stands at 2i for i < 3, at 2(i - 3) + 1 from there on. */
const HALVES = [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]
const IN_ORDER = HALVES.map((_, column) => column)

test.each([
  ['F32 by rows', {}],
  ['F16 by rows', { type: 1 }],
  ['BF16 by rows', { type: 30 }],
  ['F32 with V transposed', { isTransposed: true }],
  ['F16 with V transposed', { type: 1, isTransposed: true }],
  ['cells in another order', { cells: [2, 0, 3, 1], isTransposed: true }],
  ['the second of three streams', { streams: 3, stream: 1 }],
  ['more tokens than cells', { tokens: [1, 7, 9, 4, 5], type: 1 }],
])('%s: every sampled element is where the plan asks for it', (_, change) => {
  const built = { ...PLAIN, ...change }
  const state = readLlamaState(build(built), SHAPE)
  expect(Array.from(state.tokens)).toEqual(built.tokens)
  expect(state.numPositions).toBe(4)
  expect(state.kvDtype).toBe({ 0: 'f32', 1: 'f16', 30: 'bf16' }[built.type])
  const samples = llamaSamples(state, PLAN)
  expect(samples.map(({ layer, position }) => [layer, position])).toEqual([
    [0, 0],
    [0, 3],
    [2, 1],
    [2, 2],
    [2, 3],
  ])
  for (const { layer, position, k, v } of samples) {
    expect(wordsOf(k, built.type)).toEqual(HALVES.map((column) => elementAt('k', layer, position, column)))
    expect(wordsOf(v, built.type)).toEqual(IN_ORDER.map((column) => elementAt('v', layer, position, column)))
  }
})

test('K of a Qwen model stands in order of halves already', () => {
  const [first] = llamaSamples(readLlamaState(build(PLAIN), { ...SHAPE, architecture: 'qwen3' }), PLAN)
  expect(wordsOf(first.k, 0)).toEqual(IN_ORDER.map((column) => elementAt('k', 0, 0, column)))
})

test('bytes at an odd address are read as those at an even one', () => {
  const bytes = build(PLAIN)
  const shifted = new Uint8Array(bytes.length + 1)
  shifted.set(bytes, 1)
  const samples = llamaSamples(readLlamaState(shifted.subarray(1), SHAPE), PLAN)
  expect(samples).toEqual(llamaSamples(readLlamaState(bytes, SHAPE), PLAN))
})

function codeOf(run: () => unknown): string {
  try {
    run()
    return 'none'
  } catch (error) {
    if (error instanceof PocError) return error.code
    throw error
  }
}

test.each([
  PLAIN,
  { ...PLAIN, type: 1, isTransposed: true },
  { ...PLAIN, streams: 3, stream: 1 },
])('every prefix is refused, and every file with a byte more', (built) => {
  const bytes = build(built)
  for (let length = 0; length < bytes.length; length++) {
    expect(codeOf(() => readLlamaState(bytes.subarray(0, length), SHAPE))).toBe('STATE_MALFORMED')
  }
  expect(codeOf(() => readLlamaState(Buffer.concat([bytes, Buffer.alloc(1)]), SHAPE))).toBe('STATE_MALFORMED')
})

test('flipped bits are refused or change values only: tokens, sequence ids or elements', () => {
  const bytes = build(PLAIN)
  const expected = readLlamaState(bytes, SHAPE)
  fc.assert(
    fc.property(fc.uniqueArray(fc.nat({ max: 8 * bytes.length - 1 }), { minLength: 1, maxLength: 3 }), (bits) => {
      const changed = bytes.slice()
      for (const bit of bits) changed[bit >> 3] ^= 1 << (bit & 7)
      const code = codeOf(() => {
        const state = readLlamaState(changed, SHAPE)
        expect(state.numPositions).toBe(expected.numPositions)
        expect(state.layers).toHaveLength(3)
        expect(llamaSamples(state, PLAN)).toHaveLength(PLAN.numSamples)
      })
      expect(['none', 'STATE_MALFORMED']).toContain(code)
    }),
    { numRuns: 2000 },
  )
})

test.each<[string, Built]>([
  ['a quantised type', { ...PLAIN, type: 8 }],
  ['a position twice', { ...PLAIN, cells: [0, 1, 1, 3] }],
  ['a position left out', { ...PLAIN, cells: [0, 1, 2, 4] }],
  ['no cells', { ...PLAIN, cells: [] }],
])('%s is refused', (_, built) => {
  TYPES[8] ??= 2
  expect(codeOf(() => readLlamaState(build(built), SHAPE))).toBe('STATE_MALFORMED')
})

test('announced counts are refused before memory is taken', () => {
  const bytes = build(PLAIN)
  new DataView(bytes.buffer).setUint32(8, 2 ** 20, true)
  expect(codeOf(() => readLlamaState(bytes, SHAPE))).toBe('STATE_MALFORMED')
})

test.each<[string, Partial<LlamaShape>]>([
  ['layers', { numLayers: 4 }],
  ['heads', { numKvHeads: 4 }],
  ['dims', { headDim: 8 }],
])('a state of other %s is refused', (_, change) => {
  expect(codeOf(() => readLlamaState(build(PLAIN), { ...SHAPE, ...change }))).toBe('STATE_MALFORMED')
})

test('a plan beyond the state, and bytes that are none, are wrong arguments', () => {
  const state = readLlamaState(build(PLAIN), SHAPE)
  expect(codeOf(() => llamaSamples(state, planOf([[0, [4]]], 5)))).toBe('INVALID_ARGUMENT')
  expect(codeOf(() => llamaSamples(state, planOf([[3, [0]]])))).toBe('INVALID_ARGUMENT')
  expect(codeOf(() => readLlamaState('state' as unknown as Uint8Array, SHAPE))).toBe('INVALID_ARGUMENT')
})

test('a proof from a saved state holds its vectors, at the places that the plan asks for', () => {
  const bytes = build({ ...PLAIN, type: 1 })
  const state = readLlamaState(bytes, SHAPE)
  const { headDim, numKvHeads, numLayers } = SHAPE
  const samplers = { tokenSampler: 'all', layerSampler: 'fixed:0,2' } as const
  const stated = { ...HEADER, headDim, numKvHeads, numLayers, ...samplers, promptLength: 1 }
  const header = llamaHeader(stated, state)
  expect(header).toMatchObject({ numerics: 'llama.cpp', kvDtype: 'f16', sampling: HEADER.sampling, stop: null })
  const proof = proveLlamaState(header, [1, 7, 9, 4, 5], state)
  const plan = createPlan(header, proof.tokens)
  expect(proof.samples).toEqual(llamaSamples(state, plan))
  expect(decodeProof(encodeProof(proof))).toEqual(proof)
  const sketched = proveLlamaState({ ...header, form: 'sketch' }, [1, 7, 9, 4, 5], state)
  expect(sketched.samples.map(({ k, v }) => [k.length, v.length])).toEqual(proof.samples.map(() => [34, 34]))

  const refused = (change: object, tokens = [1, 7, 9, 4, 5]) => {
    return codeOf(() => proveLlamaState({ ...header, ...change }, tokens, state))
  }
  expect(refused({}, [1, 7, 8, 4, 5])).toBe('INVALID_ARGUMENT')
  expect(refused({}, [1, 7, 9, 4, 5, 6])).toBe('INVALID_ARGUMENT')
  expect(refused({ kvDtype: 'f32' })).toBe('INVALID_ARGUMENT')
})

// Where llama.cpp is there, the reader is held to what it really writes, and to this engine's own vectors.
const models = process.env.POC_MODELS ?? path.join(__dirname, '../../../shared/models')
const stories = path.join(models, 'stories260K')
const llama = path.join(__dirname, '../../benchmarks/rivals/node_modules/node-llama-cpp/dist/index.js')
const missing = [path.join(stories, 'hf-f32/model.safetensors'), llama].filter((file) => !existsSync(file))
if (missing.length > 0) console.warn(`skipped: llama.cpp's own files, for ${missing.join(' and ')} is not there`)

const SAVE = `
  import { writeFile } from 'node:fs/promises'
  const { getLlama, LlamaLogLevel } = await import(process.argv[2])
  const llama = await getLlama({ gpu: false, build: 'never', logLevel: LlamaLogLevel.error, maxThreads: 1 })
  const model = await llama.loadModel({ modelPath: process.argv[3], gpuLayers: 0 })
  const ids = process.argv[5].split(',').map(Number)
  for (const type of ['F32', 'F16', 'BF16']) for (const flashAttention of [true, false]) {
    const cache = { experimentalKvCacheKeyType: type, experimentalKvCacheValueType: type }
    const context = await model.createContext({ contextSize: 256, flashAttention, sequences: 2, ...cache })
    const sequence = context.getSequence()
    await sequence.evaluateWithoutGeneratingNewTokens(ids)
    await sequence.saveStateToFile(process.argv[4] + '/' + type + (flashAttention ? '-flash' : '-plain'))
    await context.dispose()
  }
  const cache = { experimentalKvCacheKeyType: 'F16', experimentalKvCacheValueType: 'F16' }
  const context = await model.createContext({ contextSize: 256, sequences: 1, ...cache })
  const sequence = context.getSequence()
  const tokens = ids.slice(0, 16)
  for await (const token of sequence.evaluate([...tokens], { temperature: 0, yieldEogToken: true })) {
    tokens.push(token)
    if (tokens.length === 56) break
  }
  await sequence.saveStateToFile(process.argv[4] + '/greedy')
  await writeFile(process.argv[4] + '/greedy.json', JSON.stringify(tokens))
  await llama.dispose()
`

;(missing.length > 0 ? describe.skip : describe)('files that llama.cpp writes', () => {
  let folder: string
  let model: Model
  const ids =
    missing.length > 0 ? [] : readFileSync(path.join(stories, 'expected-greedy-200.ids.txt'), 'utf8').split(/\s+/)
  const tokens = Uint32Array.from(ids.slice(0, 61), Number)
  beforeAll(async () => {
    folder = mkdtempSync(path.join(tmpdir(), 'poc-llama-'))
    const gguf = path.join(stories, 'stories260K-f32.gguf')
    const script = path.join(folder, 'save.mjs') // a file: node-llama-cpp starts Node anew with the same arguments
    writeFileSync(script, SAVE)
    execFileSync(process.execPath, [script, llama, gguf, folder, tokens.slice(0, 60).join()])
    model = await Model.load(path.join(stories, 'hf-f32'))
  })
  afterAll(async () => {
    rmSync(folder, { recursive: true, force: true })
    await model.close()
  })

  test.each([
    ['F32-plain', 'f32', 1e-5],
    ['F32-flash', 'f32', 1e-2],
    ['F16-plain', 'f16', 1e-2],
    ['F16-flash', 'f16', 1e-2],
    ['BF16-plain', 'bf16', 5e-2],
    ['BF16-flash', 'bf16', 5e-2],
  ] as const)("%s: K and V are this engine's, but for rounding", async (file, kvDtype, maxError) => {
    const state = readLlamaState(readFileSync(path.join(folder, file)), model.config)
    expect([state.kvDtype, state.numPositions]).toEqual([kvDtype, 60])
    expect(Array.from(state.tokens)).toEqual(Array.from(tokens.slice(0, 60)))
    const plan = createPlan(
      proofHeader(model, 1, { kvDtype, tokenSampler: 'every:7', layerSampler: 'uniform:5' }),
      tokens,
    )
    const theirs = llamaSamples(state, plan)
    const ours = []
    for await (const layer of prefill(model, tokens, plan, { kvDtype })) ours.push(...samplesOf(layer))
    expect(theirs).toHaveLength(ours.length)
    for (const [i, { k, v }] of ours.entries()) {
      for (const [claimed, row] of [
        [theirs[i].k, k],
        [theirs[i].v, v],
      ]) {
        expect(relativeError(valuesOf(claimed, kvDtype), valuesOf(row, kvDtype))).toBeLessThan(maxError)
      }
    }
  })

  test('greedy tokens of its own are replayed within a limit on their gap, and others are not', async () => {
    const state = readLlamaState(readFileSync(path.join(folder, 'greedy')), model.config)
    const generated: number[] = JSON.parse(readFileSync(path.join(folder, 'greedy.json'), 'utf8'))
    expect(generated).toHaveLength(56)
    const stop = { maxNewTokens: 40, stopTokens: [] }
    const header = llamaHeader(proofHeader(model, 16, { temperature: 0, stop }), state)
    const counted = { fittedSequences: 50, heldOutSequences: 50, rejectedSequences: 0, maxFalseRejection: 0.06 }
    const part = { typicalError: 1e-3, maxMeanScore: 10, maxMedianScore: 10, maxSampleScore: 100 }
    const profile = handMadeProfile(model.config.numLayers, part, {
      modelDigest: model.digest,
      kvDtype: 'f16',
      tokenGap: { maxMeanGap: 1e-3, ...counted, greatestHonestGap: 5e-4, cheats: [] },
    })
    const verdict = await verify(model, proveLlamaState(header, generated, state), { profile })
    expect(verdict).toMatchObject({ status: 'accepted', replay: { positions: 40 } })
    expect(verdict.replay?.meanScoreGap).toBeLessThan(1e-3)
    const other = [...generated.slice(0, -1), generated[55] === 5 ? 6 : 5]
    const refused = await verify(model, proveLlamaState(header, other, state), { profile })
    expect(refused).toMatchObject({ status: 'rejected', reasons: [{ code: 'token_mismatch' }] })
  })
})
