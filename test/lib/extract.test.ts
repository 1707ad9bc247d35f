// Extraction from described caches against a plain loop, on random layouts and on the caches of common engines.
import fc from 'fast-check'
import { extractRows } from '../../lib/extract'
import { KV_DTYPE_BYTES, type KvDtype } from '../../lib/kv'
import {
  contiguousLayout,
  type KvCacheLayout,
  type KvCacheOrder,
  type PagedCache,
  pagedLayout,
  type VllmCache,
  vllmLayouts,
} from '../../lib/kv-layout'

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')

/** Where an element is, straight from the definition of the layout. */
function elementOf(layout: KvCacheLayout, position: number, head: number, dim: number): number {
  const at = Math.floor(position / layout.pageSize)
  const page = layout.blockTable ? layout.blockTable[at] : at
  const { dimSplit, splitStride = 0 } = layout
  const ofDim = dimSplit
    ? Math.floor(dim / dimSplit) * splitStride + (dim % dimSplit) * layout.dimStride
    : dim * layout.dimStride
  return page * layout.pageStride + (position % layout.pageSize) * layout.slotStride + head * layout.headStride + ofDim
}

/** The elements of all positions, in the order of the rows. */
function elementsOf(layout: KvCacheLayout, positions: Uint32Array): number[] {
  const out: number[] = []
  for (const position of positions) {
    for (let head = 0; head < layout.numKvHeads; head++) {
      for (let dim = 0; dim < layout.headDim; dim++) out.push(elementOf(layout, position, head, dim))
    }
  }
  return out
}

function plainLoop(data: Uint8Array, layout: KvCacheLayout, positions: Uint32Array): Uint8Array {
  const bytes = KV_DTYPE_BYTES[layout.dtype]
  const elements = elementsOf(layout, positions)
  return Uint8Array.from(elements.flatMap((element) => [...data.subarray(element * bytes, (element + 1) * bytes)]))
}

const bytesOf = (count: number) => Uint8Array.from({ length: count }, (_, i) => (i * 2654435761) >>> 24)

const dtypes: KvDtype[] = ['f32', 'f16', 'bf16']

// The axes (slot, head, dim) in any order inside a page, the dims perhaps in groups whose axis is anywhere too,
// pages in any order: NHD, HND, K split by dims, and so on.
const caches = fc
  .record({
    dtype: fc.constantFrom(...dtypes),
    numKvHeads: fc.integer({ min: 1, max: 4 }),
    headDim: fc.integer({ min: 1, max: 9 }),
    pageSize: fc.integer({ min: 1, max: 7 }),
    dimSplit: fc.option(fc.integer({ min: 0, max: 11 }), { nil: undefined }),
    order: fc.shuffledSubarray(['slot', 'head', 'dim', 'group'] as const, { minLength: 4 }),
    pages: fc.shuffledSubarray([0, 1, 2, 3, 4], { minLength: 1 }),
    withTable: fc.boolean(),
    gap: fc.integer({ min: 0, max: 5 }),
  })
  .chain(({ order, pages, withTable, gap, ...shape }) => {
    const dim = shape.dimSplit || shape.headDim
    const sizes = { slot: shape.pageSize, head: shape.numKvHeads, dim, group: Math.ceil(shape.headDim / dim) }
    const strides = { slot: 0, head: 0, dim: 0, group: 0 }
    let stride = 1
    for (const axis of order) {
      strides[axis] = stride
      stride *= sizes[axis]
    }
    const layout: KvCacheLayout = {
      ...shape,
      pageStride: stride + gap,
      slotStride: strides.slot,
      headStride: strides.head,
      dimStride: strides.dim,
      splitStride: shape.dimSplit ? strides.group : undefined,
      blockTable: withTable ? Uint32Array.from(pages) : undefined,
    }
    const numPages = withTable ? pages.length : 5
    const positions = fc.array(fc.integer({ min: 0, max: numPages * shape.pageSize - 1 }), { maxLength: 12 })
    return fc.record({ layout: fc.constant(layout), positions })
  })

test('any page table, axis order, dtype and gap gives the rows of a plain loop', () => {
  fc.assert(
    fc.property(caches, ({ layout, positions }) => {
      const data = bytesOf(5 * layout.pageStride * KV_DTYPE_BYTES[layout.dtype])
      const at = Uint32Array.from(positions)
      expect(hex(extractRows(data, layout, at))).toBe(hex(plainLoop(data, layout, at)))
    }),
    { numRuns: 300 },
  )
})

