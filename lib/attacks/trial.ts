// One trial: what the user asks, and what the real model and others make of it, each computed once.
import type { ProofHeader } from '../binding'
import { generate } from '../generate'
import type { Model } from '../model'
import type { Proof } from '../proof'
import type { VerifyOptions } from '../verify'
import { type Computed, computeCells, proofFromCells } from './cells'
import type { ModelName, ModelPool } from './model-pool'
import type { Policy, UserRequest } from './user-request'

/** What a verifier is given beside a proof. */
export type Demands = Pick<VerifyOptions, 'nonce' | 'beacon' | 'root' | 'request' | 'seen' | 'replay'>

/** A run of the protocol that attacks take apart. */
export class Trial {
  readonly models: ModelPool
  readonly asked: UserRequest
  readonly policy: Policy
  readonly signal: AbortSignal | undefined
  private readonly computed = new Map<ModelName, Promise<Computed>>()

  constructor(models: ModelPool, asked: UserRequest, policy: Policy, signal?: AbortSignal) {
    this.models = models
    this.asked = asked
    this.policy = policy
    this.signal = signal
  }

  /** The same run under another policy; what was computed is shared. */
  under(policy: Policy): Trial {
    const { challenge, depth } = policy
    const header = { ...this.asked.header, challenge, depth }
    const trial = new Trial(this.models, { ...this.asked, header }, policy, this.signal)
    for (const [name, computed] of this.computed) trial.computed.set(name, computed)
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
      ...(this.beacon === '' ? {} : { beacon: this.beacon }),
      request: { ...fields, prompt: this.asked.prompt },
      ...(replay === undefined ? {} : { replay }),
      seen: new Set(),
    }
  }

  /** Tokens and cells of an honest generator. */
  honest(): Promise<Computed> {
    return this.by('real')
  }

  /** Tokens and cells where another model does all the work. */
  by(name: ModelName): Promise<Computed> {
    const known = this.computed.get(name) ?? this.compute(name)
    this.computed.set(name, known)
    return known
  }

  private async compute(name: ModelName): Promise<Computed> {
    const model = await this.models.get(name)
    const tokens = await this.continued(model, this.asked.prompt)
    return { tokens, cells: await this.cells(model, tokens) }
  }

  cells(model: Model, tokens: Uint32Array) {
    return computeCells(model, tokens, this.header.kvDtype, this.signal)
  }

  /** What a model makes of the prompt, or of an answer's beginning, until the user's rule ends it. */
  async continued(model: Model, tokens: Uint32Array, changes: Partial<ProofHeader> = {}): Promise<Uint32Array> {
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

  async honestProof(): Promise<Proof> {
    return await this.proof(await this.honest())
  }
}
