// One trial: what the user asks, and what the real model and others make of it, each computed once.
import type { ProofHeader } from '../binding'
import { generate } from '../generate'
import type { Model } from '../model'
import type { Proof } from '../proof'
import type { VerifyOptions } from '../verify'
import { choicesOf } from './chosen'
import { commitCells, type Computed, computeCells, type ForgedCommitment, proofFromCells, sameTokens } from './cells'
import type { ModelName, ModelPool } from './model-pool'
import type { Policy, UserRequest } from './user-request'

/** What a verifier is given beside a proof. */
export type Demands = Pick<VerifyOptions, 'nonce' | 'beacon' | 'root' | 'request' | 'seen' | 'replay' | 'replaySeed'>

/** A run of the protocol that attacks take apart. */
export class Trial {
  readonly models: ModelPool
  readonly asked: UserRequest
  readonly policy: Policy
  readonly signal: AbortSignal | undefined
  /** What models computed; whatever is made of it copies it. */
  private computed = new Map<string, Promise<unknown>>()
  private readonly made = new Map<string, Promise<unknown>>()

  constructor(models: ModelPool, asked: UserRequest, policy: Policy, signal?: AbortSignal) {
    this.models = models
    this.asked = asked
    this.policy = policy
    this.signal = signal
  }

  /** The same run under another policy; what was computed is shared. */
  under(policy: Policy): Trial {
    const { challenge, depth } = policy
    const header = { ...this.asked.header, challenge, depth, form: policy.form ?? this.asked.header.form }
    const trial = new Trial(this.models, { ...this.asked, header }, policy, this.signal)
    trial.computed = this.computed
    return trial
  }

  get real(): Model {
    return this.models.real
  }

  get header(): ProofHeader {
    return this.asked.header
  }

  /** '' where positions come from the context. */
  get beacon(): string {
    return this.header.challenge === 'beacon' ? this.asked.beacon : ''
  }

  /** What the user demands of an answer. */
  demands(): Demands {
    const { version: _, modelDigest: __, ...fields } = this.header
    const { replay } = this.policy
    return {
      nonce: this.header.nonce,
      beacon: this.beacon || undefined,
      request: { ...fields, prompt: this.asked.prompt },
      ...(replay === undefined ? {} : { replay }),
      seen: new Set(),
    }
  }

  /** Tokens and cells of an honest generator. */
  honest(): Promise<Computed> {
    return this.by('real')
  }

  /** Prompt and answer of a model, without the cells behind them. */
  answerOf(name: ModelName): Promise<Uint32Array> {
    return once(this.computed, `answer of ${name}`, async () => {
      const model = await this.models.get(name)
      return name === 'real' ? await this.continued(model, this.asked.prompt) : await this.answerOfCopy(model)
    })
  }

  /** A copy mostly goes along with the real model: one pass over its answer says how far. */
  private async answerOfCopy(copy: Model): Promise<Uint32Array> {
    const { header, signal } = this
    const real = await this.answerOf('real')
    const first = this.asked.prompt.length
    const { sampling, kvDtype } = header
    const choices = sampling ? await choicesOf(copy, real, first, { sampling, kvDtype, signal }) : []
    const at = choices.findIndex((choice, i) => choice !== real[first + i])
    if (sampling && at < 0) return real
    const begun = sampling ? [...real.slice(0, first + at), choices[at]] : this.asked.prompt
    return await this.continued(copy, Uint32Array.from(begun))
  }

  /** Whether another model gives the honest answer. */
  async agrees(name: ModelName): Promise<boolean> {
    return sameTokens(await this.answerOf(name), await this.answerOf('real'))
  }

  /** Tokens and cells where another model does all the work. */
  by(name: ModelName): Promise<Computed> {
    return once(this.computed, name, async () => {
      const tokens = await this.answerOf(name)
      return { tokens, cells: await this.cells(await this.models.get(name), tokens) }
    })
  }

  /** What the real model computes for other tokens than the honest ones, each the next of the vocabulary. */
  others(): Promise<Computed> {
    return once(this.computed, 'others', async () => {
      const { vocabSize } = this.real.config
      const tokens = (await this.answerOf('real')).map((token) => (token + 1) % vocabSize)
      return { tokens, cells: await this.cells(this.real, tokens) }
    })
  }

  cells(model: Model, tokens: Uint32Array) {
    return computeCells(model, tokens, this.header.kvDtype, this.signal)
  }

  /** What a model makes of the prompt, or of an answer's beginning, until the user's rule ends it. */
  continued(model: Model, tokens: Uint32Array, changes: Partial<ProofHeader> = {}): Promise<Uint32Array> {
    const key = JSON.stringify([model.digest, changes, ...tokens])
    return once(this.computed, key, () => this.goOn(model, tokens, changes))
  }

  private async goOn(model: Model, tokens: Uint32Array, changes: Partial<ProofHeader>): Promise<Uint32Array> {
    const { sampling, stop, kvDtype } = { ...this.header, ...changes }
    const numNew = tokens.length - (changes.promptLength ?? this.asked.prompt.length)
    const maxNewTokens = (stop?.maxNewTokens ?? 1) - numNew
    const isOver = numNew > 0 && stop?.stopTokens.includes(tokens[tokens.length - 1])
    if (maxNewTokens <= 0 || isOver) return tokens
    const { chunkSize } = this.asked
    const ignoreEos = stop?.stopTokens.length === 0
    const options = { ...sampling, kvDtype, maxNewTokens, ignoreEos, chunkSize, tokenSampler: 'every:1048576' }
    return (await generate(model, tokens, { ...options, signal: this.signal })).tokens
  }

  /** The proof of these cells as the protocol has it. */
  proof(computed: Computed, header = this.header): Promise<Proof> {
    return proofFromCells(header, computed, header.challenge === 'beacon' ? this.asked.beacon : '')
  }

  /** The honest generator's; a forger changes a copy. */
  honestProof(): Promise<Proof> {
    return once(this.made, 'proof', async () => {
      if (this.header.challenge === 'beacon') return (await this.commitment()).open(this.beacon)
      return await this.proof(await this.honest())
    })
  }

  /** The honest generator's. */
  commitment(): Promise<ForgedCommitment> {
    return once(this.made, 'commitment', async () => commitCells(this.header, await this.honest()))
  }
}

function once<T>(known: Map<string, Promise<unknown>>, key: string, compute: () => Promise<T>): Promise<T> {
  const value = known.get(key) ?? compute()
  known.set(key, value)
  return value as Promise<T>
}
