// The tokens are not those that the model and the sampler choose, and every vector is the real model's for them.
import type { SamplingParams } from '../binding'
import { hexFrom } from '../hex'
import { nativeSampling } from '../sequence'
import { type Attack, generates } from './attack'
import { sameTokens } from './cells'
import { claimOf, claimRestated } from './claim'
import { likeliest, openLogits, probabilityOf } from './logits'
import type { ModelName } from './model-pool'
import type { Random } from './random'
import type { Trial } from './trial'

/** The real model computes vectors for tokens of any origin: those of the honest ones are the honest vectors. */
async function prefilled(trial: Trial, tokens: Uint32Array) {
  if (sameTokens(tokens, await trial.answerOf('real'))) return null
  return await claimOf(trial, { tokens, cells: await trial.cells(trial.real, tokens) })
}

/** Shorter answers of a near copy are the honest ones as a rule. */
const MANY = 16

const prefill = (name: string, model: ModelName, about: string): Attack => ({
  name,
  reference: 'A2',
  about,
  fits: model === 'int8' ? undefined : generates(MANY),
  forge: async (trial) => prefilled(trial, await trial.answerOf(model)),
})

const decoded = (
  name: string,
  about: string,
  fits: (sampling: SamplingParams) => boolean,
  change: (sampling: SamplingParams, random: Random) => Partial<SamplingParams>,
): Attack => ({
  name,
  reference: 'A3',
  about,
  fits: ({ header }) => header.sampling !== null && fits(header.sampling),
  async forge(trial, random) {
    const asked = trial.header.sampling as SamplingParams
    const sampling = { ...asked, ...change(asked, random) }
    return await prefilled(trial, await trial.continued(trial.real, trial.asked.prompt, { sampling }))
  },
})

const isRandom = ({ temperature }: SamplingParams) => temperature > 0
const ownSeed = (random: Random) => ({ seed: hexFrom(random.bytes(8)) })

export const TOKEN_ATTACKS: readonly Attack[] = [
  prefill('prefill-int8', 'int8', 'the int8 copy generates, the real model prefills and commits'),
  prefill('prefill-half', 'half', 'the copy of half the width generates, the real model prefills and commits'),
  decoded('greedy', 'greedy decoding where sampling was asked for', isRandom, () => ({ temperature: 0 })),
  decoded(
    'sampled',
    'sampling where greedy decoding was asked for',
    (sampling) => !isRandom(sampling),
    (_, random) => {
      return { temperature: 0.8, ...ownSeed(random) }
    },
  ),
  decoded('temperature', 'another temperature', isRandom, ({ temperature }, random) => {
    return { temperature: temperature * random.of([0.5, 0.8, 1.25, 2]) }
  }),
  decoded(
    'filters',
    'top-k and top-p left out',
    ({ temperature, topK, topP }) => temperature > 0 && (topK > 0 || topP < 1),
    () => ({ topK: 0, topP: 1 }),
  ),
  decoded('seed', 'another seed than the one stated', isRandom, (_, random) => ownSeed(random)),
  {
    name: 'seed-stated',
    reference: 'A4',
    about: 'a seed of its own choice, which the proof states',
    async forge(trial, random) {
      const sampling = { ...(trial.header.sampling as SamplingParams), ...ownSeed(random) }
      const tokens = await trial.continued(trial.real, trial.asked.prompt, { sampling })
      const computed = { tokens, cells: await trial.cells(trial.real, tokens) }
      return await claimRestated(trial, { ...trial.header, sampling }, computed)
    },
  },
  {
    name: 'second-best',
    reference: 'A3',
    about: 'one token is the second best, the rest goes on from it honestly',
    forge: secondBest,
  },
  {
    name: 'prefix-injected',
    reference: 'A10',
    about: 'the answer begins with tokens of its own choice and goes on honestly',
    async forge(trial, random) {
      const { prompt } = trial.asked
      const count = Math.min(1 + random.below(3), trial.header.stop?.maxNewTokens ?? 1)
      const ids = Array.from({ length: count }, () => otherThan(trial, random.below(trial.real.config.vocabSize)))
      return await prefilled(trial, await trial.continued(trial.real, Uint32Array.from([...prompt, ...ids])))
    },
  },
  {
    name: 'lossy-draft',
    reference: 'A3',
    about: 'drafts of the int8 copy are kept where the real model gives them a tenth of the probability',
    fits: generates(MANY),
    // Where the copy agrees throughout, so do all drafts.
    forge: async (trial) => ((await trial.agrees('int8')) ? null : await prefilled(trial, await drafted(trial, 0.1))),
  },
  {
    name: 'swap',
    reference: 'A17',
    about: 'the int8 copy takes over half-way, tokens and vectors',
    fits: generates(2),
    async forge(trial) {
      const { tokens, half } = await swapped(trial)
      const real = await trial.cells(trial.real, tokens)
      const cheap = await trial.cells(await trial.models.get('int8'), tokens)
      const { header } = trial
      return await claimOf(trial, {
        tokens,
        cells: [...real.slice(0, half * (header.numLayers + 1)), ...cheap.slice(half * (header.numLayers + 1))],
      })
    },
  },
  {
    name: 'swap-prefilled',
    reference: 'A2, A17',
    about: 'the int8 copy takes over half-way, the real model prefills',
    fits: generates(MANY),
    forge: async (trial) =>
      (await trial.agrees('int8')) ? null : await prefilled(trial, (await swapped(trial)).tokens),
  },
]

