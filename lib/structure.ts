// What is wrong with a proof before any model work: cheapest first, all of it.
import { isDeepStrictEqual } from 'node:util'
import type { ProofHeader } from './binding'
import { leavesOf, opensTo } from './challenge'
import { PocError, wrongValue } from './errors'
import { checkFields, fieldsOf } from './header'
import { hexFrom } from './hex'
import { samplesFollowPlan } from './matcher'
import type { Model } from './model'
import type { Plan } from './plan'
import type { Proof } from './proof'
import { bindingId, type SeenBindings, wasSeen } from './registry'
import type { Reason, ReasonCode } from './verdict'

/** What was asked for: header fields that a proof must state, and the prompt that it must begin with. */
export interface Request extends Partial<Omit<ProofHeader, 'version' | 'modelDigest'>> {
  /** Token ids. */
  prompt?: ArrayLike<number>
}

export const REPLAYED: Reason = { code: 'replayed', message: 'a proof with this binding was accepted before' }

/** What a verifier asks of a proof's form and freshness. */
export interface StructuralDemands {
  /** The nonce that the user gave out, hex. */
  nonce?: string
  /** The beacon that was not known when the commitment was published, hex. */
  beacon?: string
  /**
   * The root that was published before the beacon was known, hex. Without it, a generator that knows the beacon can
   * commit anew until nothing false is opened.
   */
  root?: string
  request?: Request
  /** Bindings of proofs that were accepted before: a proof is not accepted twice. */
  seen?: SeenBindings
}

export function structuralReasons(model: Model, proof: Proof, plan: Plan, demands: StructuralDemands): Reason[] {
  const { header } = proof
  const { nonce, beacon, root, request, seen } = demands
  const reasons: Reason[] = []
  const add = (code: ReasonCode, message: string | null) => {
    if (message !== null) reasons.push({ code, message })
  }
  if (header.modelDigest !== model.digest) {
    add('model_mismatch', `model mismatch: the proof states ${header.modelDigest}, this model is ${model.digest}`)
  }
  add('parameters_mismatch', differingParameters(header, model))
  if (nonce !== undefined && nonce.toLowerCase() !== header.nonce) {
    add('nonce_mismatch', `the proof states nonce '${header.nonce}', expected '${nonce.toLowerCase()}'`)
  }
  if (beacon !== undefined && beacon.toLowerCase() !== proof.beacon) {
    add('beacon_mismatch', `the proof was opened for beacon '${proof.beacon}', expected '${beacon.toLowerCase()}'`)
  }
  add('request_mismatch', request ? requestFault(proof, request) : null)
  if (wasSeen(seen, bindingId(header, proof.root))) reasons.push(REPLAYED)
  add('context_mismatch', contextFault(proof, plan))
  add('termination_mismatch', terminationFault(proof))
  add('plan_mismatch', planFault(proof, plan))
  if (reasons.length === 0) add('opening_mismatch', rootFault(proof, root) ?? openingFault(proof))
  return reasons
}

/** Why the context digest is not that of header and tokens, or null. */
export function contextFault(proof: Proof, plan: Plan): string | null {
  if (hexFrom(plan.contextDigest) === proof.contextDigest) return null
  return 'the context digest is not that of header and tokens'
}

/** Why samples are not those of the plan, or null; a digest stands for whatever the plan asks for. */
export function planFault({ header, samples }: Proof, plan: Plan): string | null {
  if (header.form === 'digest' || samplesFollowPlan(plan, samples)) return null
  return 'the samples are not at the layers and positions that the plan asks for'
}

/** Why the root is not the one that was published, or null. */
export function rootFault(proof: Proof, root: string | undefined): string | null {
  if (root === undefined || root.toLowerCase() === proof.root) return null
  return `the proof opens root '${proof.root}', published was '${root.toLowerCase()}'`
}

/** Why samples and path do not lead to the root, or null. Samples that a digest stands for are not here to tell. */
export function openingFault(proof: Proof): string | null {
  const { header, samples, path } = proof
  if (header.challenge !== 'beacon' || header.form !== 'rows') return null
  return opensTo(proof, leavesOf(header, samples), path) ? null : 'samples and path do not lead to the root'
}

/** Why the generated tokens do not end where their own rule says, or null. */
export function terminationFault({ header, tokens }: Pick<Proof, 'header' | 'tokens'>): string | null {
  const { stop, promptLength } = header
  const numNew = tokens.length - promptLength
  if (stop === null) return null
  const early = tokens.subarray(promptLength, -1).findIndex((token) => stop.stopTokens.includes(token))
  if (early >= 0)
    return `it went on after stop token ${tokens[promptLength + early]} at position ${promptLength + early}`
  if (numNew > stop.maxNewTokens) return `${numNew} tokens were generated, at most ${stop.maxNewTokens} were to be`
  const isStopped = numNew > 0 && stop.stopTokens.includes(tokens[tokens.length - 1])
  if (numNew === stop.maxNewTokens || isStopped) return null
  return `it stopped after ${numNew} of ${stop.maxNewTokens} tokens, at none that ends it`
}

/** What header and model must have alike. */
export const PARAMETERS = ['numLayers', 'numKvHeads', 'headDim', 'hiddenSize'] as const

function differingParameters(header: ProofHeader, model: Model): string | null {
  for (const key of PARAMETERS) {
    if (header[key] !== model.config[key])
      return `the proof states ${key} ${header[key]}, the model has ${model.config[key]}`
  }
  return null
}

/**
 * Why header or prompt are not what was asked for, or null. What no header can state is the asker's mistake, and no
 * fault of the proof.
 *
 * @throws {PocError} INVALID_ARGUMENT
 */
export function requestFault({ header, tokens }: Proof, { prompt, ...fields }: Request): string | null {
  const given = Object.entries(fields).filter(([, value]) => value !== undefined)
  const other = given.find(([name]) => !Object.hasOwn(header, name))
  if (other) throw wrongValue('INVALID_ARGUMENT', 'options.request', 'fields of a proof header, and prompt', other[0])
  const plain = Object.fromEntries(given.map(([name, value]) => [name, plainField(value)]))
  const asking = checkFields({ ...header, ...plain }, 'INVALID_ARGUMENT', 'options.request')
  for (const [name] of given) {
    const stated = header[name as keyof ProofHeader]
    const asked = asking[name as keyof ProofHeader]
    if (!isDeepStrictEqual(stated, asked)) {
      return `the proof states ${name} ${JSON.stringify(stated)}, asked for was ${JSON.stringify(asked)}`
    }
  }
  if (prompt === undefined) return null
  fieldsOf(prompt, 'options.request.prompt', 'INVALID_ARGUMENT')
  const isPrompt = prompt.length === header.promptLength && Array.from(prompt).every((id, i) => id === tokens[i])
  return isPrompt ? null : 'the proof is about another prompt'
}

/**
 * Why a proof is not what was asked for, where planning it failed by `error`; null where that is to be thrown: it is
 * about the caller's options, or the proof is what was asked for.
 */
export function unplannableFault(error: unknown, proof: Proof, request: Request | undefined): string | null {
  if (!(error instanceof PocError) || error.where?.startsWith('options.')) return null
  return request ? requestFault(proof, request) : null
}

/** As headers have it: hex in lowercase, lists as arrays. */
function plainField(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return plainValue(value)
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plainValue(item)]))
}

function plainValue(value: unknown): unknown {
  if (typeof value === 'string') return value.toLowerCase()
  return ArrayBuffer.isView(value) ? Array.from(value as Uint32Array) : value
}
