// One token after another, with the logits behind each: what a generator has that decides for itself.
import { addon } from '../addon'
import type { KvDtype } from '../kv'
import type { Model } from '../model'
import { flattened, type NativeSampling } from '../native'

export interface Choice {
  /** What the sampler chooses. */
  token: number
  /** (vocabSize), behind the last token fed. */
  logits: Float32Array
}

export interface LogitsSequence {
  append(tokens: Uint32Array): Promise<Choice>
  cancel(): void
}

export function openLogits(model: Model, kvDtype: KvDtype, sampling: NativeSampling, capacity: number): LogitsSequence {
  const native = new (addon().Sequence)(model.native, kvDtype, capacity, 64)
  const { layers, counts, positions } = flattened(new Map())
  const none = new Uint8Array(0)
  return {
    async append(tokens) {
      const logits = new Float32Array(model.config.vocabSize)
      const bytes = new Uint8Array(logits.buffer)
      const token = await model.run(() =>
        native.append(tokens, layers, counts, positions, none, none, sampling, bytes, null),
      )
      return { token, logits }
    },
    cancel: () => native.cancel(),
  }
}

/** The likeliest id other than some. */
export function likeliest(logits: Float32Array, others: readonly number[]): number {
  let best = -1
  logits.forEach((logit, id) => {
    if (!others.includes(id) && (best < 0 || logit > logits[best])) best = id
  })
  return best
}

/** Probability at a temperature; at 0, as a multiple of that of the likeliest. */
export function probabilityOf(logits: Float32Array, id: number, temperature: number): number {
  const largest = logits[likeliest(logits, [])]
  const scale = temperature || 1
  const weight = (logit: number) => Math.exp((logit - largest) / scale)
  if (temperature === 0) return weight(logits[id])
  return weight(logits[id]) / logits.reduce((sum, logit) => sum + weight(logit), 0)
}