/** An answer that an honest one equals is none of these attacks: speculative decoding that repairs every token. */
export const LOSSLESS: Attack = {
  name: 'lossless-draft',
  reference: 'A2',
  about: 'drafts of the int8 copy, each repaired that is not what the real model chooses: the honest answer',
  forge: async (trial) => {
    const tokens = await drafted(trial, Number.POSITIVE_INFINITY)
    return { proof: await trial.proof({ tokens, cells: await trial.cells(trial.real, tokens) }) }
  },
}

/** Half of the honest answer, and what the int8 copy makes of it. */
async function swapped(trial: Trial): Promise<{ tokens: Uint32Array; half: number }> {
  const honest = await trial.answerOf('real')
  const promptLength = trial.asked.prompt.length
  const half = promptLength + Math.max(1, (honest.length - promptLength) >> 1)
  const isOver = honest.length - half < 1
  const tokens = isOver ? honest : await trial.continued(await trial.models.get('int8'), honest.slice(0, half))
  return { tokens, half: Math.min(half, tokens.length - 2) }
}

async function secondBest(trial: Trial, random: Random) {
  const tokens = await trial.answerOf('real')
  const { sampling, kvDtype } = trial.header
  const promptLength = trial.asked.prompt.length
  const at = promptLength + random.below(tokens.length - promptLength)
  const sequence = openLogits(trial.real, kvDtype, nativeSampling(sampling as SamplingParams), at)
  try {
    const { logits } = await sequence.append(tokens.slice(0, at))
    const second = likeliest(logits, [tokens[at], ...(trial.header.stop?.stopTokens ?? [])])
    return await prefilled(trial, await trial.continued(trial.real, Uint32Array.from([...tokens.slice(0, at), second])))
  } finally {
    sequence.cancel()
  }
}

/** Tokens of a draft model that the real one lets pass at `limit` or chooses itself, or else its own. */
async function drafted(trial: Trial, limit: number): Promise<Uint32Array> {
  const { kvDtype, stop } = trial.header
  const sampling = trial.header.sampling as SamplingParams
  const prompt = trial.asked.prompt
  const length = prompt.length + (stop?.maxNewTokens ?? 1)
  const open = (model: typeof trial.real) => openLogits(model, kvDtype, nativeSampling(sampling), length)
  const sequences = [open(trial.real), open(await trial.models.get('int8'))]
  try {
    const tokens = [...prompt]
    for (let input = prompt; tokens.length < length; input = Uint32Array.of(tokens[tokens.length - 1])) {
      const [real, draft] = await Promise.all(sequences.map((sequence) => sequence.append(input)))
      const passes = probabilityOf(real.logits, draft.token, sampling.temperature) >= limit
      tokens.push(passes ? draft.token : real.token)
      if (stop?.stopTokens.includes(tokens[tokens.length - 1])) break
    }
    return Uint32Array.from(tokens)
  } finally {
    for (const sequence of sequences) sequence.cancel()
  }
}

/** An id that does not end the answer. */
function otherThan(trial: Trial, id: number): number {
  const { stop } = trial.header
  let other = id
  while (stop?.stopTokens.includes(other)) other = (other + 1) % trial.real.config.vocabSize
  return other
}
