// poc calibrate: how far llama.cpp is from this engine on a model, and which cheats a verifier still tells apart.

import { readFile } from 'node:fs/promises'
import type { Command } from 'commander'
import { Option } from 'commander'
import { type LlamaEngine, openLlama } from '../adapters/node-llama-cpp'
import { LLAMA_NUMERICS } from '../adapters/prove-llama-state'
import { type Calibration, calibrate } from '../calibrate'
import { PocError, wrongValue } from '../errors'
import type { KvDtype } from '../kv'
import type { Model } from '../model'
import { publicKeyOf, signProfile, type StatedProfile } from '../profile-signature'
import { llamaRows } from '../row-sources'
import { sketchPartBytes } from '../sketch'
import type { ToleranceProfile } from '../tolerance'
import { calibrateOwn } from './calibrate-own'
import { countExact, textsOf, withLines } from './calibrate-texts'
import { cheatSources } from './cheat-sources'
import { describeCalibration } from './describe-calibration'
import { EXIT_INVALID } from './exit'
import { addJsonFlag, addModelFlags, integer, type ModelFlags } from './flags'
import { checkWritable, writeAtomically } from './output'
import { print, type Session } from './session'
import { withModel } from './with-model'

export interface CalibrateFlags extends ModelFlags {
  gguf?: string
  llama: string
  llamaThreads: number
  sequences: number
  minTokens: number
  maxTokens: number
  kvDtype: KvDtype
  form: 'rows' | 'sketch'
  projections: number
  cheat: string[]
  key?: string
  out?: string
}

export function addCalibrate(program: Command, session: Session): void {
  const command = program
    .command('calibrate')
    .description('measure how far another engine is from this one, and write a tolerance profile')
  addModelFlags(command)
    .option('--gguf <file>', 'the same weights for llama.cpp; without it, only variations of this engine are measured')
    .option('--llama <module>', 'node-llama-cpp, or the path of its entry file', 'node-llama-cpp')
    .option('--llama-threads <n>', 'threads of llama.cpp, which spin: no more than idle cores', integer(1, 1024), 1)
    .option(
      '--sequences <n>',
      'texts of the model that are compared; half of them set the limits',
      integer(40, 100_000),
      200,
    )
    .option('--min-tokens <n>', 'length of the shortest', integer(16, 2 ** 20), 128)
    .option('--max-tokens <n>', 'length of the longest', integer(16, 2 ** 20), 256)
    .addOption(new Option('--kv-dtype <dtype>', 'of the proofs').choices(['f32', 'f16', 'bf16']).default('f16'))
    .addOption(new Option('--form <form>', 'what proofs carry').choices(['rows', 'sketch']).default('rows'))
    .option('--projections <m>', 'signed sums of a vector in form sketch', integer(1, 256), 16)
    .option('--cheat <dir...>', 'other models that a generator might run instead', [])
    .option('--key <pem>', 'Ed25519 private key that signs the profile')
    .option('--out <file>', 'where the profile goes')
  addJsonFlag(command).action((flags: CalibrateFlags) => runCalibrate(session, flags))
}

async function runCalibrate(session: Session, flags: CalibrateFlags): Promise<void> {
  if (flags.out) await checkWritable(flags.out)
  const { minTokens, maxTokens } = flags
  if (!flags.gguf && (flags.out ?? flags.key) !== undefined) throw nothingToCompare()
  if (minTokens > maxTokens) throw wrongValue('INVALID_ARGUMENT', '--min-tokens', `at most ${maxTokens}`, minTokens)
  const pem = flags.key === undefined ? undefined : await readKey(flags.key)
  await withModel(session, flags, async (model) => {
    const engine = await engineOf(session, flags)
    if (typeof engine === 'string') return await calibrateOwn(session, flags, model, engine)
    try {
      await withEngine(session, flags, model, engine, pem)
    } finally {
      await engine.close()
    }
  })
}

