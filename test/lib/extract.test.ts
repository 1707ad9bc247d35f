// Extraction from described caches against a plain loop, on random layouts.
import fc from 'fast-check'
import { contiguousLayout, extractRows, type KvCacheLayout } from '../../lib/extract'
import { KV_DTYPE_BYTES } from '../../lib/kv'

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')

/** Element by element, straight from the definition of the layout. */
function plainLoop(data: Uint8Array, layout: KvCacheLayout, positions: Uint32Array): Uint8Array {
  const bytes = KV_DTYPE_BYTES[layout.dtype]
  const out: number[] = []
  for (const position of positions) {
    const at = Math.floor(position / layout.pageSize)
    const page = layout.blockTable ? layout.blockTable[at] : at
    for (let head = 0; head < layout.numKvHeads; head++) {
      for (let dim = 0; dim < layout.headDim; dim++) {
        const slot = position % layout.pageSize
        const element =
          page * layout.pageStride + slot * layout.slotStride + head * layout.headStride + dim * layout.dimStride
        for (let i = 0; i < bytes; i++) out.push(data[element * bytes + i])
      }
    }
  }
  return Uint8Array.from(out)
}

const bytesOf = (count: number) => Uint8Array.from({ length: count }, (_, i) => (i * 2654435761) >>> 24)

// The axes (slot, head, dim) in any order inside a page, pages in any order: NHD, HND, K split by dims, and so on.
const caches = fc
  .record({
    dtype: fc.constantFrom('f32' as const, 'f16' as const, 'bf16' as const),
    numKvHeads: fc.integer({ min: 1, max: 4 }),
    headDim: fc.integer({ min: 1, max: 9 }),
    pageSize: fc.integer({ min: 1, max: 7 }),
    order: fc.shuffledSubarray(['slot', 'head', 'dim'] as const, { minLength: 3 }),
    pages: fc.shuffledSubarray([0, 1, 2, 3, 4], { minLength: 1 }),
    withTable: fc.boolean(),
    gap: fc.integer({ min: 0, max: 5 }),
  })
  .chain(({ order, pages, withTable, gap, ...shape }) => {
    const sizes = { slot: shape.pageSize, head: shape.numKvHeads, dim: shape.headDim }
    const strides = { slot: 0, head: 0, dim: 0 }
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

test('a contiguous cache of (positions, heads, dims)', () => {
  const layout = contiguousLayout('bf16', 2, 3)
  const data = bytesOf(10 * 6 * 2)
  const rows = extractRows(data, layout, Uint32Array.of(7, 0, 9))
  expect(hex(rows)).toBe(hex(Buffer.concat([7, 0, 9].map((p) => data.subarray(p * 12, p * 12 + 12)))))
})

test.each([
  ['a position behind the end', contiguousLayout('f32', 2, 4), [3, 4]],
  ['a page without an entry', { ...contiguousLayout('f32', 1, 4), pageSize: 2, blockTable: Uint32Array.of(0) }, [2]],
  [
    'a page outside the memory',
    { ...contiguousLayout('f32', 1, 4), pageStride: 99, blockTable: Uint32Array.of(9) },
    [0],
  ],
  ['a stride that would wrap', { ...contiguousLayout('f32', 1, 4), slotStride: 2 ** 53 }, [2]],
  ['no pages', { ...contiguousLayout('f32', 1, 4), pageSize: 0 }, [0]],
])('%s is refused', (_, layout, positions) => {
  const attempt = () => extractRows(new Uint8Array(4 * 8 * 4), layout, Uint32Array.from(positions))
  expect(attempt).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
})
