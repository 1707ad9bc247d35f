// poc prove: a proof for tokens that exist already.

import type { Command } from 'commander'
import { commit } from '../commitment'
import { MAX_TOKENS } from '../limits'
import { prove } from '../prove'
import { addJsonFlag, addModelFlags, addProofFlags, integer, type ModelFlags, type ProofFlags, statedBy } from './flags'
import { readIds } from './input'
import { checkWritable } from './output'
import { print, type Session, withProgress } from './session'
import { listing } from './table'
import { withModel } from './with-model'
import { describeClaim, describeWritten, writeClaim, writeProof } from './write-proof'

interface Flags extends ProofFlags, ModelFlags {
  tokens: string
  promptLength: number
  maxNewTokens?: number
  stopTokens?: string
  commit?: boolean
  out: string
}

export function addProve(program: Command, session: Session): void {
  const command = program.command('prove').description('make a proof for a token sequence that exists already')
  addModelFlags(command)
    .requiredOption('--tokens <ids>', 'prompt and output, as 1,2,3 or @FILE')
    .requiredOption('--prompt-length <n>', 'how many of the tokens are prompt', integer(1, MAX_TOKENS))
    .option('--max-new-tokens <n>', 'the most tokens that were to be generated', integer(1, MAX_TOKENS))
    .option('--stop-tokens <ids>', 'with it: ids that end a generation, as 1,2,3 or @FILE')
    .option('--commit', 'write a claim instead of a proof: a commitment, to be opened when a beacon is known')
    .requiredOption('--out <file>', 'where proof or claim goes')
  addJsonFlag(addProofFlags(command, 'how tokens were chosen is not stated')).action((flags: Flags) =>
    runProve(session, flags),
  )
}

async function runProve(session: Session, flags: Flags): Promise<void> {
  await checkWritable(flags.out)
  const tokens = await readIds(flags.tokens, '--tokens')
  const { promptLength, maxNewTokens, stopTokens } = flags
  const stop = maxNewTokens === undefined ? null : { maxNewTokens, stopTokens: await stopIds(stopTokens) }
  const { signal } = session
  const options = { ...statedBy(flags), promptLength, stop, signal }
  await withModel(session, flags, async (model) => {
    if (flags.commit) {
      const { claim } = await commit(model, tokens, options)
      const written = await writeClaim(flags.out, claim)
      print(session, { tokens: [...tokens], promptLength, claim: written }, listing(describeClaim(written)))
      return
    }
    const made = await withProgress(session, 'proving', (onProgress) =>
      prove(model, tokens, { ...options, onProgress }),
    )
    const proof = await writeProof(flags.out, made)
    print(session, { tokens: [...tokens], promptLength, proof }, listing(describeWritten(proof)))
  })
}

async function stopIds(flag: string | undefined): Promise<number[]> {
  if (flag === undefined) return []
  return [...new Set(await readIds(flag, '--stop-tokens'))].sort((a, b) => a - b)
}
