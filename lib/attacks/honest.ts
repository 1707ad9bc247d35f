// Honest proofs of every kind, none of which may be rejected.
import type { ProofHeader } from '../binding'
import { commit } from '../commitment'
import { generate } from '../generate'
import { hexFrom } from '../hex'
import { MAX_SEED_BYTES } from '../limits'
import { encodeProof, type Proof } from '../proof'
import { prove } from '../prove'
import { type ChainProblem, checkChain } from '../registry'
import type { Forgery } from './attack'
import { judge } from './judge'
import type { Random } from './random'
import type { Work } from './run-attacks'
import { Trial } from './trial'
import { drawHonest, HONEST_KINDS } from './honest-request'

/** What a verifier says of honest proofs. */
export interface HonestRow {
  trials: number
  accepted: number
  rejected: number
  /** How many by which check; empty unless some were. */
  by: Record<string, number>
  /** How many were tried of each challenge mode, depth policy and form. */
  kinds: Record<string, number>
  /** Means over the trials. */
  share: number
  bytes: number
}

/** Makes proofs through the public functions, as a generator does, and not by a forger's; kinds by turns. */
export async function runHonest(work: Work, onProgress: (fraction: number) => void): Promise<HonestRow> {
  const { models, random, signal, trials, verifier } = work
  const row: HonestRow = { trials, accepted: 0, rejected: 0, by: {}, kinds: {}, share: 0, bytes: 0 }
  let before: Proof | null = null // the turn that a conversation goes on from
  for (let n = 0; n < trials; n++) {
    signal?.throwIfAborted()
    const draws = random.fork(`${n}`)
    const policy = HONEST_KINDS[n % HONEST_KINDS.length]
    const { asked, isNext } = await drawHonest(models.real, policy, before, draws)
    const { trial, proof, demands } = await honestProof(new Trial(models, asked, policy, signal), draws)
    const carried = draws.chance(0.5) ? encodeProof(proof) : proof
    const outcome = await judge(verifier, trial, { proof: carried, demands }, 1 + draws.below(200))
    const { verdict, error, bytes } = outcome
    const [broken] = isNext && before && proof.root !== '' ? chained(before, proof) : []
    if (verdict?.status === 'accepted' && !broken) row.accepted++
    else {
      row.rejected++
      const code = error ?? broken?.code ?? verdict?.reasons[0]?.code ?? 'none'
      row.by[code] = (row.by[code] ?? 0) + 1
    }
    row.kinds[policy.name] = (row.kinds[policy.name] ?? 0) + 1
    row.share += (verdict?.computed.share ?? 0) / trials
    row.bytes += bytes / trials
    before = proof.root === '' ? before : proof
    onProgress((n + 1) / trials)
  }
  return row
}

function chained(before: Proof, proof: Proof): ChainProblem[] {
  return checkChain([before, proof], { previousRoot: before.header.previousRoot })
}

interface HonestAnswer extends Pick<Forgery, 'demands'> {
  /** Of what was asked for in the end. */
  trial: Trial
  proof: Proof
}

const REPLAYS = ['all', 'none', '1/2', '1/7', undefined]
/** Of the proofs that are made of tokens that exist, by one prefill. */
const AGAIN = 0.3

async function honestProof(trial: Trial, random: Random): Promise<HonestAnswer> {
  const wanted = random.of(REPLAYS)
  const { proof, stated = trial } = random.chance(AGAIN) ? await provenAgain(trial, random) : await generated(trial)
  const replay = proof.header.sampling === null ? undefined : wanted // there is nothing to replay
  const isSeeded = replay?.includes('/') && (trial.beacon === '' || random.chance(0.5))
  const replaySeed = isSeeded ? hexFrom(random.bytes(1 + random.below(MAX_SEED_BYTES))) : undefined
  return { trial: stated, proof, demands: { replay, replaySeed, root: proof.root || undefined } }
}

async function generated({ real, asked, beacon, signal }: Trial): Promise<{ proof: Proof; stated?: Trial }> {
  const { stop } = asked.header
  const { chunkSize } = asked
  const running = { maxNewTokens: stop?.maxNewTokens ?? 1, ignoreEos: stop?.stopTokens.length === 0, chunkSize, signal }
  const options = { ...statedBy(asked.header), ...running }
  if (beacon === '') return await generate(real, asked.prompt, options)
  const { commitment } = await generate(real, asked.prompt, { ...options, commit: true })
  return { proof: await commitment.open(beacon, { chunkSize, signal }) }
}

/** Of an answer that exists: as it is, up to a stop token of the user's, or of which less is stated. */
async function provenAgain(trial: Trial, random: Random): Promise<{ proof: Proof; stated: Trial }> {
  const { real, asked, models, policy, beacon, signal } = trial
  const { header, chunkSize } = asked
  const answer = await trial.answerOf('real')
  const last = random.of([...answer.slice(header.promptLength)])
  const isStopped = random.chance(0.5)
  const tokens = isStopped ? answer.slice(0, answer.indexOf(last, header.promptLength) + 1) : answer
  const stop = isStopped && header.stop ? { ...header.stop, stopTokens: [last] } : random.of([null, header.stop])
  const sampling = random.chance(0.5) ? header.sampling : null
  const stated = new Trial(models, { ...asked, header: { ...header, stop, sampling } }, policy, signal)
  const options = { ...statedBy(stated.header), promptLength: header.promptLength, stop, chunkSize, signal }
  if (beacon === '') return { proof: await prove(real, tokens, options), stated }
  return { proof: await (await commit(real, tokens, options)).open(beacon, { chunkSize, signal }), stated }
}

/** What a header states, as the options of who makes it. */
function statedBy(header: ProofHeader) {
  const { kvDtype, sampling, nonce, previousRoot, depth, form, tokenSampler, layerSampler } = header
  return { kvDtype, ...sampling, nonce, previousRoot, depth, form, tokenSampler, layerSampler }
}
