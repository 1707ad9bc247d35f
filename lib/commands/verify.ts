// poc verify: the verifier's side.

import type { Command } from 'commander'
import { PocError } from '../errors'
import type { Model } from '../model'
import type { Proof } from '../proof'
import type { Verdict, VerdictStatus } from '../verdict'
import { type VerifyOptions, verify } from '../verify'
import { verifyAll } from '../verify-all'
import { EXIT_INCONCLUSIVE, EXIT_OF_ERROR, EXIT_OF_STATUS } from './exit'
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
    .description(
      'recompute the samples of proofs and say whether they match (exit code 0, 1 or 2; the worst of several)',
    )
    .argument('<files...>', 'a proof, or several, whose verdicts come one a line with --json')
  addJsonFlag(addModelFlags(command))
    .option('--nonce <hex>', 'the nonce that you gave out; a proof with another one is rejected', hex)
    .action((files: string[], flags: Flags) => runVerify(session, files, flags))
}

const WORST_FIRST: readonly VerdictStatus[] = ['rejected', 'inconclusive', 'accepted']

/** The worst: a proof that cannot be judged, then the verdicts'. */
function exitCodeOf(verdicts: (Verdict | PocError)[]): number {
  const refusal = verdicts.find((verdict): verdict is PocError => verdict instanceof PocError)
  if (refusal) return EXIT_OF_ERROR[refusal.code]
  const worst = WORST_FIRST.find((status) => verdicts.some((verdict) => (verdict as Verdict).status === status))
  return EXIT_OF_STATUS[worst as VerdictStatus]
}

async function runVerify(session: Session, files: string[], flags: Flags): Promise<void> {
  const proofs: Proof[] = []
  for (const file of files) proofs.push(await readEvaluableProof(file))
  const { signal } = session
  // Aborted while the model loads there is no verdict to print, but the answer is the same.
  session.exitCode = EXIT_INCONCLUSIVE
  await withModel(session, flags, async (model) => {
    const verdicts = await withProgress(session, 'verifying', (onProgress) =>
      verdictsOn(model, proofs, { nonce: flags.nonce, signal, onProgress }),
    )
    for (const [i, verdict] of verdicts.entries()) {
      const heading = files.length > 1 ? `${files[i]}: ` : ''
      if (verdict instanceof PocError) printRefusal(session, heading, verdict)
      else print(session, verdict, heading + describe(verdict, proofs[i], model))
    }
    session.exitCode = exitCodeOf(verdicts)
  })
}

function printRefusal(session: Session, heading: string, refusal: PocError): void {
  // As verify says it: here the file's name says which proof it is about.
  const { code, message, where, expected, received } = refusal.cause instanceof PocError ? refusal.cause : refusal
  print(session, { error: { code, message, where, expected, received } }, `${heading}not judged: ${message} (${code})`)
}

async function verdictsOn(model: Model, proofs: Proof[], options: VerifyOptions): Promise<(Verdict | PocError)[]> {
  return proofs.length > 1 ? await verifyAll(model, proofs, options) : [await verify(model, proofs[0], options)]
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
