// poc check: the user's own validation of a verdict. Needs no model.

import type { Command } from 'commander'
import { checkVerdict } from '../check'
import { parseVerdict } from '../verdict'
import { EXIT_DONE, EXIT_INVALID } from './exit'
import { addDemandFlags, type DemandFlags, readDemands } from './demands'
import { addJsonFlag } from './flags'
import { readJsonFile, readEvaluableProof } from './input'
import { print, type Session } from './session'
import { listing } from './table'

export function addCheck(program: Command, session: Session): void {
  const command = program
    .command('check')
    .description("check a verifier's verdict against the proof and what it was told; needs no model (exit code 0 or 1)")
    .argument('<file>', 'a proof')
    .argument('<verdict>', 'what poc verify --json printed')
  addJsonFlag(addDemandFlags(command)).action(async (file: string, verdictFile: string, flags: DemandFlags) => {
    const proof = await readEvaluableProof(file)
    const verdict = parseVerdict(await readJsonFile(verdictFile, 'VERDICT_MALFORMED'))
    const check = checkVerdict(proof, verdict, await readDemands(flags))
    session.exitCode = check.valid ? EXIT_DONE : EXIT_INVALID
    const headline = check.valid
      ? `valid: the verdict '${verdict.status}' is complete and consistent`
      : `not valid: ${check.problems.length} problems with the verdict '${verdict.status}'`
    const problems = check.problems.map(({ code, message }) => [code, message] as const)
    print(session, check, problems.length > 0 ? `${headline}\n${listing(problems)}` : headline)
  })
}
