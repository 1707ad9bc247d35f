// poc check: the user's own validation of a verdict. Needs no model.

import type { Command } from 'commander'
import { checkVerdict } from '../check'
import { parseVerdict } from '../verdict'
import { EXIT_DONE, EXIT_INVALID } from './exit'
import { addJsonFlag, hex } from './flags'
import { readEvaluableProof, readJsonFile, readRequest } from './input'
import { print, type Session } from './session'
import { listing } from './table'

interface Flags {
  nonce?: string
  beacon?: string
  root?: string
  request?: string
  replay?: string
  replaySeed?: string
  probabilityTest?: boolean
}

export function addCheck(program: Command, session: Session): void {
  const command = program
    .command('check')
    .description("check a verifier's verdict against the proof; needs no model (exit code 0 or 1)")
    .argument('<file>', 'a proof')
    .argument('<verdict>', 'what poc verify --json printed')
    .option('--nonce <hex>', 'the nonce that you gave out', hex)
    .option('--beacon <hex>', 'the beacon that was not known when the claim was published', hex)
    .option('--root <hex>', 'the root that was published before the beacon was known', hex)
    .option('--request <file>', 'JSON: header fields as you asked for them, and prompt (token ids)')
    .option('--replay <share>', 'which tokens the verifier had to replay (default: as poc verify)')
    .option('--replay-seed <hex>', 'what drew the share', hex)
    .option('--probability-test', 'whether it had to test tokens whose sampler cannot choose again')
  addJsonFlag(command).action(async (file: string, verdictFile: string, flags: Flags) => {
    const proof = await readEvaluableProof(file)
    const verdict = parseVerdict(await readJsonFile(verdictFile, 'VERDICT_MALFORMED'))
    const { nonce, beacon, root, replay, replaySeed, probabilityTest } = flags
    const request = flags.request === undefined ? undefined : await readRequest(flags.request)
    const asked = { nonce, beacon, root, request, replay, replaySeed, probabilityTest }
    const check = checkVerdict(proof, verdict, asked)
    session.exitCode = check.valid ? EXIT_DONE : EXIT_INVALID
    const headline = check.valid
      ? `valid: the verdict '${verdict.status}' is complete and consistent`
      : `not valid: ${check.problems.length} problems with the verdict '${verdict.status}'`
    const problems = check.problems.map(({ code, message }) => [code, message] as const)
    print(session, check, problems.length > 0 ? `${headline}\n${listing(problems)}` : headline)
  })
}
