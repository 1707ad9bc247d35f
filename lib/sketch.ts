// interim: replaced by the sketch worker
import type { ProofHeader } from './binding'
import type { KvSample, LayerSamples } from './kv'

export function sketchBytes(header: { numLayers: number }, layer: number): { k: number; v: number } {
  return { k: 16, v: layer === header.numLayers ? 0 : 16 }
}
export function sketchSample(_header: ProofHeader, _seed: Uint8Array, _sample: KvSample): KvSample {
  throw new Error('interim')
}
export function sketchLayer(_header: ProofHeader, _seed: Uint8Array, _layer: LayerSamples): LayerSamples {
  throw new Error('interim')
}
