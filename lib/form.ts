// What a proof carries of its samples: the vectors themselves, a sketch of each, or one digest for all of them.
import type { ProofHeader } from './binding'
import { createSamplesHash, fromLe32 } from './hash'
import type { KvSample, LayerSamples } from './kv'
import type { Proof } from './proof'
import { groupsOf } from './sample-groups'
import { sketchLayer, sketchSample } from './sketch'

/** Vectors in the header's form. `seed`: 32 bytes that the generator learns after its tokens, the sketch's source. */
export function inForm(
  header: ProofHeader,
  seed: Uint8Array,
  samples: KvSample[],
): Pick<Proof, 'samples' | 'samplesDigest'> {
  if (header.form === 'rows') return { samples, samplesDigest: '' }
  if (header.form === 'digest') return { samples: [], samplesDigest: digestOf(samples) }
  return { samples: samples.map((sample) => sketchSample(header, seed, sample)), samplesDigest: '' }
}

/** A recomputed layer as it is compared with a proof of the header's form. */
export function layerInForm(header: ProofHeader, seed: Uint8Array, layer: LayerSamples): LayerSamples {
  return header.form === 'sketch' ? sketchLayer(header, seed, layer) : layer
}

/** The digest of samples up to a layer, 64 hex digits; see {@link createSamplesHash}. */
export function digestOf(samples: readonly KvSample[], lastLayer = Number.POSITIVE_INFINITY): string {
  const hash = createSamplesHash()
  for (const { layer, positions, k, v } of groupsOf(samples.filter((sample) => sample.layer <= lastLayer))) {
    hash.push({ layer, positions: fromLe32(positions), k, v })
  }
  return hash.digest()
}
