// What a proof is about: its header, the digest that binds every field of it, and the chain over the tokens.
import { wrongValue } from './errors'
import { checkDigest, DIGEST_BYTES, domainTag, sha256, taggedHash } from './hash'
import { checkHeader, encodeHeader } from './header'
import { hexFrom } from './hex'
import type { KvDtype } from './kv'
import { atOnce, POSITIONS_A_TURN, type Turns } from './turns'

/**
 * A named contract about the bits of every value: `ieee32` gives the same bits on every machine. Any other name is
 * that of a foreign engine, such as `llama.cpp`, whose samples are compared under a tolerance profile.
 */
export type Numerics = string

/** How the generator picked tokens. */
export interface SamplingParams {
  /** 0 means greedy. */
  temperature: number
  /** 0 means off. */
  topK: number
  /** In (0, 1]; 1 means off. */
  topP: number
  /** Lowercase hex, 0 to 64 bytes. */
  seed: string
}

/** When generation had to end. */
export interface StopRule {
  /** Most generated tokens. */
  maxNewTokens: number
  /** Ids that end it, strictly increasing; none where it had to go on to `maxNewTokens`. */
  stopTokens: number[]
}

/** Where sampled positions come from: the tokens (the paper), or a beacon that nobody knew before the commitment. */
export type ChallengeMode = 'context' | 'beacon'

/** What a proof carries of its samples: K and V themselves, 32 bytes for all of them, or a sketch of each. */
export type SampleForm = 'rows' | 'digest' | 'sketch'

/** Everything that changes the meaning of a proof; all of it is bound by {@link bindingDigest}. */
export interface ProofHeader {
  version: 1
  /** SHA-256 over config and tensors, 64 lowercase hex digits. */
  modelDigest: string
  numLayers: number
  numKvHeads: number
  headDim: number
  hiddenSize: number
  numerics: Numerics
  kvDtype: KvDtype
  /** Tokens of the prompt, at least 1; the rest was generated. */
  promptLength: number
  /** Null where the engine that chose the tokens does not say how: they cannot be replayed then. */
  sampling: SamplingParams | null
  /** Null where it is not stated. */
  stop: StopRule | null
  challenge: ChallengeMode
  /** How deep samples may lie, see {@link parseDepth}: 'kv', 'full' or 'random:n'. */
  depth: string
  form: SampleForm
  /** Canonical name, such as 'bernoulli:1/32'. */
  tokenSampler: string
  /** Canonical name, such as 'stratified:2'. */
  layerSampler: string
  /** Lowercase hex, 0 to 64 bytes; chosen by the user, so that an old proof cannot be replayed. */
  nonce: string
  /** Root of the conversation's turn before this one, 64 lowercase hex digits; '' where there is none. */
  previousRoot: string
}

/**
 * The 32 bytes that stand for a header: SHA-256 over its canonical CBOR.
 *
 * @throws {PocError} INVALID_ARGUMENT
 */
export function bindingDigest(header: ProofHeader): Uint8Array {
  return taggedHash('binding', encodeHeader(checkHeader(header, 'INVALID_ARGUMENT')))
}

/**
 * The digest that stands for header and tokens, 64 hex digits: the context digest at the last token.
 *
 * @throws {PocError} INVALID_ARGUMENT
 */
export function contextOf(header: ProofHeader, tokens: Uint32Array): string {
  return atOnce(chaining(header, tokens))
}

/** {@link contextOf} in turns; the tokens must stay as they are meanwhile. */
export function* chaining(header: ProofHeader, tokens: Uint32Array): Turns<string> {
  const chain = contextChain(bindingDigest(header))
  let digest: Uint8Array = new Uint8Array(0)
  for (const [position, token] of tokens.entries()) {
    if (position % POSITIONS_A_TURN === POSITIONS_A_TURN - 1) yield
    digest = chain.push(token)
  }
  return hexFrom(digest)
}

/** The running digest of a binding and the tokens after it: the "token context" that samplers see. */
export interface ContextChain {
  /**
   * Takes the next token and returns the context digest at its position, 32 bytes of the caller's own.
   *
   * @throws {PocError} INVALID_ARGUMENT for a token that is not an unsigned 32-bit integer
   */
  push(token: number): Uint8Array
}

/**
 * Starts the chain `c[-1] = H(binding)`, `c[i] = H(c[i-1], le32(token[i]))`.
 *
 * @param binding - 32 bytes, from {@link bindingDigest}.
 * @throws {PocError} INVALID_ARGUMENT
 * @see Proof of Cache, section 3.2: samplers take "the current token context as input".
 */
export function contextChain(binding: Uint8Array): ContextChain {
  checkDigest(binding, 'binding')
  const tag = domainTag('context')
  const input = new Uint8Array(tag.length + DIGEST_BYTES + 4)
  const view = new DataView(input.buffer)
  input.set(tag)
  input.set(taggedHash('context-start', binding), tag.length)
  return {
    push(token) {
      if (!Number.isInteger(token) || token < 0 || token > 0xffffffff) {
        throw wrongValue('INVALID_ARGUMENT', 'token', 'an unsigned 32-bit integer', token)
      }
      view.setUint32(tag.length + DIGEST_BYTES, token, true)
      const digest = sha256(input)
      input.set(digest, tag.length)
      return digest
    },
  }
}
