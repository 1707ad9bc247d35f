// node benchmarks/attacks.mjs --model DIR --json FILE [--trials N] [--honest N] [--seed HEX] [--cheap-model DIR]
//   [--threads N]
// Runs the attack kit against this library's own verifier and writes {machine, commit, date, seconds, model, report}.
// Counts depend on model and seed alone; nothing in it is a time but `seconds`.
import { mkdirSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { runAttacks } from '../dist/attacks/index.mjs'
import { info, Model } from '../dist/index.mjs'
import { commitOf } from './method/machine.mjs'

const text = { type: 'string' }
const { values: args } = parseArgs({
  options: {
    model: text,
    'cheap-model': text,
    json: text,
    trials: text,
    honest: text,
    seed: { ...text, default: '' },
    threads: { ...text, default: '1' }, // small models: a second thread mostly waits
  },
})
if (!args.model || !args.json) {
  console.error('--model DIR and --json FILE are needed')
  process.exit(64)
}
mkdirSync(path.dirname(args.json), { recursive: true }) // before the work that would be lost

const { cpu } = info()
const machine = {
  cpu: os.cpus()[0].model.trim(),
  cores: os.availableParallelism(),
  simd: cpu.best,
  os: `${os.type()} ${os.release()}`,
  node: process.version,
}
const commit = commitOf()
const number = (value) => (value === undefined ? undefined : Number(value))
const started = Date.now()
const threads = number(args.threads)
const model = await Model.load(args.model, { threads })
let shown = 0
const report = await runAttacks(model, {
  trials: number(args.trials),
  honest: number(args.honest),
  seed: args.seed,
  cheapModel: args['cheap-model'],
  threads,
  onProgress(fraction) {
    if (fraction < shown + 0.05) return
    shown = fraction
    console.error(`${Math.round(fraction * 100)} %, ${Math.round((Date.now() - started) / 1000)} s`)
  },
})
const name = path.basename(args.model)
const shape = { name, layers: model.config.numLayers, hiddenSize: model.config.hiddenSize }
await model.close()
const seconds = Math.round((Date.now() - started) / 1000)
const date = new Date().toISOString().slice(0, 10)
writeFileSync(args.json, `${JSON.stringify({ machine, commit, date, seconds, model: shape, report }, null, 1)}\n`)
process.exitCode = report.allCaught ? 0 : 1
