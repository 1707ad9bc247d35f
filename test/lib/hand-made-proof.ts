// Proofs whose vectors come from a hash instead of a model: what verifiers would recompute is known without one.

import { createHash } from 'node:crypto'
import type { ProofHeader } from '../../lib/binding'
import type { KvSample, LayerSamples } from '../../lib/kv'
import { createPlan, type Plan } from '../../lib/plan'
import type { Proof } from '../../lib/proof'

export const HEADER: ProofHeader = {
  version: 1,
  modelDigest: 'ab'.repeat(32),
  numLayers: 6,
  numKvHeads: 2,
  headDim: 4,
  hiddenSize: 5,
  numerics: 'ieee32',
  kvDtype: 'f16',
  promptLength: 3,
  sampling: { temperature: 0, topK: 0, topP: 1, seed: '' },
  stop: null,
  challenge: 'context',
  depth: 'kv',
  form: 'rows',
  tokenSampler: 'bernoulli:1/4',
  layerSampler: 'uniform:3',
  nonce: '00ff',
  previousRoot: '',
}

/** Bytes of a K or V row under {@link HEADER}. */
export const ROW_BYTES = 16

/** The vector of a made-up model. */
export function vectorAt(layer: number, position: number, part: 'k' | 'v'): Uint8Array {
  return new Uint8Array(createHash('sha256').update(`${layer}/${position}/${part}`).digest().subarray(0, ROW_BYTES))
}

/** What a verifier with that model recomputes for one layer. */
export function layerOf(plan: Plan, layer: number): LayerSamples {
  const positions = plan.layers.get(layer) ?? new Uint32Array(0)
  const rows = (part: 'k' | 'v') => Uint8Array.from([...positions].flatMap((p) => [...vectorAt(layer, p, part)]))
  return { layer, positions, k: rows('k'), v: rows('v') }
}

/** An honest proof by that model. */
export function handMadeProof(numTokens = 40, header: Partial<ProofHeader> = {}): { proof: Proof; plan: Plan } {
  const tokens = Uint32Array.from({ length: numTokens }, (_, i) => (i * 7919) % 1009)
  const stated = { ...HEADER, ...header }
  const plan = createPlan(stated, tokens)
  const samples: KvSample[] = [...plan.layers].flatMap(([layer, positions]) =>
    [...positions].map((position) => {
      return { layer, position, k: vectorAt(layer, position, 'k'), v: vectorAt(layer, position, 'v') }
    }),
  )
  const contextDigest = Buffer.from(plan.contextDigest).toString('hex')
  const carried = { samples, samplesDigest: '', root: '', beacon: '', path: new Uint8Array(0) }
  return { proof: { header: stated, tokens, contextDigest, ...carried }, plan }
}
