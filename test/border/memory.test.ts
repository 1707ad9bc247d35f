// What a budget for weights promises: the most memory that a process had in use, in one of its own on the built
// package (npm run build:ts), and the bytes that it read.
import { execFileSync } from 'node:child_process'
import { existsSync, openSync, truncateSync, writeFileSync, writeSync } from 'node:fs'
import path from 'node:path'
import { makeConfig, makeFolder } from '../models/make'

const dist = path.join(__dirname, '../../dist/index.js')
if (!existsSync(dist)) throw new Error('no dist/: run npm run build:ts first')
const MIB = 2 ** 20
const LAYERS = 12
const LAYER_BYTES = 2 * (2 * 1024 * 1024 + 2 * 256 * 1024 + 3 * 4096 * 1024) + 2 * 1024 * 2
/** Node's own growth, activations, pieces being hashed, and one tensor on its way. */
const BESIDE = 40 * MIB

const onLinux = existsSync('/proc/self/clear_refs') ? test : test.skip
if (onLinux === test.skip) console.warn('skipped: without /proc, peak memory cannot be seen')

/** A model of about 350 MiB, all zeros: a file of holes, written in no time. */
function makeLargeModel(): string {
  const dir = makeFolder()
  const shape = { vocab_size: 512, hidden_size: 1024, intermediate_size: 4096, num_hidden_layers: LAYERS }
  const heads = { num_attention_heads: 8, num_key_value_heads: 2, head_dim: 128, tie_word_embeddings: true }
  writeFileSync(path.join(dir, 'config.json'), JSON.stringify(makeConfig('llama', { ...shape, ...heads })))
  const header: Record<string, unknown> = {}
  let end = 0
  const add = (name: string, ...dims: number[]) => {
    const bytes = 2 * dims.reduce((product, length) => product * length, 1)
    header[`model.${name}.weight`] = { dtype: 'BF16', shape: dims, data_offsets: [end, end + bytes] }
    end += bytes
  }
  add('embed_tokens', 512, 1024)
  for (let layer = 0; layer < LAYERS; layer++) {
    for (const norm of ['input_layernorm', 'post_attention_layernorm']) add(`layers.${layer}.${norm}`, 1024)
    for (const name of ['q', 'o']) add(`layers.${layer}.self_attn.${name}_proj`, 1024, 1024)
    for (const name of ['k', 'v']) add(`layers.${layer}.self_attn.${name}_proj`, 256, 1024)
    for (const name of ['gate', 'up']) add(`layers.${layer}.mlp.${name}_proj`, 4096, 1024)
    add(`layers.${layer}.mlp.down_proj`, 1024, 4096)
  }
  add('norm', 1024)
  const text = Buffer.from(JSON.stringify(header))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(text.length))
  const file = path.join(dir, 'model.safetensors')
  writeSync(openSync(file, 'w'), Buffer.concat([length, text]))
  truncateSync(file, 8 + text.length + end)
  return dir
}

interface Used {
  /** Peak of resident memory over what the process had before the load, in bytes. */
  load: number
  pass: number
  status: string | null
}

/** Loads and makes one pass up to `layer` in a process of its own. */
function measured(dir: string, layer: number, options: object): Used {
  const tiny = path.join(__dirname, '../../models/tiny-stories')
  const script = `
    const { readFileSync, writeFileSync } = require('node:fs')
    const { Model, prove } = require(${JSON.stringify(dist)})
    const status = () => readFileSync('/proc/self/status', 'utf8')
    const kib = (name) => Number(new RegExp(name + ':[^0-9]*([0-9]+)').exec(status())[1])
    async function main() {
      await (await Model.load(${JSON.stringify(tiny)}, { backend: 'cpu' })).close()
      const before = kib('VmRSS')
      writeFileSync('/proc/self/clear_refs', '5') // the peak begins anew
      const model = await Model.load(${JSON.stringify(dir)}, { backend: 'cpu', ...${JSON.stringify(options)} })
      const load = kib('VmHWM') - before
      writeFileSync('/proc/self/clear_refs', '5')
      const tokens = Uint32Array.from({ length: 40 }, (_, i) => i)
      await prove(model, tokens, { promptLength: 1, layerSampler: 'fixed:${layer}', kvDtype: 'bf16' })
      const pass = kib('VmHWM') - before
      console.log(JSON.stringify({ load: load * 1024, pass: pass * 1024, status: model.weightCache?.status ?? null }))
    }
    main()`
  return JSON.parse(execFileSync(process.execPath, ['-e', script], { encoding: 'utf8' }))
}

onLinux('streamed weights stay under their budget, with a cache file and without', () => {
  const dir = makeLargeModel()
  const cacheDir = makeFolder()
  const weightBudgetBytes = 2 * LAYER_BYTES + 2 * MIB
  const all = LAYERS * LAYER_BYTES
  const plain = measured(dir, LAYERS - 1, {})
  expect(plain.load).toBeGreaterThan(0.95 * all) // or nothing here would be seen
  for (const status of [null, 'written', 'used']) {
    const cache = status === null ? {} : { cacheDir }
    const used = measured(dir, LAYERS - 1, { weightBudgetBytes, ...cache })
    expect(used.status).toBe(status)
    expect(used.load).toBeLessThan(weightBudgetBytes + BESIDE)
    expect(used.pass).toBeLessThan(weightBudgetBytes + BESIDE)
  }
  expect(measured(dir, LAYERS - 1, { cacheDir }).pass).toBeGreaterThan(0.9 * all)
})

onLinux('a pass that ends early has only brought in the layers up to there and one more', () => {
  const dir = makeLargeModel()
  const cacheDir = makeFolder()
  expect(measured(dir, 1, { cacheDir }).status).toBe('written')
  const used = measured(dir, 3, { cacheDir })
  expect(used.status).toBe('used')
  expect(used.load).toBeLessThan(BESIDE)
  expect(used.pass).toBeGreaterThan(3 * LAYER_BYTES)
  expect(used.pass).toBeLessThan(5 * LAYER_BYTES + BESIDE)
})
