// A model for the length of one command.

import { Model } from '../model'
import type { ModelFlags } from './flags'
import { type Session, withProgress } from './session'

/** Loads a model, runs something with it, and closes it whatever happens. */
export async function withModel<T>(session: Session, flags: ModelFlags, run: (model: Model) => Promise<T>): Promise<T> {
  const { signal } = session
  const { backend, threads, cacheDir, weightBudget: weightBudgetBytes } = flags
  const model = await withProgress(session, 'loading', (onProgress) =>
    Model.load(flags.model, { backend, threads, weightBudgetBytes, cacheDir, signal, onProgress }),
  )
  const { status, path, reason } = model.weightCache ?? {}
  if (status === 'unavailable' && !session.json) session.stderr.write(`warning: ${path} is not in use: ${reason}\n`)
  try {
    return await run(model)
  } finally {
    await model.close()
  }
}
