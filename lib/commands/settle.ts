// poc settle: who gets what from the stakepool.

import type { Command } from 'commander'
import { type DisputeState, disputeToJson, parseHistory, replay } from '../dispute'
import type { Settlement } from '../payoff'
import { parseTerms } from '../terms'
import { EXIT_DONE, EXIT_INCONCLUSIVE } from './exit'
import { addJsonFlag } from './flags'
import { readJsonFile } from './input'
import { print, type Session } from './session'
import { grouped, table } from './table'

export function addSettle(program: Command, session: Session): void {
  const command = program
    .command('settle')
    .description('replay the events of a dispute and print the payouts (exit code 2: not settled yet)')
    .argument('<terms>', 'JSON file with the terms')
    .argument('<history>', 'JSON file with the list of events')
  addJsonFlag(command).action(async (termsFile: string, historyFile: string) => {
    const terms = parseTerms(await readJsonFile(termsFile, 'TERMS_INVALID'))
    const history = parseHistory(await readJsonFile(historyFile, 'DISPUTE_INVALID'))
    const state = replay(terms, history)
    session.exitCode = state.settlement ? EXIT_DONE : EXIT_INCONCLUSIVE
    print(session, disputeToJson(state), describe(state))
  })
}

function describe({ phase, pool, next, settlement }: DisputeState): string {
  if (settlement) return describeSettlement(settlement)
  return `not settled: waiting for ${phase}; next may be ${next.join(', ')}; the pool holds ${grouped(pool)}`
}

/** The payouts as a table. */
export function describeSettlement(settlement: Settlement): string {
  const rows = settlement.payouts.map(({ party, deposit, amount, net, reason }) => {
    return [party, grouped(deposit), grouped(amount), signed(net), reason]
  })
  const sum = ['pool', grouped(settlement.pool), grouped(settlement.pool), '0', '']
  const head = ['party', 'deposit', 'payout', 'net', 'reason']
  const stage = settlement.stage > 0 ? ` at stage ${settlement.stage}` : ''
  return `settled: ${settlement.case}${stage}\n\n${table([head, ...rows, sum], [1, 2, 3])}`
}

/** +5, 0, -5. */
export function signed(amount: bigint): string {
  return amount > 0n ? `+${grouped(amount)}` : grouped(amount)
}
