// Honest proofs of every kind, none of which may be rejected.
import { generate } from '../generate'
import { commit } from '../commitment'
import { judge } from './judge'
import type { Random } from './random'
import type { Work } from './run-attacks'
import { Trial } from './trial'
import { drawRequest, type Policy } from './user-request'

/** What a verifier says of honest proofs. */
export interface HonestRow {
  trials: number
  accepted: number
  rejected: number
  /** How many by which check; empty unless some were. */
  by: Record<string, number>
  /** Means over the trials. */
  share: number
  bytes: number
}

const POLICIES: readonly Policy[] = [
  { name: 'beacon, full', challenge: 'beacon', depth: 'full', replay: 'all' },
  { name: 'beacon, kv', challenge: 'beacon', depth: 'kv', replay: 'all' },
  { name: 'beacon, random', challenge: 'beacon', depth: 'random:2' },
  { name: 'beacon, share', challenge: 'beacon', depth: 'full', replay: '1/4' },
  { name: 'context, kv', challenge: 'context', depth: 'kv', replay: 'none' },
  { name: 'context, full', challenge: 'context', depth: 'full', replay: 'all' },
]

/** Makes proofs through the public functions, as a generator does, and not by a forger's. */
export async function runHonest(work: Work, onProgress: (fraction: number) => void): Promise<HonestRow> {
  const { models, random, signal, trials, verifier } = work
  const row: HonestRow = { trials, accepted: 0, rejected: 0, by: {}, share: 0, bytes: 0 }
  for (let n = 0; n < trials; n++) {
    signal?.throwIfAborted()
    const draws = random.fork(`${n}`)
    const policy = draws.of(POLICIES)
    const asked = await drawRequest(models.real, policy, draws)
    const trial = new Trial(models, asked, policy, signal)
    const proof = await honestProof(trial, draws)
    const { verdict, error, bytes } = await judge(verifier, trial, { proof }, 1 + draws.below(200))
    if (verdict?.status === 'accepted') row.accepted++
    else {
      row.rejected++
      const code = error ?? verdict?.reasons[0]?.code ?? 'none'
      row.by[code] = (row.by[code] ?? 0) + 1
    }
    row.share += (verdict?.computed.share ?? 0) / trials
    row.bytes += bytes / trials
    onProgress((n + 1) / trials)
  }
  return row
}

async function honestProof(trial: Trial, random: Random) {
  const { real, header, asked, signal } = trial
  const { kvDtype, sampling, stop, nonce, previousRoot, depth, form, tokenSampler, layerSampler } = header
  const stated = { kvDtype, ...sampling, nonce, previousRoot, depth, form, tokenSampler, layerSampler }
  const options = { ...stated, chunkSize: asked.chunkSize, signal }
  const maxNewTokens = stop?.maxNewTokens ?? 1
  const running = { ...options, maxNewTokens, ignoreEos: stop?.stopTokens.length === 0 }
  if (header.challenge === 'context') return (await generate(real, asked.prompt, running)).proof
  const { tokens, commitment } = await generate(real, asked.prompt, { ...running, commit: true })
  const again = random.chance(0.2) // by one prefill over tokens that exist
    ? await commit(real, tokens, { ...options, promptLength: header.promptLength, stop })
    : commitment
  return await again.open(trial.beacon, { chunkSize: asked.chunkSize, signal })
}
