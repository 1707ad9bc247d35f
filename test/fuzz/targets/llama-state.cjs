'use strict'
// What llama.cpp saves of a sequence: the first byte says for which model, the rest are the file's bytes.
const { attempt, dist, fuzzTarget, must } = require('../target.cjs')

const { llamaSamples, readLlamaState } = dist('adapters/llama-state')
const { kvRowBytes } = dist('kv')

const SHAPES = [
  { architecture: 'llama', numLayers: 2, numKvHeads: 2, headDim: 4 },
  { architecture: 'qwen2', numLayers: 1, numKvHeads: 1, headDim: 2 },
]
const VALUE_BYTES = { 0: 4, 1: 2, 30: 2 }

/** A file for a shape: `cells` holds the position of each cell. */
function fileOf({ numLayers, numKvHeads, headDim }, { type, cells, isTransposed, streams = 1 }) {
  const width = numKvHeads * headDim
  const u32 = (...values) => Buffer.from(Uint32Array.from(values).buffer)
  const rows = Buffer.from(Array.from({ length: cells.length * width * VALUE_BYTES[type] }, (_, i) => i % 120))
  const byRows = [u32(type, width * VALUE_BYTES[type], 0), rows]
  const byColumns = [u32(type, VALUE_BYTES[type], width), rows]
  const layers = Array.from({ length: numLayers })
  return Buffer.concat([
    u32(0x67677371, 3, 3, 7, 8, 9, streams),
    u32(cells.length, ...cells.flatMap((position) => [position, 1, 0])),
    u32(isTransposed ? 1 : 0, numLayers),
    ...layers.flatMap(() => byRows),
    ...layers.flatMap(() => (isTransposed ? byColumns : byRows)),
    ...Array.from({ length: streams - 1 }, () => u32(0)),
  ])
}

const FILES = SHAPES.flatMap((shape, i) =>
  [
    { type: 0, cells: [0, 1, 2], isTransposed: false },
    { type: 1, cells: [2, 0, 1], isTransposed: true },
    { type: 30, cells: [1, 0], isTransposed: true, streams: 3 },
  ].map((saved) => Buffer.concat([Uint8Array.of(i), fileOf(shape, saved)])),
)

/** Every row, as a plan asks for them. */
const wholePlan = ({ numPositions, layers }) => ({
  numPositions,
  layers: new Map(layers.map((_, layer) => [layer, Uint32Array.from({ length: numPositions }, (_, i) => i)])),
  deepestLayer: layers.length - 1,
  contextDigest: new Uint8Array(32),
  numSamples: numPositions * layers.length,
})

module.exports = fuzzTarget({
  maxBytes: 1024,
  seeds: () => FILES,
  words: [...[0, 1, 2, 3, 4, 30, 0xffffffff].map((word) => Buffer.from(Uint32Array.of(word).buffer))],
  run(bytes) {
    const shape = SHAPES[(bytes[0] ?? 0) % SHAPES.length]
    const file = bytes.slice(1)
    const state = attempt(['STATE_MALFORMED'], () => readLlamaState(file, shape))
    if (!state) return
    const { tokens, numPositions, layers, kvDtype } = state
    const rowBytes = kvRowBytes(shape, kvDtype)
    const held = 4 * tokens.length + numPositions * (12 + 2 * rowBytes * shape.numLayers)
    must(layers.length === shape.numLayers && held < file.length, 'a state holds no more than its file does')
    const samples = llamaSamples(state, wholePlan(state))
    must(samples.length === numPositions * layers.length, 'every row can be had')
    must(
      samples.every(({ k, v }) => k.length === rowBytes && v.length === rowBytes),
      'rows are of their size',
    )
  },
})
