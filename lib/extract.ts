// KV extraction from any cache in host or GPU memory: ours, or a foreign engine's that hands over its buffer.
import { addon, fromNative } from './addon'
import { wrongValue } from './errors'
import { KV_DTYPE_BYTES } from './kv'
import { checkShape, type KvCacheLayout } from './kv-layout'
import { integerIn } from './limits'
import { checkOptions } from './options'

export interface DeviceExtractOptions {
  /** Which GPU the memory is of; 0 by default. */
  device?: number
  signal?: AbortSignal
}

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
  checkRequest(layout, positions)
  const { dtype } = layout
  if (data.byteOffset % KV_DTYPE_BYTES[dtype] !== 0) {
    throw wrongValue('INVALID_ARGUMENT', 'data', `aligned to its dtype ${dtype}`, data)
  }
  try {
    const { strides, table, shape, out } = requestOf(layout, positions)
    addon().extractRows(data, strides, table, shape, positions, out)
    return out
  } catch (error) {
    throw fromNative(error)
  }
}

/**
 * As {@link extractRows}, for a cache in the memory of a GPU, of this process: that of an engine in the same process,
 * or one it opened by CUDA's inter-process handles. The engine must have finished writing the rows, and must keep the
 * memory until the promise settles.
 *
 * @param pointer - The cache's address on the device.
 * @param positions - At most 2^24.
 * @throws {PocError} INVALID_ARGUMENT where `pointer` is no memory of the device or a row lies outside its allocation,
 *   BACKEND_UNAVAILABLE, BACKEND_FAILED, OUT_OF_MEMORY; aborted, it rejects with the signal's reason.
 */
export async function extractRowsFromDevice(
  pointer: bigint,
  layout: KvCacheLayout,
  positions: Uint32Array,
  options: DeviceExtractOptions = {},
): Promise<Uint8Array> {
  if (typeof pointer !== 'bigint') throw wrongValue('INVALID_ARGUMENT', 'pointer', 'a bigint', pointer)
  checkRequest(layout, positions)
  checkOptions(options)
  const { device = 0, signal } = options
  integerIn(device, 0, 1023, 'device', 'INVALID_ARGUMENT')
  signal?.throwIfAborted()
  let abort = () => {}
  try {
    const { strides, table, shape, out } = requestOf(layout, positions)
    const work = addon().extractRowsFromDevice(device, pointer, strides, table, shape, positions, out)
    abort = () => work.cancel()
    signal?.addEventListener('abort', abort, { once: true })
    await work.done
    return out
  } catch (error) {
    if (signal?.aborted) throw signal.reason
    throw fromNative(error)
  } finally {
    signal?.removeEventListener('abort', abort)
  }
}

function checkRequest(layout: KvCacheLayout, positions: Uint32Array): void {
  if (!(positions instanceof Uint32Array)) {
    throw wrongValue('INVALID_ARGUMENT', 'positions', 'a Uint32Array', positions)
  }
  if (typeof layout !== 'object' || layout === null) {
    throw wrongValue('INVALID_ARGUMENT', 'layout', 'an object', layout)
  }
  checkShape(layout, 'layout.')
  checkSplit(layout)
}

/** The addon's arguments, and the memory for the rows. */
function requestOf(layout: KvCacheLayout, positions: Uint32Array) {
  const { dtype, numKvHeads, headDim, blockTable = null, dimSplit = 0, splitStride = 0 } = layout
  return {
    strides: { ...layout, dimSplit, splitStride },
    table: blockTable,
    shape: { dtype, numKvHeads, headDim },
    out: new Uint8Array(positions.length * numKvHeads * headDim * KV_DTYPE_BYTES[dtype]),
  }
}
