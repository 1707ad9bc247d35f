// Header, prompt, length and freshness: the work may be honest, but it is not the work that was asked for.
import type { ProofHeader, SamplingParams, StopRule } from '../binding'
import { hexFrom } from '../hex'
import { bindingId } from '../registry'
import { type Attack, generates } from './attack'
import type { Computed } from './cells'
import { claimRestated } from './claim'
import type { Random } from './random'
import type { Trial } from './trial'

type FieldChange = (header: ProofHeader, random: Random) => unknown

/** Another value for each field, of its type. */
const FIELDS: Readonly<Record<keyof ProofHeader, FieldChange>> = {
  version: () => 2,
  modelDigest: (_, random) => hexFrom(random.bytes(32)),
  numLayers: ({ numLayers }) => numLayers + 1,
  numKvHeads: ({ numKvHeads }) => numKvHeads + 1,
  headDim: ({ headDim }) => headDim * 2,
  hiddenSize: ({ hiddenSize }) => hiddenSize + 1,
  numerics: () => 'llama.cpp',
  kvDtype: ({ kvDtype }) => (kvDtype === 'f16' ? 'bf16' : 'f16'),
  promptLength: ({ promptLength }, random) => promptLength + (promptLength === 1 || random.below(2) ? 1 : -1),
  sampling: ({ sampling }, random) => otherSampling(sampling as SamplingParams, random),
  stop: ({ stop }, random) => otherStop(stop as StopRule, random),
  challenge: ({ challenge }) => (challenge === 'beacon' ? 'context' : 'beacon'),
  depth: ({ depth }) => (depth === 'kv' ? 'full' : 'kv'),
  form: ({ form }) => (form === 'rows' ? 'digest' : 'rows'),
  tokenSampler: ({ tokenSampler }) => (tokenSampler === 'every:64' ? 'every:63' : 'every:64'),
  layerSampler: ({ layerSampler }) => (layerSampler === 'uniform:1' ? 'stratified:1' : 'uniform:1'),
  nonce: (_, random) => hexFrom(random.bytes(16)),
  previousRoot: (_, random) => hexFrom(random.bytes(32)),
}

const NAMES = Object.keys(FIELDS) as (keyof ProofHeader)[]

/** Fields that an honest computation can state otherwise. */
const RESTATED = NAMES.filter((name) => !/^(?:version|num(?:Layers|KvHeads)|headDim|hiddenSize|kvDtype)$/.test(name))

function otherSampling(sampling: SamplingParams, random: Random): SamplingParams | null {
  const { temperature, topK, topP } = sampling
  return random.of([
    null,
    { ...sampling, temperature: temperature + 0.5 },
    { ...sampling, topK: topK + 1 },
    { ...sampling, topP: topP / 2 },
    { ...sampling, seed: hexFrom(random.bytes(4)) },
  ])
}

function otherStop(stop: StopRule, random: Random): StopRule | null {
  const { maxNewTokens, stopTokens } = stop
  const most = stopTokens[stopTokens.length - 1] ?? 0
  return random.of([
    null,
    { ...stop, maxNewTokens: maxNewTokens + 1 },
    { ...stop, stopTokens: [...stopTokens, most + 1] },
  ])
}

const changed = (header: ProofHeader, name: keyof ProofHeader, random: Random): ProofHeader => {
  return { ...header, [name]: FIELDS[name](header, random) }
}

/** A header whose stop rule ends the honest answer in the middle. */
async function withStopInside(trial: Trial): Promise<{ header: ProofHeader; computed: Computed } | null> {
  const computed = await trial.honest()
  const output = computed.tokens.slice(trial.asked.prompt.length)
  if (output.length < 2) return null
  const stop = { ...(trial.header.stop as StopRule), stopTokens: [output[(output.length - 1) >> 1]] }
  return { header: { ...trial.header, stop }, computed }
}

/** An honest run over other tokens, under a header of which it may be. */
async function runOf(trial: Trial, tokens: Uint32Array, changes: Partial<ProofHeader> = {}) {
  const computed = { tokens, cells: await trial.cells(trial.real, tokens) }
  return await claimRestated(trial, { ...trial.header, ...changes }, computed)
}

async function answerTo(trial: Trial, prompt: Uint32Array, promptLength: number) {
  return await runOf(trial, await trial.continued(trial.real, prompt, { promptLength }), { promptLength })
}

const drawn = (trial: Trial, random: Random, length: number) => {
  return Uint32Array.from({ length }, () => random.below(trial.real.config.vocabSize))
}

