// poc prove: a proof for tokens that exist already.

import type { Command } from 'commander'
import { MAX_TOKENS } from '../limits'
import { prove } from '../prove'
import { addJsonFlag, addModelFlags, addProofFlags, integer, type ModelFlags, type ProofFlags } from './flags'
import { readIds } from './input'
import { checkWritable } from './output'
import { print, type Session, withProgress } from './session'
import { listing } from './table'
import { withModel } from './with-model'
import { describeWritten, writeProof } from './write-proof'

interface Flags extends ProofFlags, ModelFlags {
  tokens: string
  promptLength: number
  out: string
}

export function addProve(program: Command, session: Session): void {
  const command = program.command('prove').description('make a proof for a token sequence that exists already')
  addModelFlags(command)
    .requiredOption('--tokens <ids>', 'prompt and output, as 1,2,3 or @FILE')
    .requiredOption('--prompt-length <n>', 'how many of the tokens are prompt', integer(1, MAX_TOKENS))
    .requiredOption('--out <file>', 'where the proof goes')
  addJsonFlag(addProofFlags(command)).action((flags: Flags) => runProve(session, flags))
}

async function runProve(session: Session, flags: Flags): Promise<void> {
  await checkWritable(flags.out)
  const tokens = await readIds(flags.tokens, '--tokens')
  const { promptLength, temperature, topK, topP, seed, tokenSampler, layerSampler, nonce, kvDtype } = flags
  const stated = { promptLength, temperature, topK, topP, seed, tokenSampler, layerSampler, nonce, kvDtype }
  const { signal } = session
  await withModel(session, flags, async (model) => {
    const made = await withProgress(session, 'proving', (onProgress) =>
      prove(model, tokens, { ...stated, signal, onProgress }),
    )
    const proof = await writeProof(flags.out, made)
    print(session, { tokens: [...tokens], promptLength, proof }, listing(describeWritten(proof)))
  })
}
