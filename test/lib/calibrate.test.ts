// What a calibration concludes from engines whose errors are known: vectors of a real model, moved by stated amounts.
import { createHash } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { Command } from 'commander'
import { type Calibration, type CalibrateOptions, calibrate, type RowSource } from '../../lib/calibrate'
import { addCalibrate } from '../../lib/commands/calibrate'
import { createSession } from '../../lib/commands/session'
import { addon } from '../../lib/addon'
import { generate } from '../../lib/generate'
import { samplesOf } from '../../lib/kv'
import { Model } from '../../lib/model'
import { prefill } from '../../lib/prefill'
import { meanTokenGap } from '../../lib/token-gap'
import { createTolerantMatcher } from '../../lib/tolerant-matcher'
import { createPlan } from '../../lib/plan'
import { proofHeader } from '../../lib/prove'
import { type ToleranceProfile, whyNotCovered } from '../../lib/tolerance'

const tiny = path.join(__dirname, '../../models/tiny-stories')
const samplers = { tokenSampler: 'bernoulli:1/8', layerSampler: 'stratified:2' }
let model: Model
let texts: Uint32Array[]

beforeAll(async () => {
  model = await Model.load(tiny)
  texts = []
  for (let i = 0; i < 40; i++) {
    const options = {
      maxNewTokens: 40 + (i % 3),
      ignoreEos: true,
      temperature: 1,
      seed: Buffer.from([i]).toString('hex'),
    }
    texts.push((await generate(model, [model.config.bosTokenId ?? 0], options)).tokens)
  }
})
afterAll(() => model.close())

/** This model's vectors, every value moved by up to `size` of itself in a way that hangs on `name`. */
function movedBy(name: string, size: number): RowSource {
  const move = (row: Uint8Array, at: string) => {
    const values = new Float32Array(row.slice().buffer)
    const noise = createHash('shake256', { outputLength: values.length }).update(`${name} ${at}`).digest()
    return new Uint8Array(values.map((value, i) => value * (1 + size * (noise[i] / 127.5 - 1))).buffer)
  }
  return {
    name,
    async rows(tokens, plan) {
      const samples = []
      for await (const layer of prefill(model, tokens, plan)) {
        for (const { layer: l, position, k, v } of samplesOf(layer)) {
          const at = `${tokens.length} ${tokens[position]} ${l} ${position}`
          samples.push({ layer: l, position, k: move(k, `${at} k`), v: move(v, `${at} v`) })
        }
      }
      return { samples, kvDtype: 'f32' as const }
    },
  }
}

const optionsOf = (change: Partial<CalibrateOptions> = {}): CalibrateOptions => ({
  generator: 'llama.cpp',
  honest: [movedBy('one engine', 1e-4), movedBy('another', 5e-5)],
  cheats: [movedBy('far', 3e-3), movedBy('near', 1.1e-4)],
  ...samplers,
  ...change,
})

test.each([
  'rows',
  'sketch',
] as const)('%s: what is ten times as far is told apart, what is as near is not', async (form) => {
  const found = await calibrate(model, texts, optionsOf({ form }))
  const profile = found.profile as ToleranceProfile
  expect(profile).toMatchObject({
    form,
    generator: 'llama.cpp',
    verifier: 'ieee32',
    modelDigest: model.digest,
    ...samplers,
  })
  expect([profile.minPositions, profile.maxPositions]).toEqual([40, 42])
  expect(found.honest).toMatchObject({ fittedSequences: 20, heldOutSequences: 20, rejectedSequences: 0 })
  expect(found.honest.maxFalseRejection).toBeCloseTo(1 - 0.05 ** (1 / 20), 6)
  const [far, near] = found.cheats
  expect(far).toMatchObject({ name: 'far', sequences: 20, detectedSequences: 20 })
  expect(far.positionsNeeded).not.toBeNull()
  expect(near.detectedSequences).toBeLessThan(10)
  expect(far.samplesNeeded).toBeLessThanOrEqual(4)
  expect([near.positionsNeeded, near.samplesNeeded]).toEqual([null, null])
  // Uniform noise of up to s moves a vector by about s / sqrt(3) of its norm; two engines, of s and s / 2.
  const expected = (1e-4 * 0.75) / Math.sqrt(3)
  const limits = profile.layers[model.config.numLayers - 1].k
  expect((limits?.typicalError ?? 0) / expected).toBeGreaterThan(0.6)
  expect((limits?.typicalError ?? 0) / expected).toBeLessThan(1.5)
  expect(found.forgeries.map(({ passedSequences }) => passedSequences)).toEqual([0, 0, 0, 0, 0])
})

