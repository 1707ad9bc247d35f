// poc verify: the verifier's side.

import type { Command } from 'commander'
import { PocError } from '../errors'
import { createEvidence } from '../evidence'
import type { Model } from '../model'
import { bareProfile, readProfile, type StatedProfile, verifyProfile } from '../profile-signature'
import type { Proof } from '../proof'
import type { Verdict, VerdictStatus } from '../verdict'
import { verify } from '../verify'
import { verifyAll } from '../verify-all'
import { addDemandFlags, type DemandFlags, readDemands } from './demands'
import { EXIT_INCONCLUSIVE, EXIT_OF_ERROR, EXIT_OF_STATUS } from './exit'
import { addJsonFlag, addModelFlags, hex, type ModelFlags } from './flags'
import { readEvaluableProof, readJsonFile } from './input'
import { checkWritable, writeAtomically } from './output'
import { print, type Session, withProgress } from './session'
import { grouped, listing, percent, short } from './table'
import { withModel } from './with-model'

interface Flags extends ModelFlags, DemandFlags {
  evidence?: string
  profile?: string
  profileKey?: string
}

export function addVerify(program: Command, session: Session): void {
  const command = program
    .command('verify')
    .description(
      'recompute the samples of proofs and say whether they match (exit code 0, 1 or 2; the worst of several)',
    )
    .argument('<files...>', 'a proof, or several, whose verdicts come one a line with --json')
  addDemandFlags(addJsonFlag(addModelFlags(command)))
    .option('--profile <file>', 'tolerance profile for proofs of another engine, as poc calibrate wrote it')
    .option(
      '--profile-key <hex>',
      'the public key that must have signed it; without one, no signature is asked for',
      hex,
    )
    .option('--evidence <file>', 'of one proof: write proof, verdict and what was asked for, to be audited')
    .action((files: string[], flags: Flags) => {
      if (flags.evidence !== undefined && files.length > 1) command.error('error: --evidence takes one proof')
      return runVerify(session, files, flags)
    })
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
  const given: (Proof | PocError)[] = []
  for (const file of files) given.push(await (files.length > 1 ? proofOrRefusal(file) : readEvaluableProof(file)))
  const proofs = given.filter((one): one is Proof => !(one instanceof PocError))
  if (flags.evidence !== undefined) await checkWritable(flags.evidence)
  const stated = flags.profile === undefined ? null : await profileIn(flags.profile, flags.profileKey)
  const profile = stated ? bareProfile(stated) : undefined
  const demands = await readDemands(flags)
  const { signal } = session
  // Aborted while the model loads there is no verdict to print, but the answer is the same.
  session.exitCode = EXIT_INCONCLUSIVE
  await withModel(session, flags, async (model) => {
    const judged = await withProgress(session, 'verifying', async (onProgress) => {
      const options = { ...demands, profile, signal, onProgress }
      return files.length > 1 ? await verifyAll(model, proofs, options) : [await verify(model, proofs[0], options)]
    })
    let next = 0
    const verdicts = given.map((one) => (one instanceof PocError ? one : judged[next++]))
    for (const [i, verdict] of verdicts.entries()) {
      const heading = files.length > 1 ? `${files[i]}: ` : ''
      if (verdict instanceof PocError) printRefusal(session, heading, verdict)
      else print(session, verdict, heading + describe(verdict, given[i] as Proof, model))
    }
    session.exitCode = exitCodeOf(verdicts)
    if (flags.evidence === undefined || verdicts[0] instanceof PocError) return
    const evidence = createEvidence(proofs[0], verdicts[0], demands, stated)
    await writeAtomically(flags.evidence, Buffer.from(`${JSON.stringify(evidence)}\n`))
  })
}

/** A profile on disk, signed or, where no key is asked for, bare. */
async function profileIn(path: string, key: string | undefined): Promise<StatedProfile> {
  const json = await readJsonFile(path, 'INVALID_ARGUMENT')
  if (key !== undefined) verifyProfile(json, [key])
  return readProfile(json)
}

function printRefusal(session: Session, heading: string, refusal: PocError): void {
  // As verify says it: here the file's name says which proof it is about.
  const { code, message, where, expected, received } = refusal.cause instanceof PocError ? refusal.cause : refusal
  print(session, { error: { code, message, where, expected, received } }, `${heading}not judged: ${message} (${code})`)
}

/** One of several that cannot be read takes nothing from the others. */
async function proofOrRefusal(file: string): Promise<Proof | PocError> {
  try {
    return await readEvaluableProof(file)
  } catch (error) {
    if (error instanceof PocError) return error
    throw error
  }
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
    ['tokens', wordsForReplay(verdict, proof)],
    ['computed', `${computed.layers} of ${numLayers + 1} layers, ${percent(computed.share)} of a full prefill`],
  ]
  const reasons = verdict.reasons.map(({ code, message }) => `${verdict.status}: ${message} (${code})`)
  return [...reasons, listing(entries)].join('\n')
}

function wordsForReplay({ replay, status }: Verdict, { header, tokens }: Proof): string {
  if (replay) return `${replay.positions} replayed, ${replay.mismatched} of them not chosen by the sampler`
  if (tokens.length === header.promptLength) return 'none generated'
  if (status !== 'accepted') return 'not replayed: decided before'
  return header.sampling ? 'not replayed' : 'not replayed: the proof does not state how they were chosen'
}
