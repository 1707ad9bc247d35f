// The demo's proofs, one honest and the others forged, and what a verifier says to each.

import { CHANGES, writeChangedModel } from '../attacks'
import { generate } from '../generate'
import { Model } from '../model'
import { type KvSample, samplesOf } from '../kv'
import { createPlan } from '../plan'
import { prefill } from '../prefill'
import type { Proof } from '../proof'
import { proofOf, proveWithHeader } from '../prove'
import { temporaryFolder } from '../temporary-folder'
import type { Verdict } from '../verdict'
import { verify } from '../verify'

/** A proof, and two independent verdicts on it. */
export interface DemoCase {
  name: string
  proof: Proof
  /** Of the first verifier, and of a second one that computes in chunks of another size. */
  verdicts: [Verdict, Verdict]
}

export const DEMO_OPTIONS = {
  maxNewTokens: 80,
  temperature: 0.8,
  seed: '0f', // one with which int8 weights choose another token: most runs of this length come out the same
  tokenSampler: 'bernoulli:1/16',
  layerSampler: 'stratified:2',
  nonce: '70726f6f662d6f662d6361636865',
}

/** Makes the proofs from the honest one and verifies each of them twice. */
export async function demoCases(model: Model, honest: Proof, signal: AbortSignal): Promise<DemoCase[]> {
  const cheaper = await cheaperModel(model, honest, signal)
  const proofs: [string, Proof][] = [
    ['honest proof', honest],
    ['cheaper model (int8)', cheaper],
    ['... with real vectors', await proveWithHeader(model, honest.header, cheaper.tokens, { signal })],
    ['one token changed', changedToken(honest)],
    ['... digests repaired', await repaired(model, honest, changedToken(honest).tokens, signal)],
    ['one KV bit changed', changedBit(honest)],
  ]
  const cases: DemoCase[] = []
  for (const [name, proof] of proofs) {
    const { nonce } = DEMO_OPTIONS
    const first = await verify(model, proof, { nonce, signal })
    const second = await verify(model, proof, { nonce, signal, chunkSize: 16 })
    signal.throwIfAborted() // an aborted verification is inconclusive, which is no case of this demo
    cases.push({ name, proof, verdicts: [first, second] })
  }
  return cases
}

// Int8 weights produce the text, and the proof of it states the real model's digest.
async function cheaperModel(model: Model, honest: Proof, signal: AbortSignal): Promise<Proof> {
  const folder = await temporaryFolder('poc-demo-')
  try {
    await writeChangedModel(model.path, folder.path, CHANGES.int8)
    const cheap = await Model.load(folder.path, { signal })
    try {
      const prompt = honest.tokens.subarray(0, honest.header.promptLength)
      const { tokens } = await generate(cheap, prompt, { ...DEMO_OPTIONS, signal })
      return await proveWithHeader(cheap, honest.header, tokens, { signal })
    } finally {
      await cheap.close()
    }
  } finally {
    await folder.remove()
  }
}

function changedToken(honest: Proof): Proof {
  const tokens = honest.tokens.slice()
  const at = (honest.header.promptLength + tokens.length) >> 1
  tokens[at] ^= 1
  return { ...honest, tokens }
}

// A forger who has honest vectors of other tokens, and makes plan and digests fit the changed ones.
async function repaired(model: Model, honest: Proof, tokens: Uint32Array, signal: AbortSignal): Promise<Proof> {
  const plan = createPlan(honest.header, tokens)
  const samples: KvSample[] = []
  const { kvDtype } = honest.header
  for await (const layer of prefill(model, honest.tokens, plan, { kvDtype, signal })) samples.push(...samplesOf(layer))
  return proofOf(honest.header, tokens, plan, samples)
}

function changedBit(honest: Proof): Proof {
  const at = honest.samples.length >> 1
  const samples = honest.samples.map((sample, i) => {
    if (i !== at) return sample
    const v = sample.v.slice()
    v[0] ^= 1 // the lowest bit of the first value
    return { ...sample, v }
  })
  return { ...honest, samples }
}
