// KV extraction from any cache in host memory: ours, or a foreign engine's that hands over its buffer.
import { addon, fromNative } from './addon'
import { wrongValue } from './errors'
import { KV_DTYPE_BYTES, type KvDtype } from './kv'

/**
 * Where the elements of one K (or V) cache lie. Element (position, head, dim) is at
 * `page * pageStride + slot * slotStride + head * headStride + dim * dimStride`, with
 * `page = blockTable[floor(position / pageSize)]` and `slot = position % pageSize`. Strides count elements.
 */
export interface KvCacheLayout {
  dtype: KvDtype
  numKvHeads: number
  headDim: number
  /** Positions in a page. A contiguous cache is one page as long as the sequence. */
  pageSize: number
  /** Elements from one page to the next; 0 for a contiguous cache. */
  pageStride: number
  slotStride: number
  headStride: number
  dimStride: number
  /** Page numbers in the order of the sequence; without it pages follow one another. */
  blockTable?: Uint32Array
}

/** A contiguous cache of shape (positions, numKvHeads, headDim). */
export function contiguousLayout(dtype: KvDtype, numKvHeads: number, headDim: number): KvCacheLayout {
  return {
    dtype,
    numKvHeads,
    headDim,
    pageSize: 2 ** 32,
    pageStride: 0,
    slotStride: numKvHeads * headDim,
    headStride: headDim,
    dimStride: 1,
  }
}

/**
 * Copies the rows of `positions` out of a cache.
 *
 * @param data - The cache's memory, host side.
 * @param positions - Any order, each inside the cache.
 * @returns (positions.length, numKvHeads, headDim) in the cache's dtype: what a {@link KvSample} holds.
 * @throws {PocError} INVALID_ARGUMENT where a position lies outside `data` or the block table.
 */
export function extractRows(data: ArrayBufferView, layout: KvCacheLayout, positions: Uint32Array): Uint8Array {
  if (!ArrayBuffer.isView(data) || data instanceof DataView) {
    throw wrongValue('INVALID_ARGUMENT', 'data', 'a typed array', data)
  }
  if (!(positions instanceof Uint32Array)) {
    throw wrongValue('INVALID_ARGUMENT', 'positions', 'a Uint32Array', positions)
  }
  const { dtype, numKvHeads, headDim, blockTable = null } = layout
  if (!Object.hasOwn(KV_DTYPE_BYTES, dtype)) {
    throw wrongValue('INVALID_ARGUMENT', 'layout.dtype', "'f32', 'f16' or 'bf16'", dtype)
  }
  for (const key of ['numKvHeads', 'headDim'] as const) {
    const value = layout[key]
    if (!Number.isInteger(value) || value < 1 || value > 4096) {
      throw wrongValue('INVALID_ARGUMENT', `layout.${key}`, 'an integer from 1 to 4096', value)
    }
  }
  if (data.byteOffset % KV_DTYPE_BYTES[dtype] !== 0) {
    throw wrongValue('INVALID_ARGUMENT', 'data', `aligned to its dtype ${dtype}`, data)
  }
  try {
    const out = new Uint8Array(positions.length * numKvHeads * headDim * KV_DTYPE_BYTES[dtype])
    addon().extractRows(data, layout, blockTable, { dtype, numKvHeads, headDim }, positions, out)
    return out
  } catch (error) {
    throw fromNative(error)
  }
}
