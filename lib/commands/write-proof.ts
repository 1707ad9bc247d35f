// A proof or a claim on disk, and what is said about it.

import { type Claim, planOf } from '../challenge'
import { encodeClaim } from '../claim'
import { encodeProof, type Proof, proofDigest } from '../proof'
import { writeAtomically } from './output'
import { grouped, short } from './table'

/** A proof that was written. */
export interface WrittenProof {
  file: string
  bytes: number
  samples: number
  digest: string
  modelDigest: string
  tokenSampler: string
  layerSampler: string
  kvDtype: string
  nonce: string
}

export async function writeProof(file: string, proof: Proof): Promise<WrittenProof> {
  const encoded = encodeProof(proof)
  await writeAtomically(file, encoded)
  const { modelDigest, tokenSampler, layerSampler, kvDtype, nonce } = proof.header
  const stated = { modelDigest, tokenSampler, layerSampler, kvDtype, nonce }
  const samples = planOf(proof).plan.numSamples
  return { file, bytes: encoded.length, samples, digest: proofDigest(proof), ...stated }
}

/** A claim that was written. */
export interface WrittenClaim {
  file: string
  bytes: number
  root: string
  modelDigest: string
}

export async function writeClaim(file: string, claim: Claim): Promise<WrittenClaim> {
  const encoded = encodeClaim(claim)
  await writeAtomically(file, encoded)
  return { file, bytes: encoded.length, root: claim.root, modelDigest: claim.header.modelDigest }
}

export function describeClaim({ file, bytes, root, modelDigest }: WrittenClaim): [string, string][] {
  return [
    ['claim', `${file}, ${grouped(bytes)} bytes`],
    ['root', root],
    ['model', short(modelDigest)],
  ]
}

/** Its lines in a listing. */
export function describeWritten(proof: WrittenProof): [string, string][] {
  return [
    ['proof', `${short(proof.digest)}  ${proof.file}, ${grouped(proof.bytes)} bytes`],
    ['samples', `${proof.samples} by ${proof.tokenSampler} and ${proof.layerSampler}, in ${proof.kvDtype}`],
    ['model', short(proof.modelDigest)],
  ]
}
