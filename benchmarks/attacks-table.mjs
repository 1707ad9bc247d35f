// node benchmarks/attacks-table.mjs: writes the results of benchmarks/results/attacks-*.json into docs/ATTACKS.md.
import { readFileSync, writeFileSync } from 'node:fs'

const PAGE = new URL('../docs/ATTACKS.md', import.meta.url)
const NAMES = ['stories260K', 'tiny-stories']
const runs = NAMES.map((name) => {
  const file = new URL(`results/attacks-${name}.json`, import.meta.url)
  return { name, ...JSON.parse(readFileSync(file, 'utf8')) }
})

const grouped = (count) => count.toLocaleString('en-US')
const percent = (share, digits = 0) => `${(100 * share).toFixed(digits)} %`
const total = (rows, key) => rows.reduce((sum, row) => sum + row[key], 0)
const row = (cells) => `| ${cells.join(' | ')} |`
const table = (head, rows) => [row(head), row(head.map(() => '---')), ...rows.map(row)].join('\n')

function summary({ name, commit, date, model, report }) {
  const { attacks, verdicts, honest } = report
  const shape = `${model.layers} layers, hidden size ${model.hiddenSize}`
  const caught = (rows) => `${grouped(total(rows, 'caught'))} of ${grouped(total(rows, 'trials'))}`
  const forged = `${caught(attacks)} forgeries of ${attacks.length} kinds caught`
  const lies = `${caught(verdicts)} lies of ${verdicts.length} kinds`
  const rejected = `${grouped(honest.rejected)} of ${grouped(honest.trials)} honest proofs rejected`
  return `- ${name} (${shape}; commit ${commit}, ${date}): ${forged},\n  ${lies}, ${rejected}.`
}

function byChance() {
  const rows = runs[0].report.chance.map(({ attack }) => {
    const cells = runs.flatMap(({ report }) => {
      const { caught, trials, expected } = report.chance.find((each) => each.attack === attack)
      return [`${grouped(caught)} of ${grouped(trials)}`, percent(expected, 1)]
    })
    return [`\`${attack}\``, ...cells]
  })
  return table(['', ...NAMES.flatMap((name) => [`${name}: caught`, 'expected'])], rows)
}

function tokensNeeded() {
  const lengths = Object.keys(runs[0].report.tokensNeeded[0].caughtWithin)
  const rows = runs.flatMap(({ name, report }) =>
    report.tokensNeeded.map(({ model, temperature, answers, caughtWithin, mismatched }) => [
      name,
      model,
      temperature,
      ...lengths.map((length) => percent(caughtWithin[length] / answers)),
      percent(mismatched, 2),
    ]),
  )
  return table(['model', 'copy', 'temperature', ...lengths, "tokens that are not the sampler's"], rows)
}

function policies({ report }) {
  const names = [...new Set(report.modes.map(({ policy }) => policy))]
  const attacks = [...new Set(report.modes.map(({ attack }) => attack))]
  const rows = names.map((policy) => {
    const shares = attacks.map((attack) => {
      const { caught, trials } = report.modes.find((each) => each.policy === policy && each.attack === attack)
      return percent(caught / trials)
    })
    return [policy, ...shares]
  })
  return table(['policy', ...attacks.map((attack) => `\`${attack}\``)], rows)
}

const text = `
${runs.map(summary).join('\n')}

Caught by chance, beside what the policy gives; samplers are drawn for each trial, from one sample in the whole answer
to all of them:

${byChance()}

Answers of 128 tokens by a cheap model, and how many of them a replay of their first n tokens catches; the others are
the honest answers so far:

${tokensNeeded()}

The same forgeries under other policies (${NAMES[0]}, ${runs[0].report.modes[0].trials} trials each; other trials than
those above):

${policies(runs[0])}
`
const page = readFileSync(PAGE, 'utf8')
const [before, rest] = page.split('<!-- results: written by benchmarks/attacks-table.mjs -->')
const after = rest.split('<!-- /results -->')[1]
const open = '<!-- results: written by benchmarks/attacks-table.mjs -->'
writeFileSync(PAGE, `${before}${open}${text}<!-- /results -->${after}`)
