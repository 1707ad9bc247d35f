// What a user asks of a proof, as `poc verify` and `poc check` are told it.

import type { Command } from 'commander'
import { wrongValue } from '../errors'
import type { EvidenceDemands } from '../evidence'
import { fieldsOf } from '../header'
import type { Request } from '../structure'
import { hex } from './flags'
import { readJsonFile } from './input'

/** The flags of {@link addDemandFlags}. */
export interface DemandFlags {
  nonce?: string
  beacon?: string
  root?: string
  replay?: string
  replaySeed?: string
  probabilityTest?: boolean
  request?: string
}

export function addDemandFlags(command: Command): Command {
  return command
    .option('--nonce <hex>', 'the nonce that you gave out; a proof with another one is rejected', hex)
    .option('--beacon <hex>', 'the beacon that was not known when the claim was published', hex)
    .option('--root <hex>', 'the root that was published before the beacon was known', hex)
    .option('--replay <share>', 'which tokens the sampler must choose again: all, none, or a share such as 1/8')
    .option('--replay-seed <hex>', 'draws the share; the generator must not know it', hex)
    .option('--probability-test', 'where the sampler cannot choose again: reject tokens too improbable under the model')
    .option('--request <file>', 'JSON: header fields as you asked for them, and prompt (token ids)')
}

export async function readDemands(flags: DemandFlags): Promise<EvidenceDemands> {
  const { nonce, beacon, root, replay, replaySeed, probabilityTest } = flags
  const request = flags.request === undefined ? undefined : await readRequest(flags.request)
  return { nonce, beacon, root, replay, replaySeed, probabilityTest, ...(request && { request }) }
}

async function readRequest(path: string): Promise<Request> {
  const request = await readJsonFile(path, 'INVALID_ARGUMENT')
  if (!Array.isArray(request)) return fieldsOf(request, path, 'INVALID_ARGUMENT') as Request
  throw wrongValue('INVALID_ARGUMENT', path, 'an object of header fields, and prompt', request)
}
