// poc verify: the verifier's side.

import type { Command } from 'commander'
import type { Model } from '../model'
import type { Proof } from '../proof'
import type { Verdict } from '../verdict'
import { verify } from '../verify'
import { EXIT_INCONCLUSIVE, EXIT_OF_STATUS } from './exit'
import { addJsonFlag, addModelFlags, hex, type ModelFlags } from './flags'
import { readEvaluableProof } from './input'
import { print, type Session, withProgress } from './session'
import { grouped, listing, percent, short } from './table'
import { withModel } from './with-model'

interface Flags extends ModelFlags {
  nonce?: string
}

export function addVerify(program: Command, session: Session): void {
  const command = program
    .command('verify')
    .description('recompute the samples of a proof and say whether they match (exit code 0, 1 or 2)')
    .argument('<file>', 'a proof')
  addJsonFlag(addModelFlags(command))
    .option('--nonce <hex>', 'the nonce that you gave out; a proof with another one is rejected', hex)
    .action((file: string, flags: Flags) => runVerify(session, file, flags))
}

async function runVerify(session: Session, file: string, flags: Flags): Promise<void> {
  const proof = await readEvaluableProof(file)
  const { signal } = session
  // Aborted while the model loads there is no verdict to print, but the answer is the same.
  session.exitCode = EXIT_INCONCLUSIVE
  await withModel(session, flags, async (model) => {
    const verdict = await withProgress(session, 'verifying', (onProgress) =>
      verify(model, proof, { nonce: flags.nonce, signal, onProgress }),
    )
    session.exitCode = EXIT_OF_STATUS[verdict.status]
    print(session, verdict, describe(verdict, proof, model))
  })
}

function describe(verdict: Verdict, proof: Proof, model: Model): string {
  const { matched, mismatched, unchecked, firstMismatch, computed } = verdict
  const { numLayers } = model.config
  const where =
    firstMismatch && `layer ${firstMismatch.layer}, position ${firstMismatch.position}, in ${firstMismatch.part}`
  const entries: [string, string][] = [
    ['model', `${short(verdict.modelDigest)}  ${model.path}`],
    ['proof', `${short(verdict.proofDigest)}  ${grouped(proof.tokens.length)} tokens, ${verdict.numerics}`],
    ['samples', `${matched.length} matched, ${mismatched.length} mismatched, ${unchecked.length} unchecked`],
    ...(where ? ([['first', where]] as [string, string][]) : []),
    ['computed', `${computed.layers} of ${numLayers} layers, ${percent(computed.share)} of a full prefill`],
  ]
  const reasons = verdict.reasons.map(({ code, message }) => `${verdict.status}: ${message} (${code})`)
  return [...reasons, listing(entries)].join('\n')
}
