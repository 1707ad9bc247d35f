// Where the elements of a KV cache lie: a description, and its builders for the caches of common engines.
import { wrongValue } from './errors'
import { KV_DTYPE_BYTES, type KvDtype } from './kv'
import { integerIn, MAX_HEAD_DIM, MAX_KV_HEADS } from './limits'

/** What the vectors in one K (or V) cache are. */
export interface KvCacheShape {
  dtype: KvDtype
  numKvHeads: number
  headDim: number
}

/**
 * Where the elements of one K (or V) cache lie. Element (position, head, dim) is at
 * `page * pageStride + slot * slotStride + head * headStride + dim * dimStride`, with
 * `page = blockTable[floor(position / pageSize)]` and `slot = position % pageSize`. Strides count elements.
 * Where the head dimension is split, `floor(dim / dimSplit) * splitStride + (dim % dimSplit) * dimStride`
 * stands for `dim * dimStride`.
 */
export interface KvCacheLayout extends KvCacheShape {
  /** Positions in a page. A contiguous cache is one page as long as the sequence. */
  pageSize: number
  /** Elements from one page to the next; 0 for a contiguous cache. */
  pageStride: number
  slotStride: number
  headStride: number
  dimStride: number
  /** Dims in one group of a split head dimension; absent or 0: not split. */
  dimSplit?: number
  /** Elements from one group of dims to the next; goes with `dimSplit`. */
  splitStride?: number
  /** Page numbers in the order of the sequence; without it pages follow one another. */
  blockTable?: Uint32Array
}

/** Order of the axes position (n), head (h) and dim (d), the slowest first: (n, h, d) or (h, n, d). */
export type KvCacheOrder = 'nhd' | 'hnd'

/** A cache in pages, as {@link pagedLayout} takes it. */
export interface PagedCache extends KvCacheShape {
  /** Positions in a page. */
  pageSize: number
  /** Page numbers in the order of the sequence. */
  blockTable: Uint32Array
  /** Order of the axes inside a page: 'nhd' by default. */
  order?: KvCacheOrder
}

/** A cache in vLLM's blocks, as {@link vllmLayouts} takes it. */
export interface VllmCache extends KvCacheShape {
  /** Positions in a block. */
  blockSize: number
  /** Block numbers in the order of the sequence: one row of vLLM's block tables. */
  blockTable: Uint32Array
}

/** Most positions in a page: strides of 2^29 x 4096 heads x 4096 dims are still exact numbers. */
const MAX_POSITIONS = 2 ** 29

function integer(value: unknown, max: number, where: string): void {
  integerIn(value, 1, max, where, 'INVALID_ARGUMENT')
}

/**
 * Refuses a shape that is none.
 *
 * @param where - What the fields' names stand behind in an error, such as `layout.`.
 * @throws {PocError} INVALID_ARGUMENT
 */
export function checkShape({ dtype, numKvHeads, headDim }: KvCacheShape, where = ''): void {
  if (typeof dtype !== 'string' || !Object.hasOwn(KV_DTYPE_BYTES, dtype)) {
    throw wrongValue('INVALID_ARGUMENT', `${where}dtype`, "'f32', 'f16' or 'bf16'", dtype)
  }
  integer(numKvHeads, MAX_KV_HEADS, `${where}numKvHeads`)
  integer(headDim, MAX_HEAD_DIM, `${where}headDim`)
}

function checkCache(cache: PagedCache | VllmCache): void {
  if (typeof cache !== 'object' || cache === null) throw wrongValue('INVALID_ARGUMENT', 'cache', 'an object', cache)
  checkShape(cache)
  if (!(cache.blockTable instanceof Uint32Array)) {
    throw wrongValue('INVALID_ARGUMENT', 'blockTable', 'a Uint32Array', cache.blockTable)
  }
}

