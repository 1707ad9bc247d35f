// K and V out of what llama.cpp saves of one sequence: `llama_state_seq_save_file`, node-llama-cpp's `saveStateToFile`.

import type { ModelConfig } from '../config'
import { wrongValue } from '../errors'
import { extractRows } from '../extract'
import { samplesOf, KV_DTYPE_BYTES, type KvDtype, type KvSample, kvRowBytes } from '../kv'
import type { KvCacheLayout } from '../kv-layout'
import { MAX_TOKENS } from '../limits'
import type { Plan } from '../plan'

/** One cache of one layer: memory, and where its rows lie. Row p of the layout is the vector of position p. */
export interface LlamaCache {
  data: Uint8Array
  layout: KvCacheLayout
}

/** A saved sequence. */
export interface LlamaState {
  /** The ids that were saved beside the cache; the engine's caller chose them. */
  tokens: Uint32Array
  /** Positions in the cache: 0 to `numPositions - 1`, each once. */
  numPositions: number
  kvDtype: KvDtype
  layers: { k: LlamaCache; v: LlamaCache }[]
}

/** What a state is read for. */
export type LlamaShape = Pick<ModelConfig, 'architecture' | 'numLayers' | 'numKvHeads' | 'headDim'>

const MAGIC = 0x67677371 // 'ggsq'
const VERSION = 3
const MAX_STREAMS = 256 // LLAMA_MAX_SEQ
const CELL_BYTES = 12
const NO_CELL = 0xffffffff
const DTYPES: ReadonlyMap<number, KvDtype> = new Map([
  [0, 'f32'],
  [1, 'f16'],
  [30, 'bf16'],
]) // ggml_type

/**
 * Reads a saved sequence; its rows stay where they are, as views of `bytes`.
 *
 * The file, all little-endian: u32 magic, u32 version, u32 count and i32 tokens; u32 streams, of which one has cells;
 * for each cell i32 position, u32 1, i32 sequence; u32 whether V is transposed, u32 layers; for each layer K's i32
 * type, u64 bytes of a row, rows by cell; then V of each layer, the same or, transposed: i32 type, u32 bytes of a
 * value, u32 values of a row, values by dim, then by cell.
 * @param bytes - Of a cache in F32, F16 or BF16; a quantised one, or one of a sliding window, is refused.
 * @throws {PocError} STATE_MALFORMED, INVALID_ARGUMENT
 * @see llama.cpp, src/llama-kv-cache.cpp, `llama_kv_cache::state_write`; version 3 of the format.
 */
export function readLlamaState(bytes: Uint8Array, shape: LlamaShape): LlamaState {
  const read = reader(aligned(bytes))
  read.exactly('magic', MAGIC)
  read.exactly('version', VERSION)
  const numTokens = read.count('number of tokens', MAX_TOKENS)
  const tokens = Uint32Array.from({ length: read.room(numTokens, 4) }, () => read.u32())
  const { cells, numStreamsLeft } = readCells(read)
  const isTransposed = read.count('v_trans', 1) === 1
  read.exactly('number of layers', shape.numLayers)
  const cache = { read, shape, cells, dtype: undefined as KvDtype | undefined }
  const k = Array.from({ length: shape.numLayers }, (_, layer) => readRows(cache, `K of layer ${layer}`, true))
  const v = Array.from({ length: shape.numLayers }, (_, layer) => {
    const name = `V of layer ${layer}`
    return isTransposed ? readTransposed(cache, name) : readRows(cache, name, false)
  })
  for (let stream = 0; stream < numStreamsLeft; stream++) read.exactly('cells of another stream', 0)
  read.end()
  const layers = k.map((keys, layer) => ({ k: keys, v: v[layer] }))
  return { tokens, numPositions: cells.length, kvDtype: k[0].layout.dtype, layers }
}

/**
 * The samples that a plan asks for, in its order, as a proof holds them: K in the order of rotated halves.
 *
 * @param plan - Within the state's positions and layers; it may not sample final hidden states, which are not saved.
 * @throws {PocError} INVALID_ARGUMENT
 */
export function llamaSamples({ layers, numPositions }: LlamaState, plan: Plan): KvSample[] {
  if (plan.numPositions > numPositions) {
    throw wrongValue('INVALID_ARGUMENT', 'plan.numPositions', `at most ${numPositions}, as saved`, plan.numPositions)
  }
  if (plan.deepestLayer >= layers.length) {
    throw wrongValue('INVALID_ARGUMENT', 'plan.deepestLayer', `below ${layers.length}, as saved`, plan.deepestLayer)
  }
  return [...plan.layers].flatMap(([layer, positions]) => {
    const { k, v } = layers[layer]
    const rows = [k, v].map(({ data, layout }) => extractRows(data, layout, positions))
    return samplesOf({ layer, positions, k: rows[0], v: rows[1] })
  })
}

interface CacheReader {
  read: Reader
  shape: LlamaShape
  /** Cell of each position. */
  cells: Uint32Array
  /** Of the caches so far: a proof has one dtype. */
  dtype: KvDtype | undefined
}

