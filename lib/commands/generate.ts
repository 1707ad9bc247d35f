// poc generate: the generator's side, text and proof in one run.

import type { Command } from 'commander'
import { PocError } from '../errors'
import { type CommittedGeneration, type Generation, generate } from '../generate'
import { MAX_TOKENS } from '../limits'
import type { Model } from '../model'
import { loadTokenizer, type Tokenizer } from '../tokenizer'
import { addJsonFlag, addModelFlags, addProofFlags, integer, type ModelFlags, type ProofFlags, statedBy } from './flags'
import { readIds } from './input'
import { checkWritable } from './output'
import { print, type Session, withProgress } from './session'
import { listing } from './table'
import { withModel } from './with-model'
import {
  describeClaim,
  describeWritten,
  writeClaim,
  type WrittenClaim,
  type WrittenProof,
  writeProof,
} from './write-proof'

interface Flags extends ProofFlags, ModelFlags {
  prompt?: string
  promptIds?: string
  maxNewTokens: number
  ignoreEos?: boolean
  commit?: boolean
  out: string
}

export function addGenerate(program: Command, session: Session): void {
  const command = program.command('generate').description('generate text and a proof of how it was computed')
  addModelFlags(command)
    .option('--prompt <text>', "needs the model's tokenizer.json")
    .option('--prompt-ids <ids>', 'token ids as 1,2,3 or @FILE')
    .requiredOption('--max-new-tokens <n>', 'most tokens to generate', integer(1, MAX_TOKENS))
    .option('--ignore-eos', 'go on after an end-of-sequence token')
    .option('--commit', 'write a claim instead of a proof: a commitment, to be opened when a beacon is known')
    .requiredOption('--out <file>', 'where proof or claim goes')
  addJsonFlag(addProofFlags(command, '0')).action((flags: Flags) => {
    if ((flags.prompt === undefined) === (flags.promptIds === undefined)) {
      command.error('error: give either --prompt or --prompt-ids')
    }
    return runGenerate(session, flags)
  })
}

async function runGenerate(session: Session, flags: Flags): Promise<void> {
  await checkWritable(flags.out)
  const tokenizer = await loadTokenizer(flags.model)
  const prompt = await promptOf(flags, tokenizer)
  await withModel(session, flags, async (model) => {
    const generation = await withProgress(session, 'generating', (onProgress) =>
      generateWith(model, prompt, flags, session.signal, onProgress),
    )
    const isProof = 'proof' in generation
    const written = isProof
      ? { proof: await writeProof(flags.out, generation.proof) }
      : { claim: await writeClaim(flags.out, generation.commitment.claim) }
    report(session, generation, prompt.length, tokenizer, written)
  })
}

async function promptOf(flags: Flags, tokenizer: Tokenizer | null): Promise<ArrayLike<number>> {
  if (flags.prompt === undefined) return await readIds(flags.promptIds as string, '--prompt-ids')
  if (flags.prompt === '') throw new PocError('EMPTY_PROMPT', '--prompt must not be empty', { where: '--prompt' })
  if (tokenizer) return tokenizer.encode(flags.prompt)
  const message = `--prompt needs a tokenizer.json in ${flags.model}; give --prompt-ids instead`
  throw new PocError('FILE_NOT_FOUND', message, { where: flags.model, expected: 'tokenizer.json' })
}

function generateWith(
  model: Model,
  prompt: ArrayLike<number>,
  flags: Flags,
  signal: AbortSignal,
  onProgress: (fraction: number) => void,
): Promise<Generation | CommittedGeneration> {
  let numNew = 0
  const onToken = () => onProgress(++numNew / flags.maxNewTokens)
  const { maxNewTokens, ignoreEos, commit } = flags
  return generate(model, prompt, { ...statedBy(flags), maxNewTokens, ignoreEos, commit, signal, onToken })
}

function report(
  session: Session,
  { tokens, finishReason }: Generation | CommittedGeneration,
  promptLength: number,
  tokenizer: Tokenizer | null,
  written: { proof: WrittenProof } | { claim: WrittenClaim },
): void {
  const generated = tokens.subarray(promptLength)
  const text = tokenizer?.decode(generated, { skipSpecialTokens: true }) ?? null
  const json = { tokens: [...tokens], promptLength, text, finishReason, ...written }
  const entries: [string, string][] = [
    ['tokens', `${promptLength} of prompt, ${generated.length} generated, ended by ${finishReason}`],
    ...('proof' in written ? describeWritten(written.proof) : describeClaim(written.claim)),
  ]
  print(session, json, `${text ?? generated.join(' ')}\n\n${listing(entries)}`)
}
