// npm run bench -- [options]: answers the questions of benchmarks/questions one after another and prints a table.
//   --only ID,ID    these rows (and what is measured with them)
//   --rounds N      rounds of A, B, A, B, ..; 5 by default
//   --json FILE     writes {machine, commit, rows}
//   --plot          writes charts to benchmarks/results/, of this run or of --from
//   --readme        writes the README's table, of this run or of --from
//   --from FILE     measures nothing: takes the rows that an earlier run wrote
import { fork } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { ROWS } from './goals.mjs'
import { commitOf, describeMachine } from './method/machine.mjs'
import { plot } from './plot.mjs'
import { printTable, updateReadme } from './table.mjs'

const here = path.dirname(fileURLToPath(import.meta.url))
const text = { type: 'string' }
const flag = { type: 'boolean', default: false }
const { values: args } = parseArgs({
  options: { only: text, rounds: { ...text, default: '5' }, json: text, from: text, plot: flag, readme: flag },
})

const wanted = args.only?.split(',') ?? ROWS.map(({ id }) => id)
const unknown = wanted.filter((id) => !ROWS.some((row) => row.id === id))
const rounds = Number(args.rounds)
if (unknown.length > 0) fail(`no row '${unknown[0]}'; there are ${ROWS.map(({ id }) => id).join(', ')}`)
if (!Number.isInteger(rounds) || rounds < 1) fail('--rounds takes a positive integer')

// Before the work: a path that cannot be written to must not cost its results.
if (args.json) mkdirSync(path.dirname(args.json), { recursive: true })
const report = args.from ? JSON.parse(readFileSync(args.from, 'utf8')) : await measure()
if (args.json) writeFileSync(args.json, `${JSON.stringify(report, null, 1)}\n`)
printTable(report)
if (args.plot) plot(report, path.join(here, 'results'))
if (args.readme) updateReadme(report, path.join(here, '../README.md'))
if (report.rows.some((row) => row.error)) process.exitCode = 1

async function measure() {
  const { buildNative } = await import('./method/native.mjs')
  await buildNative()
  const machine = await describeMachine()
  const options = { rounds, threadCounts: machine.threadCounts, features: machine.features, limits: machine.limits }
  const answers = {}
  for (const file of new Set(ROWS.filter(({ id }) => wanted.includes(id)).map((row) => row.file))) {
    const started = Date.now()
    const { rows = {}, error } = await ask(file, options)
    Object.assign(answers, rows)
    for (const { id } of ROWS.filter((row) => row.file === file)) answers[id] ??= { error: error ?? 'no answer' }
    console.error(`${file}: ${((Date.now() - started) / 1000).toFixed(0)} s${error ? `, failed\n${error}` : ''}`)
  }
  const rows = ROWS.filter(({ id }) => answers[id]).map(({ id, unit, floor, goal, lower, asks }) => {
    const { value = null, detail = {}, ...rest } = answers[id]
    return { id, asks, value, unit, floor, goal, lower, ...rest, detail }
  })
  return { machine, commit: commitOf(), date: new Date().toISOString().slice(0, 10), rounds, rows }
}

/** A question's rows, from a fresh process. */
function ask(file, options) {
  return new Promise((resolve) => {
    const child = fork(path.join(here, 'method/ask.mjs'), [file])
    let answer = { error: 'the process ended without an answer' }
    child.on('message', (message) => {
      answer = message
    })
    child.on('close', () => resolve(answer))
    child.send(options)
  })
}

function fail(message) {
  console.error(message)
  process.exit(64)
}
