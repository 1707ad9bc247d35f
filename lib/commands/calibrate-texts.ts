// The texts of a calibration, and how a long run says where it is.

import { generate } from '../generate'
import type { KvDtype } from '../kv'
import type { Model } from '../model'
import { createPlan } from '../plan'
import { proofHeader } from '../prove'
import { isChunkingExact } from '../row-sources'
import type { CalibrateFlags } from './calibrate'
import { type Session, withProgress } from './session'

type OnProgress = (fraction: number) => void

/** A bar on a terminal; elsewhere, and with --json, a line on stderr at the start and for every tenth. */
export async function withLines<T>(
  session: Session,
  label: string,
  run: (onProgress: OnProgress) => Promise<T>,
): Promise<T> {
  if (session.stderr.isTTY && !session.json) return await withProgress(session, label, run)
  let next = 0
  const onProgress = (fraction: number) => {
    if (fraction * 10 < next) return
    session.stderr.write(`${label} ${Math.floor(fraction * 10) * 10} %\n`)
    next = Math.floor(fraction * 10) + 1
  }
  onProgress(0)
  return await run(onProgress)
}

/** The model's own texts, each by a seed of its own, lengths and temperatures spread over their ranges. */
export async function textsOf(
  model: Model,
  { sequences, minTokens, maxTokens, kvDtype }: CalibrateFlags,
  session: Session,
): Promise<Uint32Array[]> {
  const { signal } = session
  const bos = model.config.bosTokenId ?? 0
  const texts: Uint32Array[] = []
  return await withLines(session, 'generating', async (onProgress) => {
    for (let i = 0; i < sequences; i++) {
      const share = ((i * 7) % sequences) / Math.max(1, sequences - 1) // lengths and halves must not go together
      const length = minTokens + Math.round(share * (maxTokens - minTokens))
      const seed = Buffer.from(`calibrate ${i}`).toString('hex')
      const temperature = 0.7 + (i % 4) / 10
      const options = { maxNewTokens: length - 1, ignoreEos: true, temperature, seed, kvDtype, signal }
      texts.push((await generate(model, [bos], options)).tokens)
      onProgress((i + 1) / sequences)
    }
    return texts
  })
}

/** Of how many texts other chunks of this engine give the same bits. */
export async function countExact(
  model: Model,
  texts: readonly Uint32Array[],
  kvDtype: KvDtype,
  { signal }: Session,
): Promise<{ equal: number; tried: number }> {
  const some = texts.slice(0, 10)
  let equal = 0
  for (const tokens of some) {
    const plan = createPlan(proofHeader(model, 1, { kvDtype }), tokens)
    if (await isChunkingExact(model, tokens, plan, kvDtype, signal)) equal++
  }
  return { equal, tried: some.length }
}