/** llama.cpp, or why it is left out; a profile that was asked for cannot be made without it. */
async function engineOf({ signal }: Session, flags: CalibrateFlags): Promise<LlamaEngine | string> {
  const { gguf, maxTokens: capacity, llamaThreads: threads, llama: location, out, key } = flags
  if (!gguf) return 'llama.cpp, for no --gguf was given'
  try {
    return await openLlama(gguf, { capacity, threads, location, signal })
  } catch (error) {
    const isMissing = error instanceof PocError && error.code === 'BACKEND_UNAVAILABLE'
    if (!isMissing || (out ?? key) !== undefined) throw error
    return `llama.cpp, for ${error.message}`
  }
}

async function withEngine(
  session: Session,
  flags: CalibrateFlags,
  model: Model,
  engine: LlamaEngine,
  pem: string | undefined,
): Promise<void> {
  const { kvDtype, form, projections } = flags
  const { signal } = session
  const cheats = await cheatSources(model, { ...flags, signal })
  try {
    const sequences = await textsOf(model, flags, session)
    const exact = await countExact(model, sequences, kvDtype, session)
    const honest = [
      { kvDtype, flashAttention: true, batchSize: 512 },
      { kvDtype, flashAttention: true, batchSize: 32 },
      { kvDtype, flashAttention: false, batchSize: 512 },
    ].map((run) => llamaRows(engine, model, run))
    const sources = { honest, cheats: cheats.sourcesFor(kvDtype) }
    const compared = { generator: LLAMA_NUMERICS, ...sources, kvDtype, form, projections }
    const found = await withLines(session, 'comparing', (onProgress) =>
      calibrate(model, sequences, { ...compared, signal, onProgress }),
    )
    const about = `${engine.name}, ${engine.systemInfo}`
    await report(session, flags, model, found, { exact, engine: about, left: cheats.left }, pem)
  } finally {
    await cheats.close()
  }
}

/** The key in a file, which is looked at before the work that it would sign. */
async function readKey(file: string): Promise<string> {
  const pem = await readFile(file, 'utf8').catch((cause) => {
    throw new PocError('FILE_NOT_FOUND', `${file} cannot be read: ${cause.code}`, { where: file, cause })
  })
  publicKeyOf(pem)
  return pem
}

/** What is said about a calibration beside its evidence. */
export interface Circumstances {
  /** Sequences whose rows other chunks of this engine gave bit for bit, of how many were tried. */
  exact: { equal: number; tried: number }
  engine: string
  /** Cheats that could not be made, and why. */
  left: string[]
}

async function report(
  session: Session,
  flags: CalibrateFlags,
  model: Model,
  found: Calibration,
  circumstances: Circumstances,
  pem: string | undefined,
): Promise<void> {
  const { profile, ...evidence } = found
  const { numKvHeads, headDim } = model.config
  const rowBytes = 2 * numKvHeads * headDim * (flags.kvDtype === 'f32' ? 4 : 2)
  const sampleBytes = flags.form === 'sketch' ? 2 * sketchPartBytes(flags.projections) : rowBytes
  const size = { sampleBytes, bytesPerToken: sampleBytes * found.samplesPerPosition }
  const stated = profile && statedProfile(profile, pem)
  if (stated && flags.out) await writeAtomically(flags.out, Buffer.from(`${JSON.stringify(stated, null, 2)}\n`))
  if (!profile) session.exitCode = EXIT_INVALID
  const { form, kvDtype } = flags
  const json = { modelDigest: model.digest, form, kvDtype, ...size, ...circumstances, ...evidence, profile }
  print(session, json, describeCalibration(found, circumstances, { ...size, file: stated && (flags.out ?? null) }))
}

/** What is written: signed where there is a key, otherwise bare. */
export function statedProfile(profile: ToleranceProfile, pem: string | undefined): StatedProfile {
  return pem === undefined ? profile : signProfile(profile, pem)
}

function nothingToCompare(): PocError {
  const expected =
    'given with --out and --key: limits are of another engine, and the one that can be run here is llama.cpp'
  const message = `--gguf must be ${expected}. Proofs of this engine need no profile: they are compared bit for bit`
  return new PocError('INVALID_ARGUMENT', message, { where: '--gguf', expected, received: 'nothing' })
}
