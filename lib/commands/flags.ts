// Flags that several commands share, and how their values are read. A wrong value is a usage error.

import { type Command, InvalidArgumentError, Option } from 'commander'
import type { SampleForm } from '../binding'
import { parseDepth } from '../depth'
import { KV_DTYPE_BYTES, type KvDtype } from '../kv'
import { MAX_SEED_BYTES, MAX_TOP_K } from '../limits'
import { DEFAULT_LAYER_SAMPLER, DEFAULT_TOKEN_SAMPLER } from '../prove'
import { parseLayerSampler, parseTokenSampler } from '../sampler'

/** The flags of {@link addProofFlags}. */
export interface ProofFlags {
  temperature?: number
  topK?: number
  topP?: number
  seed?: string
  tokenSampler: string
  layerSampler: string
  depth?: string
  form: SampleForm
  nonce: string
  previousRoot?: string
  kvDtype: KvDtype
}

/** What they state in a proof's header. */
export function statedBy(flags: ProofFlags) {
  const { temperature, topK, topP, seed, tokenSampler, layerSampler, depth, form, nonce, previousRoot, kvDtype } = flags
  return { temperature, topK, topP, seed, tokenSampler, layerSampler, depth, form, nonce, previousRoot, kvDtype }
}

/** `--json`, which every command has. */
export function addJsonFlag(command: Command): Command {
  return command.option('--json', 'print one line of JSON, errors included')
}

/** The flags of {@link addModelFlags}. */
export interface ModelFlags {
  model: string
  backend?: 'auto' | 'cpu' | 'cuda'
  weightBudget?: number
  cacheDir?: string
  threads?: number
}

/** `--model`, and how it is run; only the first changes a result. */
export function addModelFlags(command: Command, { isOptional = false } = {}): Command {
  const model = new Option('--model <dir>', 'Hugging Face folder: config.json and safetensors')
  return command
    .addOption(model.makeOptionMandatory(!isOptional))
    .addOption(
      new Option('--backend <name>', 'where it runs; changes no result')
        .choices(['auto', 'cpu', 'cuda'])
        .default('auto'),
    )
    .option(
      '--weight-budget <bytes>',
      'most memory for weights; over it, each pass reads the layers again; changes no result',
      integer(1, Number.MAX_SAFE_INTEGER),
    )
    .option('--cache-dir <dir>', 'folder for packed weights, from which a CPU opens at once; changes no result')
    .option('--threads <n>', 'threads of the CPU backend (default: one per core); changes no result', integer(1, 1024))
}

/** What a proof states beside its tokens. `unstated`: what it says of the sampler without any of its flags. */
export function addProofFlags(command: Command, unstated: string): Command {
  return command
    .option(
      '--temperature <t>',
      `0 is greedy (default: ${unstated})`,
      number((t) => t >= 0, 'a number of at least 0'),
    )
    .option('--top-k <k>', 'choose among the k likeliest; 0 is off', integer(0, MAX_TOP_K))
    .option(
      '--top-p <p>',
      'choose within this probability; 1 is off',
      number((p) => p > 0 && p <= 1, 'in (0, 1]'),
    )
    .option('--seed <hex>', 'seed of the choice', hex)
    .option('--token-sampler <name>', 'which positions', named(parseTokenSampler), DEFAULT_TOKEN_SAMPLER)
    .option('--layer-sampler <name>', 'which layers of each', named(parseLayerSampler), DEFAULT_LAYER_SAMPLER)
    .option(
      '--depth <name>',
      'how deep: kv, full (final hidden states too), or of a commitment random:n',
      named(parseDepth),
    )
    .addOption(
      new Option('--form <form>', 'what the proof carries of its samples')
        .choices(['rows', 'digest', 'sketch'])
        .default('rows'),
    )
    .option('--nonce <hex>', "the user's, against replayed proofs", hex, '')
    .option('--previous-root <hex>', "root of the conversation's turn before this one", hex)
    .addOption(
      new Option('--kv-dtype <dtype>', 'how K and V are stored').choices(Object.keys(KV_DTYPE_BYTES)).default('f32'),
    )
}

/** An integer in [min, max]. */
export function integer(min: number, max: number): (value: string) => number {
  return (value) => {
    const parsed = /^[0-9]{1,16}$/.test(value) ? Number(value) : Number.NaN
    if (parsed >= min && parsed <= max) return parsed
    throw new InvalidArgumentError(`It must be an integer from ${min} to ${max}.`)
  }
}

/** Lowercase hex of at most 64 bytes. */
export function hex(value: string): string {
  if (value.length <= 2 * MAX_SEED_BYTES && /^(?:[0-9a-f]{2})*$/i.test(value)) return value.toLowerCase()
  throw new InvalidArgumentError(`It must be hex digits, two a byte, at most ${MAX_SEED_BYTES} bytes.`)
}

function number(isValid: (value: number) => boolean, expected: string): (value: string) => number {
  return (value) => {
    const parsed = /^[0-9]*\.?[0-9]+(e[+-]?[0-9]{1,3})?$/i.test(value) ? Number(value) : Number.NaN
    if (Number.isFinite(parsed) && isValid(parsed)) return parsed
    throw new InvalidArgumentError(`It must be ${expected}.`)
  }
}

function named(parse: (name: string) => { readonly name: string }): (value: string) => string {
  return (value) => {
    try {
      return parse(value).name
    } catch (error) {
      throw new InvalidArgumentError((error as Error).message)
    }
  }
}
