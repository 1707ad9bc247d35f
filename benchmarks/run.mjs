// Runs every benchmark and writes results/<machine>-<commit>.json.
//   npm run bench [-- --model DIR ...]     (models beside the bundled one)
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { info } from '../dist/index.mjs'
import { measure } from './verification.mjs'

const here = path.dirname(fileURLToPath(import.meta.url))
const root = path.join(here, '..')
const { values } = parseArgs({ options: { model: { type: 'string', multiple: true, default: [] } } })
const run = (command, args) => execFileSync(command, args, { cwd: root, encoding: 'utf8' })

const commit = run('git', ['rev-parse', '--short', 'HEAD']).trim()
const dirty =
  run('git', ['status', '--porcelain', '--', 'lib', 'native', 'benchmarks/*.cpp', 'benchmarks/*.mjs']) !== ''
const cpu = os.cpus()[0].model.trim()
const machine = `${os.cpus().length}-core ${cpu} (${info().cpu.best})`

const build = path.join(root, 'build', 'benchmarks')
run('cmake', ['-S', root, '-B', build, '-DCMAKE_BUILD_TYPE=Release', '-DPOC_ADDON=OFF', '-DPOC_BENCHMARKS=ON'])
run('cmake', ['--build', build, '--parallel', '2'])
const matmul = JSON.parse(run(path.join(build, 'matmul_benchmark'), []))

const verification = {}
const tiny = path.join(root, 'models', 'tiny-stories')
verification['tiny-stories, 64 new tokens'] = await measure(tiny, [0, 540, 539, 260, 384], 64)
verification['tiny-stories, 400 new tokens'] = await measure(tiny, [0, 540, 539, 260, 384], 400)
for (const dir of values.model) verification[path.basename(dir)] = await measure(dir, [1], 200)

const result = {
  machine,
  cores: os.cpus().length,
  node: process.version,
  commit: dirty ? `${commit} with changes` : commit,
  date: new Date().toISOString().slice(0, 10),
  matmul,
  verification,
}
mkdirSync(path.join(here, 'results'), { recursive: true })
const name = cpu.toLowerCase().replace(/[^a-z0-9]+/g, '-')
const file = path.join(here, 'results', `${name}-${info().cpu.best}-${commit}.json`)
writeFileSync(file, `${JSON.stringify(result, null, 2)}\n`)
console.log(JSON.stringify(result, null, 2))
console.log(`written to ${path.relative(root, file)}`)