test('limits hang on the sequences that set them alone, and the judgement on the others', async () => {
  const quiet = movedBy('engine', 1e-4)
  const loud = movedBy('engine', 1e-2)
  const isHeldOut = (tokens: Uint32Array) => texts.indexOf(tokens) % 2 === 1
  const sudden: RowSource = {
    name: 'loud where it is judged',
    rows: (tokens, plan) => (isHeldOut(tokens) ? loud : quiet).rows(tokens, plan),
  }
  const before = await calibrate(model, texts, optionsOf({ honest: [quiet], cheats: [] }))
  const after = await calibrate(model, texts, optionsOf({ honest: [sudden], cheats: [] }))
  expect(after.profile?.layers).toEqual(before.profile?.layers)
  expect(after.honest).toMatchObject({ rejectedSequences: 20, maxFalseRejection: 1 })
})

test('an engine that is so far off that a forgery would pass gets no profile', async () => {
  const found: Calibration = await calibrate(model, texts, optionsOf({ honest: [movedBy('broken', 8)], cheats: [] }))
  expect(found.profile).toBeNull()
  expect(Math.max(...found.forgeries.map(({ passedSequences }) => passedSequences))).toBeGreaterThan(0)
})

test("the matcher agrees with the calibration's own judgement of each proof", async () => {
  const cheats = [movedBy('somewhat', 2.5e-4)]
  const found = await calibrate(model, texts, optionsOf({ honest: [movedBy('engine', 1e-4)], cheats, headroom: 1.2 }))
  const profile = found.profile as ToleranceProfile
  let rejected = 0
  for (const tokens of texts.filter((_, i) => i % 2 === 1)) {
    const header = { ...proofHeader(model, 1, samplers), numerics: 'llama.cpp' }
    const plan = createPlan(proofHeader(model, 1, samplers), tokens)
    expect(whyNotCovered(profile, header, 'rows', 'ieee32', plan)).toBeNull()
    const { samples } = await cheats[0].rows(tokens, plan)
    const matcher = createTolerantMatcher(plan, samples, profile, plan.contextDigest)
    for await (const layer of prefill(model, tokens, plan)) if (!matcher.decided) matcher.push(layer)
    if (matcher.failed) rejected++
  }
  expect(rejected).toBe(found.cheats[0].detectedSequences)
  expect(rejected).toBeGreaterThan(0)
})

test("too few sequences, no honest engine, and rows that are not the plan's are wrong arguments", async () => {
  const invalid = expect.objectContaining({ code: 'INVALID_ARGUMENT' })
  await expect(calibrate(model, texts.slice(1), optionsOf())).rejects.toEqual(invalid)
  await expect(calibrate(model, texts, optionsOf({ honest: [] }))).rejects.toEqual(invalid)
  const short = { name: 'short', rows: async () => ({ samples: [], kvDtype: 'f32' as const }) }
  await expect(calibrate(model, texts, optionsOf({ honest: [short] }))).rejects.toEqual(invalid)
  const reason = new Error('enough')
  await expect(calibrate(model, texts, optionsOf({ signal: AbortSignal.abort(reason) }))).rejects.toBe(reason)
})

/** Runs the command alone; gives the error's code, and what was written. */
async function run(args: string[], onWrite: (text: string) => void = () => {}, signal?: AbortSignal) {
  const argv = ['calibrate', '--model', tiny, ...args]
  const written = { stdout: '', stderr: '' }
  const writer = (name: 'stdout' | 'stderr') => ({
    write: (text: string) => {
      written[name] += text
      onWrite(text)
    },
  })
  const program = new Command().exitOverride().configureOutput({ writeErr: () => {} })
  addCalibrate(program, createSession(argv, { stdout: writer('stdout'), stderr: writer('stderr'), signal }))
  const code = await program.parseAsync(argv, { from: 'user' }).then(
    () => 'none',
    (error) => error.code ?? error,
  )
  return { code, ...written }
}

const codeOf = async (...args: string[]) => (await run(args)).code
const SMALL = ['--sequences', '40', '--min-tokens', '40', '--max-tokens', '44']
const ownFolders = () => readdirSync(tmpdir()).filter((name) => name.startsWith('poc-cheats-'))