test('memory that ends with the last element of the rows is enough, one element less is not', () => {
  fc.assert(
    fc.property(caches, ({ layout, positions }) => {
      fc.pre(positions.length > 0)
      const at = Uint32Array.from(positions)
      const bytes = (Math.max(...elementsOf(layout, at)) + 1) * KV_DTYPE_BYTES[layout.dtype]
      const data = bytesOf(bytes)
      expect(hex(extractRows(data, layout, at))).toBe(hex(plainLoop(data, layout, at)))
      const short = data.subarray(0, bytes - 1)
      expect(() => extractRows(short, layout, at)).toThrow(expect.objectContaining({ where: 'data' }))
    }),
    { numRuns: 300 },
  )
})

// From here on: caches written by loops over their axes, as their engines would, without a layout.

/** The value at (position, head, dim): another one for each, over all that the tests use. */
const valueAt = (position: number, head: number, dim: number) => (position * 8 + head) * 64 + dim + 1

/** A cache whose element `index(position, head, dim)` is `valueAt` it; the rest is 0. */
function cacheOf(
  { dtype, numKvHeads, headDim }: PagedCache | VllmCache,
  numPositions: number,
  elements: number,
  index: (position: number, head: number, dim: number) => number,
): Uint8Array {
  const array = dtype === 'f32' ? new Uint32Array(elements) : new Uint16Array(elements)
  for (let position = 0; position < numPositions; position++) {
    for (let head = 0; head < numKvHeads; head++) {
      for (let dim = 0; dim < headDim; dim++) array[index(position, head, dim)] = valueAt(position, head, dim)
    }
  }
  return new Uint8Array(array.buffer)
}

/** What extraction must give: the values of (positions, heads, dims). */
function rowsOf({ dtype, numKvHeads, headDim }: PagedCache | VllmCache, positions: number[]): string {
  const values: number[] = []
  for (const position of positions) {
    for (let head = 0; head < numKvHeads; head++) {
      for (let dim = 0; dim < headDim; dim++) values.push(valueAt(position, head, dim))
    }
  }
  const array = dtype === 'f32' ? Uint32Array.from(values) : Uint16Array.from(values)
  return hex(new Uint8Array(array.buffer))
}

const engines = fc.record({
  dtype: fc.constantFrom(...dtypes),
  numKvHeads: fc.integer({ min: 1, max: 4 }),
  headDim: fc.integer({ min: 1, max: 40 }),
  pageSize: fc.integer({ min: 1, max: 17 }),
  order: fc.constantFrom<KvCacheOrder>('nhd', 'hnd'),
  pages: fc.shuffledSubarray([0, 1, 2, 3, 4], { minLength: 1 }),
  picks: fc.array(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), { maxLength: 6 }),
})

test('contiguousLayout: (positions, heads, dims) and (heads, positions, dims)', () => {
  fc.assert(
    fc.property(engines, fc.boolean(), ({ picks, order, ...shape }, bounded) => {
      const { dtype, numKvHeads, headDim, pageSize: count } = shape
      const index = (position: number, head: number, dim: number) =>
        order === 'nhd' ? (position * numKvHeads + head) * headDim + dim : (head * count + position) * headDim + dim
      const data = cacheOf({ ...shape, blockTable: new Uint32Array() }, count, count * numKvHeads * headDim, index)
      const numPositions = bounded || order === 'hnd' ? count : undefined
      const layout = contiguousLayout(dtype, numKvHeads, headDim, order, numPositions)
      const positions = [...picks.map((pick) => Math.floor(pick * count)), count - 1]
      const got = extractRows(data, layout, Uint32Array.from(positions))
      expect(hex(got)).toBe(rowsOf({ ...shape, blockTable: new Uint32Array() }, positions))
      // Whatever lies behind the cache in the same memory is not its next position.
      const more = numPositions === undefined ? data : Buffer.concat([data, data, data])
      expect(() => extractRows(more, layout, Uint32Array.of(count))).toThrow(
        expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
      )
    }),
  )
})

test("contiguousLayout's order is 'nhd' unless another is asked for", () => {
  expect(contiguousLayout('bf16', 2, 3)).toEqual(contiguousLayout('bf16', 2, 3, 'nhd'))
  const data = bytesOf(10 * 6 * 2)
  const rows = extractRows(data, contiguousLayout('bf16', 2, 3), Uint32Array.of(7, 0, 9))
  expect(hex(rows)).toBe(hex(Buffer.concat([7, 0, 9].map((p) => data.subarray(p * 12, p * 12 + 12)))))
})

