'use strict'
// Runs the fuzz targets: those of test/fuzz/targets, and the programs that native/test/fuzz_*.cpp give. All of them
// are driven by libFuzzer, which comes with clang (Debian: clang and libclang-rt-*-dev). What is found is kept.
const { spawn, spawnSync } = require('node:child_process')
const { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { parseArgs } = require('node:util')

const USAGE = `npm run fuzz -- [options]
  --seconds S      of all targets together (default 60)
  --runs N         inputs of each target, instead of a time
  --target NAME    only this one; may be repeated
  --jobs N         targets at a time (default 1)
  --input FILE     runs this one input and says what is wrong; with one --target
  --record FILE    adds what was run to this JSON file
  --built          the programs are built already`

const root = path.join(__dirname, '../..')
const build = path.join(root, 'build', 'fuzz')
const scripts = path.join(__dirname, 'targets')
// Of one input: seconds of a hang (target.cjs has the limit of CPU time), and MB of the process, which has 150 of them
// from the start where it is a Node.
const TIMEOUT = 60
const HEAP_MB = 128
const RSS_MB = 400
const NO_FINDING = [0, 72, 'SIGINT', 'SIGTERM'] // ended by itself, or from outside: by libFuzzer's handler or Node's
const NATIVE_RSS_MB = 1024

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    runs: { type: 'string' },
    target: { type: 'string', multiple: true },
    jobs: { type: 'string', default: '1' },
    input: { type: 'string' },
    record: { type: 'string' },
    built: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})

function fail(message) {
  console.error(`fuzz: ${message}`)
  process.exit(2)
}

function buildPrograms() {
  const run = (command, args) => {
    const { status, stdout, stderr } = spawnSync(command, args, { cwd: root, encoding: 'utf8' })
    if (status !== 0) fail(`${command} failed; clang with libFuzzer is needed\n${stdout ?? ''}${stderr ?? ''}`)
  }
  const definitions = {
    CMAKE_CXX_COMPILER: 'clang++',
    CMAKE_BUILD_TYPE: 'RelWithDebInfo',
    POC_SANITIZE: 'address,undefined',
    POC_OUT: path.join(build, 'out'),
    POC_FUZZ: 'ON',
    POC_ADDON: 'OFF',
    POC_CUDA: 'OFF',
  }
  run('cmake', ['-S', root, '-B', build, ...Object.entries(definitions).map(([name, value]) => `-D${name}=${value}`)])
  run('cmake', ['--build', build, '--parallel', '2'])
}

/** A target's command, to which libFuzzer's arguments are added, and what it starts from. */
function scriptTarget(file) {
  const target = require(path.join(scripts, file))
  const node = ['node', '--stack-trace-limit=0', `--max-old-space-size=${HEAP_MB}`]
  const engine = [path.join(__dirname, 'engine.cjs'), path.join(build, 'fuzz_script.node'), path.join(scripts, file)]
  return { ...target, name: path.basename(file, '.cjs'), command: [...node, ...engine], rssMb: RSS_MB }
}

function nativeTarget(file) {
  const program = path.basename(file, '.cpp')
  const name = program.replace('fuzz_', 'native-').replaceAll('_', '-')
  const command = [path.join(build, program)]
  return { name, command, seeds: () => [], words: [], maxBytes: 4096, rssMb: NATIVE_RSS_MB }
}

function targets() {
  const native = readdirSync(path.join(root, 'native', 'test')).filter((file) => /^fuzz_(?!script).*\.cpp$/.test(file))
  const all = [...readdirSync(scripts).map(scriptTarget), ...native.map(nativeTarget)]
  const unknown = options.target?.find((name) => !all.some((target) => target.name === name))
  if (unknown) fail(`no target ${unknown}; there are ${all.map(({ name }) => name).join(', ')}`)
  return options.target ? all.filter(({ name }) => options.target.includes(name)) : all
}

function folderOf(...parts) {
  const folder = path.join(build, ...parts)
  mkdirSync(folder, { recursive: true })
  return folder
}

const escaped = (word) => [...Buffer.from(word)].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('')

/** libFuzzer's arguments, after the files that they name have been written. */
function fuzzerArguments({ name, seeds, words, maxBytes, rssMb }, limit) {
  rmSync(path.join(build, 'seeds', name), { recursive: true, force: true })
  const seedFolder = folderOf('seeds', name)
  const fitting = seeds().filter(({ length }) => length <= maxBytes) // libFuzzer would cut the others off
  for (const [i, seed] of fitting.entries()) writeFileSync(path.join(seedFolder, `${i}`), seed)
  const dictionary = path.join(build, `${name}.dict`)
  const usable = words.filter((word) => word.length > 0 && word.length <= 64)
  writeFileSync(dictionary, usable.map((word) => `"${escaped(word)}"\n`).join(''))
  const corpus = folderOf('corpus', name) // kept: a later run goes on from it
  const prefix = path.join(folderOf('findings', name), path.sep)
  const limits = [`-max_len=${maxBytes}`, `-timeout=${TIMEOUT}`, `-rss_limit_mb=${rssMb}`, limit]
  const hints = usable.length > 0 ? [`-dict=${dictionary}`] : []
  return [...limits, ...hints, `-artifact_prefix=${prefix}`, '-print_final_stats=1', corpus, seedFolder]
}

