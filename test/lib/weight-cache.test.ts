// Files of packed weights: used when they belong to the model as it is now, written anew otherwise, and never the
// reason why a load fails. Results are those of a load without one.
import {
  existsSync,
  copyFileSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import path from 'node:path'
import { addon } from '../../lib/addon'
import { main } from '../../lib/cli'
import { generate } from '../../lib/generate'
import { type LoadOptions, Model } from '../../lib/model'
import { encodeProof } from '../../lib/proof'
import { prove } from '../../lib/prove'
import { verify } from '../../lib/verify'
import { type Architecture, type Dtype, makeFolder, makeModel, type MakeOptions, setValues } from '../models/make'

const tiny = path.join(__dirname, '../../models/tiny-stories')
const tokens = Uint32Array.from({ length: 30 }, (_, i) => (i * 5) % 90)
const everywhere = { promptLength: 1, tokenSampler: 'all', layerSampler: 'uniform:4096' }

/** Loads, proves everywhere, closes. */
async function loaded(dir: string, options: LoadOptions) {
  const model = await Model.load(dir, { backend: 'cpu', ...options })
  const proof = Buffer.from(encodeProof(await prove(model, tokens, everywhere))).toString('hex')
  await model.close()
  return { proof, digest: model.digest, ...model.weightCache }
}

/** A small model with its cache file written, and what a load without the file gives. */
async function cached(options: MakeOptions = {}) {
  const { dir } = makeModel(options)
  const cacheDir = path.join(makeFolder(), 'made by the load')
  const { proof, digest } = await loaded(dir, {})
  const same = { proof, digest }
  expect(await loaded(dir, { cacheDir })).toEqual({ ...same, status: 'written', path: expect.any(String) })
  const [name, ...others] = readdirSync(cacheDir)
  expect(others).toEqual([])
  return { dir, cacheDir, file: path.join(cacheDir, name), same, weights: path.join(dir, 'model.safetensors') }
}

describe('the second load uses what the first one wrote', () => {
  const architectures: Architecture[] = ['llama', 'mistral', 'qwen2', 'qwen3']
  const dtypes: (Dtype | ((name: string) => Dtype))[] = [
    'F32',
    'F16',
    'BF16',
    (name) => (name.includes('norm') || name.includes('down') ? 'F32' : name.includes('.1.') ? 'F16' : 'BF16'),
  ]

  test.each(
    architectures.map((architecture, i) => [architecture, i % 2 === 0] as const),
  )('%s, tied head: %s', async (architecture, tied) => {
    for (const dtype of dtypes) {
      const config = { tie_word_embeddings: tied }
      const { dir, cacheDir, file, same } = await cached({ architecture, dtype, config, shards: tied ? 1 : 3 })
      const before = statSync(file, { bigint: true })
      expect(await loaded(dir, { cacheDir })).toEqual({ ...same, status: 'used', path: file })
      expect(await loaded(dir, { cacheDir, simd: 'plain', threads: 1 })).toEqual({
        ...same,
        status: 'used',
        path: file,
      })
      expect(statSync(file, { bigint: true })).toMatchObject({ ino: before.ino, mtimeNs: before.mtimeNs })
    }
  })

  test('the bundled model: tokens and verdict', async () => {
    const cacheDir = makeFolder()
    const options = { maxNewTokens: 12, ignoreEos: true, layerSampler: 'uniform:6' }
    const plain = await Model.load(tiny, { backend: 'cpu' })
    const expected = await generate(plain, [0, 540, 539], options)
    for (const status of ['written', 'used']) {
      const progress: number[] = []
      const model = await Model.load(tiny, { backend: 'cpu', cacheDir, onProgress: (share) => progress.push(share) })
      expect(model.weightCache).toMatchObject({ status })
      expect(model.digest).toBe(plain.digest)
      expect(progress.at(-1)).toBe(1)
      expect(encodeProof((await generate(model, [0, 540, 539], options)).proof)).toEqual(encodeProof(expected.proof))
      expect((await verify(model, expected.proof)).status).toBe('accepted')
      await model.close()
    }
    await plain.close()
  })

  test('a change that sets size and time of modification back is seen all the same', async () => {
    const { dir, cacheDir, same, weights } = await cached()
    const { size, atime, mtimeMs } = statSync(weights)
    utimesSync(weights, atime, new Date(Math.floor(mtimeMs))) // times that can be set again exactly
    expect(await loaded(dir, { cacheDir })).toMatchObject({ ...same, status: 'written' })
    expect(await loaded(dir, { cacheDir })).toMatchObject({ ...same, status: 'used' })
    writeSync(openSync(weights, 'r+'), Buffer.alloc(64, 1), 0, 64, size - 64)
    utimesSync(weights, atime, new Date(Math.floor(mtimeMs)))
    const after = await loaded(dir, { cacheDir })
    expect(after).toMatchObject({ ...(await loaded(dir, {})), status: 'written' })
    expect(after.digest).not.toBe(same.digest)
  })

  test('the file is let go by close(), however many passes there were', async () => {
    const { dir, cacheDir, file } = await cached()
    const model = await Model.load(dir, { backend: 'cpu', cacheDir })
    const proof = await prove(model, tokens, everywhere)
    await generate(model, [1], { maxNewTokens: 3, ignoreEos: true })
    expect((await verify(model, proof)).status).toBe('accepted')
    const mapped = () => existsSync('/proc/self/maps') && readFileSync('/proc/self/maps', 'utf8').includes(file)
    if (!existsSync('/proc/self/maps')) console.warn('skipped: no /proc/self/maps to look at')
    else expect(mapped()).toBe(true)
    await model.close()
    expect(mapped()).toBe(false)
  })
})

describe('under a budget', () => {
  test('layers are streamed from the file, which the weight files may outlive', async () => {
    const { dir, cacheDir, same, weights } = await cached({ config: { num_hidden_layers: 5 } })
    const error = await Model.load(dir, { backend: 'cpu', weightBudgetBytes: 1, cacheDir }).catch((e) => e)
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', where: 'weightBudgetBytes', received: '1' })
    const least = Number(/^at least (\d+)$/.exec(error.expected)?.[1])
    const plain = await Model.load(dir, { backend: 'cpu', weightBudgetBytes: least - 1 }).catch((e) => e)
    expect(plain.expected).toBe(error.expected)
    const model = await Model.load(dir, { backend: 'cpu', weightBudgetBytes: least, cacheDir })
    expect(model.weightCache).toMatchObject({ status: 'used' })
    truncateSync(weights, 100)
    for (const proof of await Promise.all([1, 2, 3].map(() => prove(model, tokens, everywhere)))) {
      expect(Buffer.from(encodeProof(proof)).toString('hex')).toBe(same.proof)
    }
    await model.close()
  })

  test('the first load writes the file too', async () => {
    const { dir, cacheDir, file, same } = await cached()
    rmSync(file)
    const budget = statSync(path.join(dir, 'model.safetensors')).size * 2
    expect(await loaded(dir, { cacheDir, weightBudgetBytes: budget })).toMatchObject({ ...same, status: 'written' })
    expect(await loaded(dir, { cacheDir })).toMatchObject({ ...same, status: 'used' })
  })
})

describe('a file that does not belong to the weights is written anew', () => {
  test.each<[string, (at: { dir: string; weights: string }) => void, boolean]>([
    ['a time', ({ weights }) => utimesSync(weights, new Date(), new Date(12345)), true],
    [
      'other weights of the same size',
      ({ dir, weights }) => copyFileSync(path.join(makeModel({ seed: 2 }).dir, 'model.safetensors'), weights) ?? dir,
      false,
    ],
    [
      'the config',
      ({ dir }) => {
        const config = path.join(dir, 'config.json')
        writeFileSync(config, readFileSync(config, 'utf8').replace('"rope_theta": 10000', '"rope_theta": 20000'))
      },
      false,
    ],
    [
      'the file names',
      ({ dir, weights }) => {
        const names = makeModel({ shards: 2 }).dir
        for (const name of readdirSync(names)) copyFileSync(path.join(names, name), path.join(dir, name))
        rmSync(weights)
      },
      true,
    ],
  ])('as %s changed', async (_, change, isSame) => {
    const { dir, cacheDir, file, same, weights } = await cached()
    change({ dir, weights })
    const changed = await loaded(dir, {})
    expect(changed.digest === same.digest).toBe(isSame)
    expect(await loaded(dir, { cacheDir })).toEqual({ ...changed, status: 'written', path: file })
    expect(await loaded(dir, { cacheDir })).toEqual({ ...changed, status: 'used', path: file })
  })

  test.each<[string, (file: string) => void]>([
    ['empty', (file) => writeFileSync(file, '')],
    ['cut off in its header', (file) => truncateSync(file, 100)],
    ['cut off after its header', (file) => truncateSync(file, 4096)],
    ['one byte short', (file) => truncateSync(file, statSync(file).size - 1)],
    ['one byte longer', (file) => writeFileSync(file, Buffer.concat([readFileSync(file), Buffer.alloc(1)]))],
    ['something else', (file) => writeFileSync(file, readFileSync(path.join(tiny, 'model.safetensors')))],
    ['of another version', (file) => writeSync(openSync(file, 'r+'), 'poc-weights-v0', 0, 'latin1')],
    ['without a header, as a writer that was killed leaves it', (file) => overwrite(file, 0, Buffer.alloc(4096))],
  ])('%s', async (_, damage) => {
    const { dir, cacheDir, file, same } = await cached()
    damage(file)
    expect(await loaded(dir, { cacheDir })).toEqual({ ...same, status: 'written', path: file })
    expect(await loaded(dir, { cacheDir })).toEqual({ ...same, status: 'used', path: file })
    expect(readdirSync(cacheDir)).toEqual([path.basename(file)])
  })

  test('with any bit of its header flipped', async () => {
    const { dir, cacheDir, file, same } = await cached()
    const bytes = readFileSync(file)
    for (let at = 0; at < 112; at++) {
      overwrite(file, at, Buffer.of(bytes[at] ^ (1 << (at % 8))))
      const model = await Model.load(dir, { backend: 'cpu', cacheDir })
      expect(model.weightCache).toMatchObject({ status: 'written' })
      expect(model.digest).toBe(same.digest)
      await model.close()
    }
    expect(readFileSync(file)).toEqual(bytes)
  })

  test('of another model, put in its place', async () => {
    const { dir, cacheDir, file, same } = await cached()
    const other = await cached({ seed: 2 })
    copyFileSync(other.file, file)
    expect(await loaded(dir, { cacheDir })).toEqual({ ...same, status: 'written', path: file })
  })
})

function overwrite(file: string, at: number, bytes: Uint8Array): void {
  writeSync(openSync(file, 'r+'), bytes, 0, bytes.length, at)
}

describe('a file that cannot be written fails no load', () => {
  test('no folder can be made', async () => {
    const { dir, same, file } = await cached()
    for (const cacheDir of [path.join(file, 'below a file'), path.join(dir, 'no/parent'), '/proc/no-such-folder']) {
      const unavailable = {
        status: 'unavailable',
        path: expect.any(String),
        reason: expect.stringMatching(/directory/),
      }
      expect(await loaded(dir, { cacheDir })).toEqual({ ...same, ...unavailable })
    }
  })

  test('a folder is in its place', async () => {
    const { dir, cacheDir, file, same } = await cached()
    renameSync(file, `${file}.old`)
    mkdirSync(file)
    const unavailable = { status: 'unavailable', path: file, reason: expect.stringMatching(/rename/) }
    expect(await loaded(dir, { cacheDir })).toEqual({ ...same, ...unavailable })
    expect(readdirSync(cacheDir).length).toBe(2)
  })

  test.each([[''], [5], ['a\0b'], [null], [{}]])('cacheDir %j is refused', async (cacheDir) => {
    const error = { code: 'INVALID_ARGUMENT', where: 'cacheDir' }
    await expect(Model.load(tiny, { cacheDir: cacheDir as never })).rejects.toMatchObject(error)
  })
})

test('the native class refuses other arguments, backends and states', async () => {
  const model = await Model.load(tiny, { backend: 'cpu' })
  const options = { threads: 1, simd: 'auto', device: 0, weightBudgetBytes: 0, timeOps: false }
  const header = new Uint8Array(112)
  const make = (backend: 'cpu' | 'cuda') => new (addon().Model)(model.config, [], [], { ...options, backend })
  const native = make('cpu') as unknown as Record<string, (...args: unknown[]) => Promise<unknown>>
  for (const args of [[], [5], [null, header], ['file'], ['file', 'header'], ['file', new Float32Array(4)]]) {
    expect(() => native.loadPacked(...args)).toThrow(/must be (a string|a Uint8Array)/)
  }
  expect(() => native.writePacked(5)).toThrow('path must be a string')
  await expect(native.loadPacked('file', header)).rejects.toMatchObject({ code: 'MODEL_MALFORMED' })
  await expect(native.writePacked(path.join(makeFolder(), 'x'))).rejects.toMatchObject({ code: 'MODEL_MALFORMED' })
  expect(() => make('cuda').loadPacked('file', header)).toThrow('backend must be cpu')
  expect(() => make('cuda').writePacked('file')).toThrow('backend must be cpu')
  expect(() => model.native.loadPacked('file', header)).toThrow('closed or loaded')
  expect(() => model.native.writePacked('file')).toThrow('closed or loaded')
  await model.close()
})

test('loads at once: each is right, and one file is left', async () => {
  const { dir, cacheDir, file, same } = await cached()
  rmSync(file)
  for (const result of await Promise.all([1, 2, 3, 4, 5].map(() => loaded(dir, { cacheDir })))) {
    expect(result).toMatchObject(same)
    expect(['written', 'used']).toContain(result.status)
  }
  expect(readdirSync(cacheDir)).toEqual([path.basename(file)])
})

test('an aborted load and one of bad weights leave nothing behind', async () => {
  const cacheDir = makeFolder()
  for (const ms of [0, 1, 3, 5, 10]) {
    const controller = new AbortController()
    const reason = new Error('enough')
    const loading = Model.load(tiny, { backend: 'cpu', cacheDir, signal: controller.signal })
    setTimeout(() => controller.abort(reason), ms)
    const error = await loading.then((model) => model.close()).catch((e) => e)
    if (error !== undefined) expect(error).toBe(reason)
    for (const name of readdirSync(cacheDir)) expect(name).toMatch(/\.poc-weights$/)
    rmSync(cacheDir, { recursive: true })
    mkdirSync(cacheDir)
  }
  const { dir } = makeModel({
    edit: (tensors) => {
      const tensor = tensors.get('model.norm.weight')
      if (tensor) setValues(tensor, [...tensor.values].fill(Number.NaN, 3))
    },
  })
  await expect(Model.load(dir, { backend: 'cpu', cacheDir })).rejects.toMatchObject({ code: 'MODEL_NON_FINITE' })
  expect(readdirSync(cacheDir)).toEqual([])
})

test('on the command line', async () => {
  const cacheDir = makeFolder()
  const out = path.join(makeFolder(), 'proof.poc')
  const poc = async (...argv: string[]) => {
    let stderr = ''
    const io = { stdout: { write: () => true }, stderr: { write: (text: string) => (stderr += text) } }
    return { exitCode: await main([...argv, '--model', tiny, '--backend', 'cpu'], io), stderr }
  }
  const make = ['prove', '--tokens', '0,540,539,260', '--prompt-length', '1', '--out', out]
  const done = { exitCode: 0, stderr: '' }
  expect(await poc(...make, '--cache-dir', cacheDir)).toEqual(done)
  const [name] = readdirSync(cacheDir)
  const { ino } = statSync(path.join(cacheDir, name))
  expect(await poc('verify', out, '--cache-dir', cacheDir)).toEqual(done)
  expect(statSync(path.join(cacheDir, name)).ino).toBe(ino)
  const warned = await poc('verify', out, '--cache-dir', path.join(cacheDir, name, 'x'))
  expect(warned).toEqual({ exitCode: 0, stderr: expect.stringMatching(/^warning: .*poc-weights is not in use: .*\n$/) })
})
