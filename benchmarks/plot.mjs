// Charts of a report as SVG: every row against its floor and goal, and prefill rates beside node-llama-cpp's.
import { mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'

const WIDTH = 760
const LABEL = 170
const BAR = 18
const STEP = 30
const TOP = 46
const RIGHT = 90
const COLOURS = { ours: '#2f6f4f', llama: '#b9a36b', good: '#2f6f4f', middle: '#b98a2e', bad: '#b04a3a' }

export function plot(report, folder) {
  mkdirSync(folder, { recursive: true })
  const charts = { 'goals.svg': goalsChart(report), 'prefill.svg': prefillChart(report) }
  for (const [name, svg] of Object.entries(charts)) if (svg) writeFileSync(path.join(folder, name), svg)
}

/** How far each row gets towards its goal; a tick at the floor, a line at the goal. */
function goalsChart({ machine, commit, rows }) {
  const shown = rows.filter(({ value, goal }) => value !== null && goal !== null)
  if (shown.length === 0) return null
  const reached = ({ value, goal, lower }) => (lower ? goal / Math.max(value, 1e-9) : value / goal)
  const most = Math.max(1.25, Math.min(2, Math.max(...shown.map(reached))))
  const x = (share) => LABEL + (Math.min(share, most) / most) * (WIDTH - LABEL - RIGHT)
  const bars = shown.map((row, i) => {
    const share = reached(row)
    const floor = reached({ ...row, value: row.floor })
    const colour = share >= 1 ? COLOURS.good : share >= floor ? COLOURS.middle : COLOURS.bad
    const y = TOP + i * STEP
    return [
      label(row.id, y),
      bar(LABEL, x(share) - LABEL, y, colour),
      `<path d="M${x(floor)} ${y - 3}v${BAR + 6}" stroke="#888" stroke-width="2"/>`,
      words(x(share) + 6, y, `${row.value} ${row.unit}`),
    ].join('')
  })
  const bottom = TOP + shown.length * STEP
  const goal = `<path d="M${x(1)} ${TOP - 8}V${bottom}" stroke="#888" stroke-dasharray="4 3"/>`
  return svg(bottom + 12, `Towards the goals (dashed; ticks: floors), ${machine.cpu}, commit ${commit}`, [
    ...bars,
    goal,
  ])
}

/** Tokens a second of full prefills, each case a pair of bars. */
function prefillChart({ machine, commit, rows }) {
  const cases = rows
    .filter(({ id }) => /^prefill-/.test(id))
    .flatMap(({ id, detail }) => (detail.cases ?? []).map((one) => ({ dtype: id.slice('prefill-'.length), ...one })))
  if (cases.length === 0) return null
  const most = Math.max(...cases.flatMap(({ ours, llama }) => [ours.tokensPerSecond, llama.tokensPerSecond]))
  const width = (rate) => (rate / most) * (WIDTH - LABEL - RIGHT)
  const height = 2 * BAR + 14
  const bars = cases.map(({ dtype, threads, length, ours, llama }, i) => {
    const y = TOP + i * height
    const pair = [
      ['ours', ours.tokensPerSecond, y],
      ['llama', llama.tokensPerSecond, y + BAR],
    ].map(
      ([side, rate, at]) => bar(LABEL, width(rate), at, COLOURS[side]) + words(LABEL + width(rate) + 6, at, `${rate}`),
    )
    return label(`${dtype}, ${length} tokens, ${threads} thr.`, y + BAR / 2) + pair.join('')
  })
  const title = `Prefill, tokens/s: proof-of-cache (dark), node-llama-cpp (light), ${machine.cpu}, commit ${commit}`
  return svg(TOP + cases.length * height, title, bars)
}

const bar = (x, width, y, colour) =>
  `<rect x="${x}" y="${y}" width="${Math.max(width, 1).toFixed(1)}" height="${BAR}" fill="${colour}"/>`
const words = (x, y, text) => `<text x="${x.toFixed(1)}" y="${y + BAR - 4}">${escaped(text)}</text>`
const label = (text, y) => `<text x="${LABEL - 8}" y="${y + BAR - 4}" text-anchor="end">${escaped(text)}</text>`
const escaped = (text) => text.replace(/[&<>]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[c])

function svg(height, title, parts) {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="sans-serif" font-size="12">`,
    `<rect width="100%" height="100%" fill="#fff"/><text x="12" y="24">${escaped(title)}</text>`,
    ...parts,
    '</svg>\n',
  ].join('\n')
}
