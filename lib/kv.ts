// KV vectors: their dtype, their bytes, and the samples that a proof carries.

/** How K and V are stored in the cache and in a proof. */
export type KvDtype = 'f32' | 'f16' | 'bf16'

/** Bytes of one stored value. */
export const KV_DTYPE_BYTES: Readonly<Record<KvDtype, number>> = { f32: 4, f16: 2, bf16: 2 }

/** The key and value vectors at one (layer, position). */
export interface KvSample {
  layer: number
  position: number
  /** `numKvHeads * headDim` values in the proof's `kvDtype`, little-endian, head by head; K after RoPE. */
  k: Uint8Array
  /** As `k`. */
  v: Uint8Array
}

/** All sampled vectors of one layer, as the prefill hands them over. */
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