test('the command says what is missing: other weights to compare with, or the engine that runs them', async () => {
  expect(await codeOf('--key', 'key.pem')).toBe('INVALID_ARGUMENT')
  const out = ['--out', path.join(tmpdir(), 'no-profile.json')]
  expect(await codeOf(...out)).toBe('INVALID_ARGUMENT')
  expect(await codeOf(...out, '--gguf', 'model.gguf', '--llama', './no-such-engine.js')).toBe('BACKEND_UNAVAILABLE')
  expect(await codeOf('--gguf', 'model.gguf', '--key', 'no-such-key.pem')).toBe('FILE_NOT_FOUND')
  expect(await codeOf('--gguf', 'model.gguf', '--key', __filename)).toBe('INVALID_ARGUMENT')
  expect(await codeOf('--gguf', 'model.gguf', '--min-tokens', '300')).toBe('INVALID_ARGUMENT')
  expect(await codeOf('--sequences', '39')).toBe('commander.invalidArgument')
})

test("llama.cpp's threads are one unless asked for, whatever the cores", () => {
  const program = new Command()
  const writer = { write: () => true }
  addCalibrate(program, createSession([], { stdout: writer, stderr: writer }))
  const [command] = program.commands
  expect(command.opts()).toMatchObject({ llamaThreads: 1, llama: 'node-llama-cpp' })
  expect(command.opts().threads).toBeUndefined()
})

test('without another engine, its own variations are measured, and what was left out is said', async () => {
  const missing = ['--gguf', 'model.gguf', '--llama', './no-such-engine.js']
  const { code, stdout, stderr } = await run([...SMALL, ...missing, '--kv-dtype', 'f32', '--json'])
  expect(code).toBe('none')
  const found = JSON.parse(stdout)
  expect(found.profile).toBeNull()
  expect(found.leftOut[0]).toMatch(/no-such-engine.js must be installed/)
  expect(stderr).toContain('left out: llama.cpp')
  expect(stderr).toMatch(/generating 0 %\n.*generating 100 %\n.*comparing f16 with f32 0 %\n/s)
  expect(found.exact).toEqual(['f32', 'f16', 'bf16'].map((kvDtype) => ({ kvDtype, equal: 10, tried: 10 })))
  const directions = found.variations.map((one: Record<string, string>) => [one.generatorKvDtype, one.verifierKvDtype])
  expect(directions).toEqual([
    ['f16', 'f32'],
    ['f32', 'f16'],
    ['bf16', 'f32'],
    ['f32', 'bf16'],
  ])
  // Kept in f32 and recomputed in f16: rounding to f16 is what the verifier does itself, and no cheat.
  expect(found.variations[1].cheats.map(({ name }: { name: string }) => name)).toEqual([
    'weights rounded to int8',
    'K and V kept in bf16',
    'K and V rounded to int8',
  ])
  // Rounding to p bits moves a value by up to 2^-p of it: 2^-11 in f16, 2^-8 in bf16, and all of it is in layer 0.
  for (const [i, unit] of [2 ** -11, 2 ** -11, 2 ** -8, 2 ** -8].entries()) {
    expect(found.variations[i].typicalError.least).toBeGreaterThan(unit / 10)
    expect(found.variations[i].typicalError.least).toBeLessThan(unit)
    expect(found.variations[i].honest).toMatchObject({ fittedSequences: 20, heldOutSequences: 20 })
  }
})

test('an interrupted run leaves no folder behind', async () => {
  const before = ownFolders()
  const controller = new AbortController()
  const reason = new Error('enough')
  let during: string[] = []
  const onWrite = (text: string) => {
    if (!text.includes('comparing')) return
    during = ownFolders()
    controller.abort(reason)
  }
  expect((await run(SMALL, onWrite, controller.signal)).code).toBe(reason)
  expect(during.length).toBeGreaterThan(before.length)
  expect(ownFolders().filter((name) => during.includes(name) && !before.includes(name))).toEqual([])
})

test("greedy tokens of the model's own have no gap, and another token the difference of its logit", async () => {
  const { tokens } = await generate(model, texts[0].subarray(0, 8), { maxNewTokens: 20, ignoreEos: true })
  expect(await meanTokenGap(model, tokens, 8, 'f32')).toBe(0)
  const { vocabSize } = model.config
  const logits = new Uint8Array(vocabSize * 4)
  const none = new Uint32Array(0)
  const nothing = new Uint8Array(0)
  const sequence = new (addon().Sequence)(model.native, 'f32', tokens.length, 512)
  await sequence.append(tokens.slice(0, -1), none, none, none, nothing, nothing, null, logits, null)
  const values = new Float32Array(logits.buffer)
  for (const token of [0, 5, vocabSize - 1]) {
    const other = Uint32Array.from([...tokens.subarray(0, -1), token])
    const expected = (Math.max(...values) - values[token]) / 20
    expect(await meanTokenGap(model, other, 8, 'f32')).toBeCloseTo(expected, 6)
  }
})