// A complete sequence: what a proof is about has every position from 0 on. Streams are written one after another, so
// those that follow the sequence's own stand behind its rows.
function readCells(read: Reader): { cells: Uint32Array; numStreamsLeft: number } {
  const numStreams = read.count('number of streams', MAX_STREAMS)
  for (let stream = 0; stream < numStreams; stream++) {
    const numCells = read.count('number of cells', MAX_TOKENS)
    if (numCells === 0) continue
    const cells = new Uint32Array(read.room(numCells, CELL_BYTES)).fill(NO_CELL)
    for (let cell = 0; cell < numCells; cell++) {
      const position = read.count('position', numCells - 1)
      if (cells[position] !== NO_CELL) throw read.wrong('position', 'that of one cell only', position)
      cells[position] = cell
      read.exactly('sequences of a cell', 1)
      read.count('sequence', MAX_STREAMS - 1)
    }
    return { cells, numStreamsLeft: numStreams - 1 - stream }
  }
  throw read.wrong('number of cells', 'over 0', 0)
}

function readRows(cache: CacheReader, name: string, isKey: boolean): LlamaCache {
  const { read, shape, cells } = cache
  const { headDim, numKvHeads, architecture } = shape
  const dtype = readDtype(cache, name)
  read.exactlyLong(`${name}: bytes of a row`, kvRowBytes(shape, dtype))
  const data = read.bytes(cells.length * kvRowBytes(shape, dtype))
  const rows = { dtype, numKvHeads, headDim, pageSize: 1, pageStride: numKvHeads * headDim, slotStride: 1 }
  const layout = { ...rows, headStride: headDim, dimStride: 1, blockTable: cells }
  // The converter to GGUF permutes q and k of these, so that dims 2i and 2i + 1 are rotated together.
  const isInterleaved = isKey && (architecture === 'llama' || architecture === 'mistral')
  return { data, layout: isInterleaved ? { ...layout, dimStride: 2, dimSplit: headDim / 2, splitStride: 1 } : layout }
}

function readTransposed(cache: CacheReader, name: string): LlamaCache {
  const { read, shape, cells } = cache
  const { headDim, numKvHeads } = shape
  const dtype = readDtype(cache, name)
  read.exactly(`${name}: bytes of a value`, KV_DTYPE_BYTES[dtype])
  read.exactly(`${name}: values of a row`, numKvHeads * headDim)
  const data = read.bytes(cells.length * kvRowBytes(shape, dtype))
  const rows = { dtype, numKvHeads, headDim, pageSize: 1, pageStride: 1, slotStride: 1 }
  const layout = { ...rows, headStride: headDim * cells.length, dimStride: cells.length, blockTable: cells }
  return { data, layout }
}

function readDtype(cache: CacheReader, name: string): KvDtype {
  const type = cache.read.u32()
  const dtype = DTYPES.get(type)
  if (!dtype) throw cache.read.wrong(`${name}: type`, 'F32 (0), F16 (1) or BF16 (30)', type)
  cache.dtype ??= dtype
  if (dtype !== cache.dtype) throw cache.read.wrong(`${name}: type`, `${cache.dtype}, as those before it`, dtype)
  return dtype
}

type Reader = ReturnType<typeof reader>

/** Reads from the front; whatever is announced is checked against what is left before memory is taken for it. */
function reader(state: Uint8Array) {
  const view = new DataView(state.buffer, state.byteOffset, state.byteLength)
  let at = 0
  const wrong = (what: string, expected: string, value: unknown) =>
    wrongValue('STATE_MALFORMED', `state at byte ${at}: ${what}`, expected, value)
  const room = (count: number, size: number) => {
    const left = state.length - at
    if (count * size > left) throw wrong('file size', `${count * size} bytes more`, left)
    return count
  }
  const u32 = () => {
    room(1, 4)
    at += 4
    return view.getUint32(at - 4, true)
  }
  const count = (what: string, max: number) => {
    const value = u32()
    if (value > max) throw wrong(what, `at most ${max}`, value)
    return value
  }
  const exactly = (what: string, expected: number) => {
    const value = u32()
    if (value !== expected) throw wrong(what, `${expected}`, value)
  }
  return {
    wrong,
    room,
    u32,
    count,
    exactly,
    exactlyLong(what: string, expected: number) {
      exactly(what, expected)
      exactly(`${what}, upper half`, 0)
    },
    bytes(size: number) {
      room(size, 1)
      at += size
      return state.subarray(at - size, at)
    },
    end() {
      if (at !== state.length) throw wrong('file size', `${at}, where the last row ends`, state.length)
    },
  }
}

/** The bytes at an address where values of four bytes may lie, copied only where they are not. */
function aligned(bytes: unknown): Uint8Array {
  if (!(bytes instanceof Uint8Array)) throw wrongValue('INVALID_ARGUMENT', 'state', 'a Uint8Array', bytes)
  return bytes.byteOffset % 4 === 0 ? bytes : new Uint8Array(bytes)
}
