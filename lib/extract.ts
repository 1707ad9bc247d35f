// KV extraction from any cache in host memory: ours, or a foreign engine's that hands over its buffer.
import { addon, fromNative } from './addon'
import { wrongValue } from './errors'
import { KV_DTYPE_BYTES } from './kv'
import { checkShape, type KvCacheLayout } from './kv-layout'

/** A field without the other is a mistake that would read wrong elements. */
function checkSplit({ dimSplit = 0, splitStride }: KvCacheLayout): void {
  if (dimSplit !== 0 && splitStride === undefined) {
    throw wrongValue('INVALID_ARGUMENT', 'layout.splitStride', 'given with dimSplit', splitStride)
  }
  if (dimSplit === 0 && (splitStride ?? 0) !== 0) {
    throw wrongValue('INVALID_ARGUMENT', 'layout.dimSplit', 'given with splitStride', dimSplit)
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
  if (typeof layout !== 'object' || layout === null) {
    throw wrongValue('INVALID_ARGUMENT', 'layout', 'an object', layout)
  }
  checkShape(layout, 'layout.')
  checkSplit(layout)
  const { dtype, numKvHeads, headDim, blockTable = null, dimSplit = 0, splitStride = 0 } = layout
  if (data.byteOffset % KV_DTYPE_BYTES[dtype] !== 0) {
    throw wrongValue('INVALID_ARGUMENT', 'data', `aligned to its dtype ${dtype}`, data)
  }
  try {
    const out = new Uint8Array(positions.length * numKvHeads * headDim * KV_DTYPE_BYTES[dtype])
    const strides = { ...layout, dimSplit, splitStride }
    addon().extractRows(data, strides, blockTable, { dtype, numKvHeads, headDim }, positions, out)
    return out
  } catch (error) {
    throw fromNative(error)
  }
}
