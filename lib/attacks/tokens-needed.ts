// How long an answer of a cheap model has to be until the real sampler chooses another token than it claims.
import type { SamplingParams } from '../binding'
import { hexFrom } from '../hex'
import type { Model } from '../model'
import { choicesOf } from './chosen'
import type { Random } from './random'
import type { Work } from './run-attacks'
import { Trial } from './trial'
import { drawRequest, RECOMMENDED } from './user-request'

/** Answers of one cheap model at one temperature. */
export interface TokensNeededRow {
  model: 'int8' | 'half'
  temperature: number
  answers: number
  /** Tokens of each. */
  length: number
  /** How many of the answers a replay of their first n tokens catches, by n. */
  caughtWithin: Record<string, number>
  /** Share of all tokens that the real sampler does not choose. */
  mismatched: number
}

const MAX_LENGTH = 128
const MAX_ANSWERS = 200
const COUNTS = [1, 2, 4, 8, 16, 32, 64, 128]

/** Answers to drawn prompts, by the int8 copy and by that of half the width, greedy and at temperature 1. */
export async function measureTokensNeeded(
  work: Omit<Work, 'random'>,
  random: Random,
  onProgress: (fraction: number) => void,
): Promise<TokensNeededRow[]> {
  const answers = Math.min(work.trials, MAX_ANSWERS)
  const length = lengthFor(work.models.real)
  const cases = (['int8', 'half'] as const).flatMap((model) => [0, 1].map((temperature) => ({ model, temperature })))
  const rows: TokensNeededRow[] = []
  for (const { model, temperature } of cases) {
    const firsts: number[] = []
    let mismatched = 0
    for (let n = 0; n < answers; n++) {
      work.signal?.throwIfAborted()
      const places = await mismatchesOf(work, model, temperature, random.fork(`tokens ${n}`))
      firsts.push(places[0] ?? Number.POSITIVE_INFINITY)
      mismatched += places.length / length / answers
      onProgress((rows.length + (n + 1) / answers) / cases.length)
    }
    const within = COUNTS.map((count) => [count, firsts.filter((first) => first < count).length])
    rows.push({ model, temperature, answers, length, caughtWithin: Object.fromEntries(within), mismatched })
  }
  return rows
}

/** What fits into the context behind one token of prompt. */
const lengthFor = ({ config }: Model) => Math.min(MAX_LENGTH, config.maxPositions)

/** Places in one answer, from 0, at which the real sampler chooses another token. */
async function mismatchesOf(
  { models, signal }: Omit<Work, 'random'>,
  name: 'int8' | 'half',
  temperature: number,
  random: Random,
): Promise<number[]> {
  const asked = await drawRequest(models.real, RECOMMENDED, random)
  const sampling: SamplingParams = { temperature, topK: 0, topP: 1, seed: hexFrom(random.bytes(8)) }
  const length = lengthFor(models.real)
  const prompt = asked.prompt.slice(0, Math.max(1, models.real.config.maxPositions - length))
  const header = { ...asked.header, sampling, stop: { maxNewTokens: length, stopTokens: [] } }
  const trial = new Trial(models, { ...asked, prompt, header }, RECOMMENDED, signal)
  const tokens = await trial.continued(await models.get(name), prompt)
  const chosen = await choicesOf(models.real, tokens, prompt.length, { sampling, kvDtype: header.kvDtype, signal })
  return Array.from(chosen.keys()).filter((i) => chosen[i] !== tokens[prompt.length + i])
}