function run({ command: [program, ...args] }, fuzzerArgs) {
  const env = {
    ...process.env,
    ASAN_OPTIONS: 'quarantine_size_mb=16:malloc_context_size=4',
    UBSAN_OPTIONS: 'print_stacktrace=1',
  }
  return new Promise((resolve) => {
    const child = spawn(program, [...args, ...fuzzerArgs], { cwd: root, env, stdio: ['ignore', 'inherit', 'pipe'] })
    let output = ''
    child.stderr.on('data', (data) => {
      output = (output + data).slice(-100_000)
    })
    child.on('error', ({ message }) => fail(message))
    child.on('close', (code, signal) => resolve({ output, ended: NO_FINDING.includes(signal ?? code) }))
  })
}

async function fuzz(target, limit) {
  const started = performance.now()
  const { output, ended } = await run(target, fuzzerArguments(target, limit))
  const seconds = (performance.now() - started) / 1000
  const last = (pattern) => Number([...output.matchAll(pattern)].at(-1)?.[1] ?? 0)
  const runs = last(/stat::number_of_executed_units:\s+(\d+)/g)
  const coverage = last(/cov: (\d+)/g)
  const peakMb = last(/stat::peak_rss_mb:\s+(\d+)/g)
  const findings = ended ? 0 : 1 // libFuzzer stops at the first
  const { name } = target
  const columns = [runs, Math.round(runs / seconds), coverage, peakMb, findings]
  console.log(name.padEnd(20) + columns.map((value) => String(value).padStart(10)).join(''))
  if (!ended) console.error(output.replaceAll(/^#.*\n/gm, '').slice(-4000)) // without the lines on progress
  for (const [, file] of output.matchAll(/Test unit written to (.*)/g)) {
    console.error(`reproduce: npm run fuzz -- --target ${name} --input ${path.relative(root, file)}`)
  }
  const result = { target: name, runs, seconds: Math.round(seconds), findings, coverage, peakMb }
  if (options.record) record(options.record, result)
  return result
}

/** Adds to what was recorded of the same target at the same commit on the same machine. */
function record(file, result) {
  const commit = spawnSync('git', ['rev-parse', 'HEAD'], { cwd: root, encoding: 'utf8' }).stdout.trim()
  const cpus = os.cpus()
  const machine = `${cpus[0].model}, ${cpus.length} CPUs, Node ${process.version}`
  const entries = existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : []
  const isSame = (entry) => entry.target === result.target && entry.commit === commit && entry.machine === machine
  const sum = { ...result, commit, machine }
  for (const before of entries.filter(isSame)) {
    for (const count of ['runs', 'seconds', 'findings']) sum[count] += before[count]
  }
  writeFileSync(file, `${JSON.stringify([...entries.filter((entry) => !isSame(entry)), sum], null, 2)}\n`)
}

async function reproduce([target, ...others], file) {
  if (others.length > 0) fail('--input needs one --target')
  const command = target.command.filter((argument) => !argument.startsWith('--stack-trace-limit'))
  const { output, ended } = await run({ command }, [`-timeout=${TIMEOUT}`, path.resolve(file)])
  console.log(output)
  process.exit(ended ? 0 : 1)
}

async function main() {
  if (options.help) return console.log(USAGE)
  if (!options.built) buildPrograms()
  const chosen = targets()
  if (options.input) return reproduce(chosen, options.input)
  const jobs = Number(options.jobs)
  const seconds = Math.max(1, Math.floor((Number(options.seconds) * jobs) / chosen.length))
  const limit = options.runs ? `-runs=${Number(options.runs)}` : `-max_total_time=${seconds}`
  console.log(`${'target'.padEnd(20)}      runs    runs/s  coverage   peak MB  findings`)
  const results = []
  const queue = [...chosen]
  const work = async () => {
    for (let target = queue.shift(); target; target = queue.shift()) results.push(await fuzz(target, limit))
  }
  await Promise.all(Array.from({ length: jobs }, work))
  const found = results.filter(({ findings }) => findings > 0)
  console.log(`${results.length} targets, ${found.length} with findings`)
  process.exit(found.length > 0 ? 1 : 0)
}

main()
