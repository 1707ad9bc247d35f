// KV vectors: their dtype, their bytes, and the samples that a proof carries.

/** How K and V are stored in the cache and in a proof. */
export type KvDtype = 'f32' | 'f16' | 'bf16'

/** Bytes of one stored value. */
export const KV_DTYPE_BYTES: Readonly<Record<KvDtype, number>> = { f32: 4, f16: 2, bf16: 2 }

/**
 * The key and value vectors at one (layer, position). At the virtual layer, whose number is `numLayers`, `k` is the
 * final hidden state (after the final norm; `hiddenSize` f32 values) and `v` is empty.
 */
export interface KvSample {
  layer: number
  position: number
  /** `numKvHeads * headDim` values in the proof's `kvDtype`, little-endian, head by head; K after RoPE. */
  k: Uint8Array
  /** As `k`. */
  v: Uint8Array
}

/** All sampled vectors of one layer, as the prefill hands them over; of the virtual layer as in {@link KvSample}. */
export interface LayerSamples {
  layer: number
  /** Strictly increasing; row i of `k` and `v` belongs to `positions[i]`. */
  positions: Uint32Array
  /** (positions.length, numKvHeads, headDim) in `kvDtype`, little-endian. */
  k: Uint8Array
  /** As `k`. */
  v: Uint8Array
}

/** Bytes of one K (or V) row: `numKvHeads * headDim` values. */
export function kvRowBytes(shape: { numKvHeads: number; headDim: number }, kvDtype: KvDtype): number {
  return shape.numKvHeads * shape.headDim * KV_DTYPE_BYTES[kvDtype]
}

/** What the vectors of a model are made of. */
export interface VectorShape {
  numLayers: number
  numKvHeads: number
  headDim: number
  hiddenSize: number
}

/** Bytes of a sample's two vectors at `layer`. */
export function vectorBytes(shape: VectorShape, kvDtype: KvDtype, layer: number): { k: number; v: number } {
  if (layer === shape.numLayers) return { k: shape.hiddenSize * 4, v: 0 }
  const row = kvRowBytes(shape, kvDtype)
  return { k: row, v: row }
}

/** Rows in the order of layer, then position, as single samples; the vectors are views of `k` and `v`. */
export function* cutSamples(
  byLayer: ReadonlyMap<number, ArrayLike<number>>,
  { k, v }: Pick<LayerSamples, 'k' | 'v'>,
  bytesAt: (layer: number) => { k: number; v: number },
): Generator<KvSample> {
  const start = { k: 0, v: 0 }
  for (const [layer, positions] of byLayer) {
    const bytes = bytesAt(layer)
    for (const position of Array.from(positions)) {
      const end = { k: start.k + bytes.k, v: start.v + bytes.v }
      yield { layer, position, k: k.subarray(start.k, end.k), v: v.subarray(start.v, end.v) }
      Object.assign(start, end)
    }
  }
}

/** Rows of one layer as single samples; the vectors are views of the layer's memory. */
export function samplesOf({ layer, positions, k, v }: LayerSamples): KvSample[] {
  const rowBytes = { k: k.length / positions.length, v: v.length / positions.length }
  return [...cutSamples(new Map([[layer, positions]]), { k, v }, () => rowBytes)]
}
