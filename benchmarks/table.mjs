// The rows of a report as a table: on the terminal, and in the README between its two markers.
import { readFileSync, writeFileSync } from 'node:fs'

const BEGIN = '<!-- benchmarks: written by `npm run bench -- --readme` -->'
const END = '<!-- /benchmarks -->'
const LENGTH_LIMIT = 100

export function printTable(report) {
  const { machine, commit, rows } = report
  console.log(`${machineLine(machine)}; commit ${commit}`)
  const cells = rows.map((row) => [row.id, shown(row), bound(row, row.floor), bound(row, row.goal), state(row)])
  const table = [['row', 'value', 'floor', 'goal', ''], ...cells]
  const widths = table[0].map((_, column) => Math.max(...table.map((cells) => cells[column].length)))
  for (const cells of table)
    console.log(
      cells
        .map((cell, i) => cell.padEnd(widths[i]))
        .join('  ')
        .trimEnd(),
    )
}

/** Replaces what stands between the README's markers; nothing else in it comes from measurements. */
export function updateReadme(report, file) {
  const text = readFileSync(file, 'utf8')
  const [from, to] = [text.indexOf(BEGIN), text.indexOf(END)]
  if (from < 0 || to < from) throw new Error(`${file} lacks the markers ${BEGIN} and ${END}`)
  const { machine, commit, date, rows } = report
  const lines = rows
    .filter(({ value }) => value !== null)
    .map((row) => `| ${row.asks} | **${shown(row)}** | ${bound(row, row.floor)} | ${bound(row, row.goal)} |`)
  const about = `Measured on ${machineLine(machine)}, ${date}, commit ${commit}:`
  const table = ['| what | measured | floor | goal |', '| --- | --- | --- | --- |', ...lines]
  writeFileSync(file, `${text.slice(0, from)}${BEGIN}\n${about}\n\n${table.join('\n')}\n${text.slice(to)}`)
}

function machineLine({ cpu, cores, simd, limits }) {
  const measured = Object.entries(limits).map(([, { fmaGflops }]) => Math.round(fmaGflops))
  return `${cores} cores of ${cpu} (${simd}; ${measured.join(' and ')} GFLOP/s of fp32 on one thread and on two)`
}

function shown({ value, unit }) {
  if (value === null) return '-'
  const number = Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(2)
  return /^[x/%]/.test(unit) ? `${number}${unit}` : `${number} ${unit}`
}

function bound({ lower }, limit) {
  return limit === null ? '' : `${lower ? '<=' : '>='} ${limit}`
}

function state({ value, floor, goal, lower, skipped, error, detail }) {
  if (skipped) return `skipped: ${skipped}`
  if (error) return `failed: ${error.split('\n')[0].slice(0, LENGTH_LIMIT)}`
  const meets = (limit) => (lower ? value <= limit : value >= limit)
  const verdict = floor === null ? '' : meets(goal) ? 'goal' : meets(floor) ? 'floor' : 'below the floor'
  const noisy = countNoisy(detail)
  return [verdict, noisy > 0 && `${noisy} noisy samples`].filter(Boolean).join(', ')
}

/** Samples, at any depth of a row's detail, for which others had too much of the CPU. */
function countNoisy(detail) {
  if (typeof detail !== 'object' || detail === null) return 0
  return Object.entries(detail).reduce((sum, [key, value]) => sum + (key === 'noisy' ? value : countNoisy(value)), 0)
}