const PROMPT_ATTACKS: readonly Attack[] = [
  {
    name: 'prompt-injected',
    reference: 'A9',
    about: 'a system prompt before that of the user, stated as prompt',
    forge: async (trial, random) => {
      const prompt = Uint32Array.from([...drawn(trial, random, 3), ...trial.asked.prompt])
      return answerTo(trial, prompt, prompt.length)
    },
  },
  {
    name: 'prompt-hidden',
    reference: 'A9',
    about: "a token before the user's prompt, whose last one counts as generated",
    forge: async (trial, random) => {
      const prompt = Uint32Array.from([...drawn(trial, random, 1), ...trial.asked.prompt])
      return answerTo(trial, prompt, trial.asked.prompt.length)
    },
  },
  {
    name: 'prompt-cut',
    reference: 'A9',
    about: "the first of the user's tokens left out",
    fits: ({ asked }) => asked.prompt.length > 1,
    forge: async (trial) => answerTo(trial, trial.asked.prompt.slice(1), trial.asked.prompt.length - 1),
  },
  {
    name: 'prompt-token',
    reference: 'A9',
    about: "one of the user's tokens exchanged",
    async forge(trial, random) {
      const prompt = new Uint32Array(trial.asked.prompt)
      const at = random.below(prompt.length)
      prompt[at] = (prompt[at] + 1) % trial.real.config.vocabSize
      return await answerTo(trial, prompt, prompt.length)
    },
  },
]

const LENGTH_ATTACKS: readonly Attack[] = [
  {
    name: 'stopped-early',
    reference: 'A10',
    about: 'the honest answer, cut short',
    fits: generates(2),
    async forge(trial, random) {
      const { tokens } = await trial.honest()
      const left = tokens.length - trial.asked.prompt.length
      const kept = tokens.length - 1 - random.below(left) // all of the answer may be missing
      return left < 2 || kept < 2 ? null : await runOf(trial, tokens.slice(0, kept))
    },
  },
  {
    name: 'limit-lowered',
    reference: 'A10',
    about: 'the honest answer cut short, with a limit that says so',
    fits: generates(2),
    async forge(trial) {
      const tokens = (await trial.honest()).tokens.slice(0, -1)
      const maxNewTokens = tokens.length - trial.asked.prompt.length
      if (maxNewTokens === 0) return null
      return await runOf(trial, tokens, { stop: { ...(trial.header.stop as StopRule), maxNewTokens } })
    },
  },
  {
    name: 'went-on',
    reference: 'A10',
    about: 'the answer goes on after a token that ends it',
    fits: generates(2),
    async forge(trial) {
      const stopped = await withStopInside(trial)
      if (!stopped) return null
      const { header, computed } = stopped
      const { request } = trial.demands()
      return {
        ...(await claimRestated(trial, header, computed)),
        demands: { request: { ...request, stop: header.stop } },
      }
    },
  },
]

const FRESHNESS_ATTACKS: readonly Attack[] = [
  {
    name: 'replayed',
    reference: 'A8',
    about: 'a proof that was accepted before, for the same nonce',
    async forge(trial) {
      const proof = await trial.honestProof()
      return { proof, demands: { seen: new Set([bindingId(proof.header, proof.root)]) } }
    },
  },
  {
    name: 'old-proof',
    reference: 'A8',
    about: 'an honest proof of an earlier request: other nonce, other beacon',
    async forge(trial, random) {
      const header = { ...trial.header, nonce: hexFrom(random.bytes(16)) }
      return await claimRestated(trial, header)
    },
  },
]

export const HEADER_ATTACKS: readonly Attack[] = [
  {
    name: 'header-changed',
    reference: 'A8, A9',
    about: 'one field of the header, after the commitment (a field by turns)',
    async forge(trial, random) {
      const proof = await trial.honestProof()
      return { proof: { ...proof, header: changed(trial.header, random.of(NAMES), random) } }
    },
  },
  {
    name: 'header-restated',
    reference: 'A4, A8',
    about: 'one field of the header, before the commitment to an honest run',
    async forge(trial, random) {
      const header = changed(trial.header, random.of(RESTATED), random)
      const isForeign = header.numerics !== 'ieee32'
      return await claimRestated(trial, isForeign ? { ...header, form: 'rows' } : header)
    },
  },
  ...PROMPT_ATTACKS,
  ...LENGTH_ATTACKS,
  ...FRESHNESS_ATTACKS,
]