/** Strides of (positions, numKvHeads, headDim) or (numKvHeads, positions, headDim), without gaps. */
function strides(order: KvCacheOrder, numPositions: number, { numKvHeads, headDim }: KvCacheShape) {
  if (order === 'nhd') return { slotStride: numKvHeads * headDim, headStride: headDim, dimStride: 1 }
  if (order === 'hnd') return { slotStride: headDim, headStride: numPositions * headDim, dimStride: 1 }
  throw wrongValue('INVALID_ARGUMENT', 'order', "'nhd' or 'hnd'", order)
}

/**
 * A contiguous cache of shape (positions, numKvHeads, headDim), or (numKvHeads, positions, headDim) where `order`
 * is 'hnd'.
 *
 * @param numPositions - Positions that the cache has room for; 'hnd' needs it. Where it is given, positions from
 *   there on are refused.
 * @throws {PocError} INVALID_ARGUMENT
 */
export function contiguousLayout(
  dtype: KvDtype,
  numKvHeads: number,
  headDim: number,
  order: KvCacheOrder = 'nhd',
  numPositions?: number,
): KvCacheLayout {
  const shape = { dtype, numKvHeads, headDim }
  checkShape(shape)
  if (numPositions !== undefined || order === 'hnd') integer(numPositions, MAX_POSITIONS, 'numPositions')
  const pageSize = numPositions ?? 2 ** 32
  const layout = { ...shape, pageSize, pageStride: 0, ...strides(order, pageSize, shape) }
  // A table of one page, so that there is no second.
  return numPositions === undefined ? layout : { ...layout, blockTable: Uint32Array.of(0) }
}

/**
 * A cache of shape (pages, pageSize, numKvHeads, headDim), or (pages, numKvHeads, pageSize, headDim) where `order`
 * is 'hnd', such as those of FlashAttention and FlashInfer. If K and V take turns, as in FlashInfer's
 * (pages, 2, pageSize, numKvHeads, headDim), double the layout's `pageStride` and let V's memory begin at its first
 * page.
 *
 * @throws {PocError} INVALID_ARGUMENT
 */
export function pagedLayout(cache: PagedCache): KvCacheLayout {
  checkCache(cache)
  const { dtype, numKvHeads, headDim, pageSize, blockTable, order = 'nhd' } = cache
  integer(pageSize, MAX_POSITIONS, 'pageSize')
  return {
    dtype,
    numKvHeads,
    headDim,
    pageSize,
    pageStride: pageSize * numKvHeads * headDim,
    ...strides(order, pageSize, cache),
    blockTable,
  }
}

/**
 * The K and V cache of vLLM's own paged attention (`PagedAttention.split_kv_cache` and `reshape_and_cache` there):
 * K (blocks, numKvHeads, headDim / x, blockSize, x) with x dims in 16 bytes, which is 4 for f32 and 8 for f16 and
 * bf16; V (blocks, numKvHeads, headDim, blockSize). Its other attention backends keep theirs as
 * {@link pagedLayout} says.
 *
 * @throws {PocError} INVALID_ARGUMENT where `headDim` is no multiple of x, among others.
 */
export function vllmLayouts(cache: VllmCache): { k: KvCacheLayout; v: KvCacheLayout } {
  checkCache(cache)
  const { dtype, numKvHeads, headDim, blockSize, blockTable } = cache
  integer(blockSize, MAX_POSITIONS, 'blockSize')
  const x = 16 / KV_DTYPE_BYTES[dtype]
  if (headDim % x !== 0) throw wrongValue('INVALID_ARGUMENT', 'headDim', `a multiple of ${x} for ${dtype}`, headDim)
  const headStride = headDim * blockSize
  const both = { dtype, numKvHeads, headDim, pageSize: blockSize, pageStride: numKvHeads * headStride, headStride }
  return {
    k: { ...both, slotStride: x, dimStride: 1, dimSplit: x, splitStride: blockSize * x, blockTable },
    v: { ...both, slotStride: 1, dimStride: blockSize, blockTable },
  }
}
