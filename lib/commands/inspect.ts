// poc inspect: what a proof says, and whether it agrees with itself. Needs no model.

import type { Command } from 'commander'
import type { ProofHeader } from '../binding'
import { planOf } from '../challenge'
import { type Proof, proofDigest } from '../proof'
import { isBuiltInSampler } from '../sampler'
import { contextFault, openingFault, planFault } from '../structure'
import { addJsonFlag } from './flags'
import { readProof } from './input'
import { print, type Session } from './session'
import { grouped, listing, short, table } from './table'

/** Whether digest and samples are those that header and tokens give; null where the samplers are not built in. */
interface Structure {
  context: boolean | null
  plan: boolean | null
  opening: boolean | null
}

const SHOWN_IDS = 16

export function addInspect(program: Command, session: Session): void {
  const command = program
    .command('inspect')
    .description('show what a proof holds; needs no model')
    .argument('<file>', 'a proof')
  addJsonFlag(command).action(async (file: string) => {
    const { proof, bytes } = await readProof(file)
    const structure = structureOf(proof)
    const { header, contextDigest } = proof
    const samples = proof.samples.map(({ layer, position }) => [layer, position])
    const tokens = [...proof.tokens]
    const json = { digest: proofDigest(proof), bytes, header, tokens, contextDigest, samples, structure }
    print(session, json, describe(proof, bytes, structure))
  })
}

function structureOf(proof: Proof): Structure {
  const { header } = proof
  if (!isBuiltInSampler(header.tokenSampler) || !isBuiltInSampler(header.layerSampler)) {
    return { context: null, plan: null, opening: null }
  }
  const { plan } = planOf(proof)
  return {
    context: contextFault(proof, plan) === null,
    plan: planFault(proof, plan) === null,
    opening: openingFault(proof) === null,
  }
}

function describe(proof: Proof, bytes: number, structure: Structure): string {
  const { header, tokens, samples } = proof
  const prompt = tokens.subarray(0, header.promptLength)
  const generated = tokens.subarray(header.promptLength)
  const shape = `${header.numLayers} layers, ${header.numKvHeads} KV heads of ${header.headDim}`
  const entries: [string, string][] = [
    ['proof', `${short(proofDigest(proof))}  ${grouped(bytes)} bytes`],
    ['model', `${short(header.modelDigest)}  ${shape}, ${header.numerics}, KV in ${header.kvDtype}`],
    ['prompt', shownIds(prompt)],
    ['generated', shownIds(generated)],
    ['sampling', wordsForSampling(header.sampling)],
    [
      'stop',
      header.stop ? `after ${grouped(header.stop.maxNewTokens)} tokens, or at ${header.stop.stopTokens}` : 'not stated',
    ],
    ['nonce', header.nonce || 'none'],
    ['samples', `${samplesOf(proof)} by ${header.tokenSampler}, ${header.layerSampler} and depth ${header.depth}`],
    [
      'positions',
      header.challenge === 'beacon' ? `from beacon ${proof.beacon}, root ${short(proof.root)}` : 'from the context',
    ],
    ['structure', wordsFor(structure)],
  ]
  const counts = new Map<number, number>()
  for (const { layer } of samples) counts.set(layer, (counts.get(layer) ?? 0) + 1)
  const rows = [...counts].map(([layer, count]) => [String(layer), String(count)])
  return `${listing(entries)}\n\n${table([['layer', 'samples'], ...rows], [0, 1])}`
}

function samplesOf({ header, samples }: Proof): string {
  return header.form === 'digest' ? 'one digest of all' : `${grouped(samples.length)} (${header.form})`
}

function wordsForSampling(sampling: ProofHeader['sampling']): string {
  if (sampling === null) return 'not stated: tokens cannot be replayed'
  const { temperature, topK, topP, seed } = sampling
  return temperature === 0 ? 'greedy' : `temperature ${temperature}, top-k ${topK}, top-p ${topP}, seed ${seed}`
}

function shownIds(ids: Uint32Array): string {
  const more = ids.length > SHOWN_IDS ? ' ...' : ''
  return `${grouped(ids.length)} tokens  ${ids.subarray(0, SHOWN_IDS).join(' ')}${more}`
}

function wordsFor({ context, plan, opening }: Structure): string {
  if (context === null) return 'not checked: its samplers are not built in'
  if (context && plan && opening) return 'context digest and samples follow from header and tokens'
  const faults = [context ? '' : 'the context digest', plan ? '' : 'the samples', opening ? '' : 'the root'].filter(
    Boolean,
  )
  return `WRONG: not what header and tokens give: ${faults.join(' and ')}`
}