test('pagedLayout: NHD and HND inside a page, and K and V pages that take turns', () => {
  fc.assert(
    fc.property(engines, fc.boolean(), ({ pages, picks, order, ...shape }, turns) => {
      const { numKvHeads, headDim, pageSize } = shape
      const cache = { ...shape, blockTable: Uint32Array.from(pages), order }
      const page = pageSize * numKvHeads * headDim
      const skip = turns ? 2 : 1
      const index = (position: number, head: number, dim: number) => {
        const slot = position % pageSize
        const row = order === 'nhd' ? slot * numKvHeads + head : head * pageSize + slot
        return pages[Math.floor(position / pageSize)] * skip * page + row * headDim + dim
      }
      const count = pages.length * pageSize
      const data = cacheOf(cache, count, 5 * skip * page, index)
      const layout = pagedLayout(cache)
      const positions = [...picks.map((pick) => Math.floor(pick * count)), count - 1]
      const got = extractRows(data, turns ? { ...layout, pageStride: 2 * page } : layout, Uint32Array.from(positions))
      expect(hex(got)).toBe(rowsOf(cache, positions))
      expect(() => extractRows(data, layout, Uint32Array.of(count))).toThrow(
        expect.objectContaining({ where: 'layout.blockTable' }),
      )
    }),
  )
})

test("pagedLayout's order is 'nhd' unless another is asked for", () => {
  const cache: PagedCache = { dtype: 'f16', numKvHeads: 2, headDim: 3, pageSize: 4, blockTable: Uint32Array.of(1) }
  expect(pagedLayout(cache)).toEqual(pagedLayout({ ...cache, order: 'nhd' }))
  expect(pagedLayout(cache)).not.toEqual(pagedLayout({ ...cache, order: 'hnd' }))
})

test('vllmLayouts: K (blocks, heads, dims / x, block size, x), V (blocks, heads, dims, block size)', () => {
  fc.assert(
    fc.property(engines, ({ dtype, numKvHeads, headDim: groups, pageSize: blockSize, pages, picks }) => {
      const x = dtype === 'f32' ? 4 : 8
      const headDim = (1 + (groups % 5)) * x
      const cache = { dtype, numKvHeads, headDim, blockSize, blockTable: Uint32Array.from(pages) }
      // The engine's own axes, each with its size, from the slowest to the fastest.
      const at = (...axes: [index: number, size: number][]) =>
        axes.reduce((sum, [index, size]) => sum * size + index, 0)
      const blockOf = (position: number) => pages[Math.floor(position / blockSize)]
      const slot = (position: number): [number, number] => [position % blockSize, blockSize]
      const kIndex = (p: number, h: number, d: number) =>
        at([blockOf(p), 5], [h, numKvHeads], [Math.floor(d / x), headDim / x], slot(p), [d % x, x])
      const vIndex = (p: number, h: number, d: number) => at([blockOf(p), 5], [h, numKvHeads], [d, headDim], slot(p))
      const count = pages.length * blockSize
      const elements = 5 * blockSize * numKvHeads * headDim
      const positions = [...picks.map((pick) => Math.floor(pick * count)), count - 1]
      const { k, v } = vllmLayouts(cache)
      for (const [layout, index] of [[k, kIndex] as const, [v, vIndex] as const]) {
        const got = extractRows(cacheOf(cache, count, elements, index), layout, Uint32Array.from(positions))
        expect(hex(got)).toBe(rowsOf(cache, positions))
      }
    }),
  )
})

const plain = contiguousLayout('f32', 1, 4)

