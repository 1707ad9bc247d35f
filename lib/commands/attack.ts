// poc attack: the attack kit against this library's own verifier, as tables.

import { type Command, InvalidArgumentError } from 'commander'
import { ATTACK_NAMES, type AttackReport, type AttackRow, runAttacks } from '../attacks'
import { EXIT_DONE, EXIT_INVALID } from './exit'
import { addJsonFlag, addModelFlags, hex, integer, type ModelFlags } from './flags'
import { print, type Session, withProgress } from './session'
import { grouped, percent, short, table } from './table'
import { withModel } from './with-model'

interface Flags extends ModelFlags {
  cheapModel?: string
  trials: number
  honest?: number
  seed: string
  only?: string[]
}

export function addAttack(program: Command, session: Session): void {
  const command = program
    .command('attack')
    .description('forge proofs in every known way and see which are caught (exit code 0: all, and none that is honest)')
  addJsonFlag(addModelFlags(command))
    .option('--cheap-model <dir>', 'what forgers run in the place of an int8 copy; of the same shape')
    .option('--trials <n>', 'forgeries of each attack', integer(1, 2 ** 20), 20)
    .option('--honest <n>', 'honest proofs (default: 10 for each trial)', integer(0, 2 ** 24))
    .option('--seed <hex>', 'what all draws come from', hex, '')
    .option('--only <names>', 'attacks to run, with commas between', names)
    .action((flags: Flags) => runAttack(session, flags))
}

function names(value: string): string[] {
  const chosen = value.split(',')
  const unknown = chosen.find((name) => !ATTACK_NAMES.includes(name))
  if (unknown === undefined) return chosen
  throw new InvalidArgumentError(`There is no attack ${unknown}; there are ${ATTACK_NAMES.join(', ')}.`)
}

async function runAttack(session: Session, flags: Flags): Promise<void> {
  const { cheapModel, trials, honest, seed, only: attacks, threads } = flags
  const { signal } = session
  await withModel(session, flags, async (model) => {
    const report = await withProgress(session, 'attacking', (onProgress) =>
      runAttacks(model, { cheapModel, trials, honest, seed, attacks, threads, signal, onProgress }),
    )
    print(session, report, describe(report))
    session.exitCode = report.allCaught ? EXIT_DONE : EXIT_INVALID
  })
}

function describe(report: AttackReport): string {
  const { attacks, honest, verdicts, chance, allowed, modes, tokensNeeded, policy } = report
  const { challenge, depth, replay } = policy
  const parts: [title: string, rows: readonly AttackRow[]][] = [
    [`Forged proofs (challenge ${challenge}, depth ${depth}, replay ${replay})`, attacks],
    ["Lying verifiers, against the user's check of a verdict", verdicts],
    ['Caught as often as the samplers look at the right place; not counted', chance],
    ['What no check of one proof or verdict can catch; not counted', allowed],
  ]
  const tables = parts.filter(([, rows]) => rows.length > 0).map(([title, rows]) => `${title}\n\n${rowsOf(rows)}`)
  if (modes.length > 0)
    tables.push(`The same forgeries under other policies: caught; not counted\n\n${modesOf(report)}`)
  if (tokensNeeded.length > 0)
    tables.push(`Cheap tokens under real vectors: caught by so many tokens\n\n${tokensOf(report)}`)
  const shown = `honest proofs: ${grouped(honest.rejected)} of ${grouped(honest.trials)} rejected`
  const headline = report.allCaught
    ? 'all forgeries were caught'
    : 'NOT all forgeries were caught, or an honest proof was rejected'
  return [`model ${short(report.model)}`, ...tables, `${shown}\n${headline}`].join('\n\n')
}

function rowsOf(rows: readonly AttackRow[]): string {
  const hasChance = rows.some(({ expected }) => expected !== undefined)
  const body = rows.map((row) => [
    row.attack,
    grouped(row.trials),
    grouped(row.caught),
    ...(hasChance
      ? [percent(row.caught / (row.trials || 1)), row.expected === undefined ? '' : percent(row.expected)]
      : []),
    row.layers.toFixed(1),
    percent(row.share),
    grouped(Math.round(row.bytes)),
    Object.keys(row.by).join(', '),
  ])
  const chance = hasChance ? ['caught', 'expected'] : []
  const head = ['attack', 'trials', 'caught', ...chance, 'layers', 'of a prefill', 'bytes', 'by']
  return table([head, ...body], hasChance ? [1, 2, 3, 4, 5, 6, 7] : [1, 2, 3, 4, 5])
}

function modesOf({ modes }: AttackReport): string {
  const policies = [...new Set(modes.map(({ policy }) => policy))]
  const attacks = [...new Set(modes.map(({ attack }) => attack))]
  const rateOf = (policy: string, attack: string) => {
    const row = modes.find((one) => one.policy === policy && one.attack === attack)
    return row && row.trials > 0 ? percent(row.caught / row.trials) : ''
  }
  const body = policies.map((policy) => [policy, ...attacks.map((attack) => rateOf(policy, attack))])
  return table(
    [['policy', ...attacks], ...body],
    attacks.map((_, i) => i + 1),
  )
}

function tokensOf({ tokensNeeded }: AttackReport): string {
  const counts = Object.keys(tokensNeeded[0].caughtWithin)
  const body = tokensNeeded.map(({ model, temperature, answers, caughtWithin, mismatched }) => [
    model,
    String(temperature),
    String(answers),
    ...counts.map((count) => percent(caughtWithin[count] / answers)),
    percent(mismatched),
  ])
  const head = ['copy', 'temperature', 'answers', ...counts, 'of all tokens']
  return table([head, ...body], head.map((_, i) => i).slice(1))
}
