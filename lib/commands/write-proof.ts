// A proof on disk, and what is said about it.

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
  return { file, bytes: encoded.length, samples: proof.samples.length, digest: proofDigest(proof), ...stated }
}

/** Its lines in a listing. */
export function describeWritten(proof: WrittenProof): [string, string][] {
  return [
    ['proof', `${short(proof.digest)}  ${proof.file}, ${grouped(proof.bytes)} bytes`],
    ['samples', `${proof.samples} by ${proof.tokenSampler} and ${proof.layerSampler}, in ${proof.kvDtype}`],
    ['model', short(proof.modelDigest)],
  ]
}