test.each<[string, KvCacheLayout, number[]]>([
  ['a position behind the end', contiguousLayout('f32', 2, 4), [3, 4]],
  ['a page without an entry', { ...plain, pageSize: 2, blockTable: Uint32Array.of(0) }, [2]],
  ['a page outside the memory', { ...plain, pageStride: 99, blockTable: Uint32Array.of(9) }, [0]],
  ['a stride that would wrap', { ...plain, slotStride: 2 ** 53 }, [2]],
  ['no pages', { ...plain, pageSize: 0 }, [0]],
  // 2^53 * 2048 is 2^64: nothing, in 64 bits.
  ['a stride of groups that would wrap', { ...plain, headDim: 2049, dimSplit: 1, splitStride: 2 ** 53 }, [0]],
  [
    'a stride in a group that would wrap',
    { ...plain, headDim: 2049, dimSplit: 3000, splitStride: 1, dimStride: 2 ** 53 },
    [0],
  ],
  ['a last group outside the memory', { ...plain, dimSplit: 2, splitStride: 31 }, [0]],
  [
    'a group outside the memory before a short one',
    { ...plain, headDim: 5, dimSplit: 4, splitStride: 1, dimStride: 11 },
    [0],
  ],
  ['a split without its stride', { ...plain, dimSplit: 2 }, [0]],
  ['a stride without its split', { ...plain, splitStride: 2 }, [0]],
  ['half a dim', { ...plain, dimSplit: 0.5, splitStride: 2 }, [0]],
  ['a negative split', { ...plain, dimSplit: -2, splitStride: 2 }, [0]],
  ['a split that is no number', { ...plain, dimSplit: Number.NaN, splitStride: 2 }, [0]],
  ['a negative stride of groups', { ...plain, dimSplit: 2, splitStride: -2 }, [0]],
])('%s is refused', (_, layout, positions) => {
  const attempt = () => extractRows(new Uint8Array(4 * 8 * 4), layout, Uint32Array.from(positions))
  expect(attempt).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
})

test('one group as long as can be said is no split', () => {
  const layout = { ...plain, dimSplit: 2 ** 53, splitStride: 2 ** 53 }
  const data = bytesOf(4 * 8 * 4)
  const at = Uint32Array.of(7, 1)
  expect(hex(extractRows(data, layout, at))).toBe(hex(extractRows(data, plain, at)))
})

describe('nonsense is refused by its name', () => {
  const cache = { dtype: 'f16', numKvHeads: 2, headDim: 16, blockTable: Uint32Array.of(0) } as const
  const paged = (wrong: object) => () => pagedLayout({ ...cache, pageSize: 4, ...wrong })
  const vllm = (wrong: object) => () => vllmLayouts({ ...cache, blockSize: 4, ...wrong })
  const flat = (order: unknown, count?: number) => () => contiguousLayout('f16', 2, 16, order as KvCacheOrder, count)

  test.each<[string, string, () => unknown]>([
    ["a layout's type", 'layout', () => extractRows(new Uint8Array(8), null as never, Uint32Array.of(0))],
    ["a layout's dtype", 'layout.dtype', () => extractRows(new Uint8Array(8), {} as never, Uint32Array.of(0))],
    ['contiguous: dtype', 'dtype', () => contiguousLayout('f64' as never, 2, 16)],
    ['contiguous: heads', 'numKvHeads', () => contiguousLayout('f16', 0, 16)],
    ['contiguous: dims', 'headDim', () => contiguousLayout('f16', 2, 4097)],
    ['contiguous: order', 'order', flat('dhn')],
    ['contiguous: hnd of unknown length', 'numPositions', flat('hnd')],
    ['contiguous: hnd of no positions', 'numPositions', flat('hnd', 0)],
    ['contiguous: half a position', 'numPositions', flat('nhd', 1.5)],
    ['paged: none', 'cache', () => pagedLayout(null as never)],
    ['paged: dtype', 'dtype', paged({ dtype: 'toString' })],
    ['paged: heads', 'numKvHeads', paged({ numKvHeads: '2' })],
    ['paged: dims', 'headDim', paged({ headDim: 0 })],
    ['paged: page size', 'pageSize', paged({ pageSize: 0 })],
    ['paged: page size over the limit', 'pageSize', paged({ pageSize: 2 ** 29 + 1 })],
    ['paged: signed table', 'blockTable', paged({ blockTable: Int32Array.of(0) })],
    ['paged: no table', 'blockTable', paged({ blockTable: undefined })],
    ['paged: order', 'order', paged({ order: 'NHD' })],
    ['vLLM: none', 'cache', () => vllmLayouts(undefined as never)],
    ['vLLM: dims of half a group', 'headDim', vllm({ headDim: 12 })],
    ['vLLM: dims of half a group, f32', 'headDim', vllm({ dtype: 'f32', headDim: 6 })],
    ['vLLM: block size', 'blockSize', vllm({ blockSize: Number.NaN })],
    ['vLLM: table', 'blockTable', vllm({ blockTable: [0] })],
    ['vLLM: dtype', 'dtype', vllm({ dtype: 'fp8' })],
  ])('%s', (_, where, attempt) => {
    expect(attempt).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT', where }))
  })
})
