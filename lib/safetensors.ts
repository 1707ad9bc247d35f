// A Hugging Face folder before any weight is read: its config, and where in which file each tensor lies.
import { join, resolve } from 'node:path'
import { parseConfig, parseEosTokens, type ModelConfig } from './config'
import { PocError, shown, wrongValue } from './errors'
import { asRecord, badFile, exists, openFile, parseJson, readExactly, readJson } from './json'

/** How a tensor's values are stored. */
export type TensorDtype = 'f32' | 'f16' | 'bf16'

/** One tensor in its file: row-major, little-endian, at any alignment. */
export interface TensorEntry {
  name: string
  dtype: TensorDtype
  shape: number[]
  /** Index into {@link Checkpoint.files}. */
  file: number
  /** In bytes from the start of the file. */
  offset: number
  bytes: number
}

/** A checked model folder. */
export interface Checkpoint {
  /** Absolute, as are `files`. */
  dir: string
  config: ModelConfig
  files: string[]
  /** In bytes, in the order of `files`. */
  fileSizes: number[]
  /** Exactly those of {@link expectedTensors}, in its order. */
  tensors: TensorEntry[]
}

const DTYPES: Readonly<Record<string, { dtype: TensorDtype; bytes: number }>> = {
  F32: { dtype: 'f32', bytes: 4 },
  F16: { dtype: 'f16', bytes: 2 },
  BF16: { dtype: 'bf16', bytes: 2 },
}

const WEIGHTS = 'model.safetensors'
const INDEX = 'model.safetensors.index.json'
const MAX_CONFIG_BYTES = 2 ** 20
const MAX_INDEX_BYTES = 2 ** 24
const MAX_HEADER_BYTES = 100_000_000 // the format's own limit

/**
 * Reads and checks a Hugging Face model folder: config.json, and the headers of model.safetensors or of the
 * shards that its index names. `eosTokenIds` are those of generation_config.json where that states any.
 *
 * @throws {PocError} INVALID_ARGUMENT, FILE_NOT_FOUND, MODEL_UNSUPPORTED, MODEL_MALFORMED
 */
export async function readCheckpoint(dir: string): Promise<Checkpoint> {
  if (typeof dir !== 'string' || dir === '' || dir.includes('\0')) {
    throw wrongValue('INVALID_ARGUMENT', 'dir', "a model folder's path", dir)
  }
  const folder = resolve(dir)
  const config = await readConfig(folder)
  const shards = await findShards(folder)
  const files = [...shards.keys()].map((name) => join(folder, name))
  const fileSizes: number[] = []
  const found = new Map<string, TensorEntry>()
  for (const [file, listed] of [...shards.values()].entries()) {
    const { size, tensors } = await readHeader(files[file], file)
    fileSizes.push(size)
    if (listed) checkListed(listed, tensors, files[file])
    for (const tensor of tensors) found.set(tensor.name, tensor)
  }
  return { dir: folder, config, files, fileSizes, tensors: selectTensors(config, found, folder) }
}

/** Names and shapes of the tensors that a model of this config has, in the order of the computation. */
export function expectedTensors(config: ModelConfig): { name: string; shape: number[] }[] {
  const { hiddenSize, intermediateSize, headDim } = config
  const qSize = config.numHeads * headDim
  const kvSize = config.numKvHeads * headDim
  const headNorms: Shape[] = [
    ['self_attn.q_norm.weight', [headDim]],
    ['self_attn.k_norm.weight', [headDim]],
  ]
  const layer: Shape[] = [
    ['input_layernorm.weight', [hiddenSize]],
    ...projection('self_attn.q_proj', qSize, hiddenSize, config.qkvBias),
    ...projection('self_attn.k_proj', kvSize, hiddenSize, config.qkvBias),
    ...projection('self_attn.v_proj', kvSize, hiddenSize, config.qkvBias),
    ...(config.qkNorm ? headNorms : []),
    ...projection('self_attn.o_proj', hiddenSize, qSize, false),
    ['post_attention_layernorm.weight', [hiddenSize]],
    ...projection('mlp.gate_proj', intermediateSize, hiddenSize, false),
    ...projection('mlp.up_proj', intermediateSize, hiddenSize, false),
    ...projection('mlp.down_proj', hiddenSize, intermediateSize, false),
  ]
  const layers = Array.from({ length: config.numLayers }, (_, n) =>
    layer.map(([name, shape]) => ({ name: `model.layers.${n}.${name}`, shape: [...shape] })),
  )
  const head = { name: 'lm_head.weight', shape: [config.vocabSize, hiddenSize] }
  return [
    { name: 'model.embed_tokens.weight', shape: [config.vocabSize, hiddenSize] },
    ...layers.flat(),
    { name: 'model.norm.weight', shape: [hiddenSize] },
    ...(config.tiedHead ? [] : [head]),
  ]
}

type Shape = [name: string, shape: number[]]

function projection(name: string, rows: number, columns: number, bias: boolean): Shape[] {
  const weight: Shape = [`${name}.weight`, [rows, columns]]
  return bias ? [weight, [`${name}.bias`, [rows]]] : [weight]
}

function selectTensors(config: ModelConfig, found: Map<string, TensorEntry>, folder: string): TensorEntry[] {
  const expected = expectedTensors(config)
  const tensors = expected.map(({ name, shape }) => {
    const entry = found.get(name)
    const wanted = `of shape [${shape.join(', ')}]`
    if (!entry) throw badFile(`${folder}: tensor ${name}`, `there, ${wanted}`, undefined)
    if (entry.shape.join() === shape.join()) return entry
    throw badFile(`${folder}: tensor ${name}`, wanted, `[${entry.shape.join(', ')}]`)
  })
  const used = new Set(expected.map(({ name }) => name))
  for (const name of found.keys()) {
    if (!used.has(name) && !isUnused(name)) {
      const expectedNames = `those of a ${config.architecture} model`
      throw wrongValue('MODEL_UNSUPPORTED', `${folder}: tensors`, expectedNames, name)
    }
  }
  return tensors
}

// What transformers does not read either: a second copy of a tied head, tables of old Llama 2 folders.
function isUnused(name: string): boolean {
  return name === 'lm_head.weight' || /^model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq$/.test(name)
}

async function readConfig(folder: string): Promise<ModelConfig> {
  const path = join(folder, 'config.json')
  const config = parseConfig(await readJson(path, MAX_CONFIG_BYTES), path)
  const generationPath = join(folder, 'generation_config.json')
  if (!(await exists(generationPath))) return config
  const generation = asRecord(await readJson(generationPath, MAX_CONFIG_BYTES), generationPath)
  const eosTokenIds = parseEosTokens(generation.eos_token_id, config.vocabSize, generationPath)
  return eosTokenIds.length === 0 ? config : { ...config, eosTokenIds }
}

// File names with the tensors that the index puts there; null where there is no index.
async function findShards(folder: string): Promise<Map<string, Set<string> | null>> {
  if (await exists(join(folder, WEIGHTS))) return new Map([[WEIGHTS, null]])
  const path = join(folder, INDEX)
  if (!(await exists(path))) {
    const where = join(folder, WEIGHTS)
    throw new PocError('FILE_NOT_FOUND', `${folder} has neither ${WEIGHTS} nor ${INDEX}`, { where })
  }
  const index = asRecord(await readJson(path, MAX_INDEX_BYTES), path)
  const shards = new Map<string, Set<string>>()
  for (const [tensor, shard] of Object.entries(asRecord(index.weight_map, `${path}: weight_map`))) {
    // A plain name keeps a hostile index inside the folder.
    if (typeof shard !== 'string' || !/^[\w-][\w.-]*\.safetensors$/.test(shard)) {
      throw badFile(`${path}: ${shown(tensor)}`, 'the plain name of a .safetensors file', shard)
    }
    shards.set(shard, (shards.get(shard) ?? new Set()).add(tensor))
  }
  return shards
}

function checkListed(listed: Set<string>, tensors: TensorEntry[], path: string) {
  const names = new Set(tensors.map(({ name }) => name))
  const missing = [...listed].find((name) => !names.has(name))
  if (missing !== undefined) throw badFile(path, `with tensor ${shown(missing)} of the index`, undefined)
  const stray = [...names].find((name) => !listed.has(name))
  if (stray !== undefined) throw badFile(`${path}: tensors`, 'those that the index lists', stray)
}

async function readHeader(path: string, file: number): Promise<{ size: number; tensors: TensorEntry[] }> {
  const { handle, size } = await openFile(path)
  try {
    if (size < 8) throw badFile(`${path}: file size`, 'at least 8 bytes', size)
    const prefix = await readExactly(handle, path, 0, new Uint8Array(8))
    const length = new DataView(prefix.buffer).getBigUint64(0, true)
    const limit = Math.min(MAX_HEADER_BYTES, size - 8)
    if (length < 2 || length > limit) throw badFile(`${path}: header length`, `from 2 to ${limit}`, length)
    const header = await readExactly(handle, path, 8, new Uint8Array(Number(length)))
    if (header[0] !== 0x7b) throw badFile(`${path}: header`, 'a JSON object', `byte ${header[0]}`)
    const place = { path, file, dataStart: 8 + header.length }
    return { size, tensors: parseHeader(parseJson(header, `${path}: header`), place, size) }
  } finally {
    await handle.close()
  }
}

/** The file that a header is of, and where its data begins. */
interface Place {
  path: string
  file: number
  dataStart: number
}

function parseHeader(json: unknown, place: Place, size: number): TensorEntry[] {
  const { path, dataStart } = place
  const { __metadata__: metadata, ...entries } = asRecord(json, `${path}: header`)
  if (metadata !== undefined) checkMetadata(metadata, `${path}: __metadata__`)
  const tensors = Object.entries(entries).map(([name, value]) => parseEntry(name, value, place))
  // The format allows neither overlaps nor holes: in the order of their offsets, the tensors fill the file.
  let end = dataStart
  for (const tensor of [...tensors].sort((a, b) => a.offset - b.offset || a.bytes - b.bytes)) {
    if (tensor.offset !== end) {
      const where = `${path}: offset of tensor ${shown(tensor.name)}`
      throw badFile(where, `${end - dataStart}, where the one before it ends`, tensor.offset - dataStart)
    }
    end += tensor.bytes
  }
  if (end !== size) throw badFile(`${path}: file size`, `${end}, as the header says`, size)
  return tensors
}

function parseEntry(name: string, value: unknown, { path, file, dataStart }: Place): TensorEntry {
  const where = `${path}: tensor ${shown(name)}`
  const { dtype: stored, shape, data_offsets: offsets } = asRecord(value, where)
  if (typeof stored !== 'string' || !Object.hasOwn(DTYPES, stored)) {
    const code = typeof stored === 'string' ? 'MODEL_UNSUPPORTED' : 'MODEL_MALFORMED'
    throw wrongValue(code, `${where}: dtype`, 'F32, F16 or BF16', stored)
  }
  if (!isSizes(shape)) throw badFile(`${where}: shape`, 'a list of whole numbers', shape)
  if (!isSizes(offsets) || offsets.length !== 2 || offsets[0] > offsets[1]) {
    throw badFile(`${where}: data_offsets`, '[begin, end] with begin <= end', offsets)
  }
  const { dtype, bytes: valueBytes } = DTYPES[stored]
  const bytes = offsets[1] - offsets[0]
  // A product above 2^53 is rounded, but never down to the exact number of bytes of a file.
  const needed = shape.reduce((product, length) => product * length, valueBytes)
  if (bytes !== needed) throw badFile(`${where}: data_offsets`, `${needed} apart, as shape says`, bytes)
  return { name, dtype, shape, file, offset: dataStart + offsets[0], bytes }
}

function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0)
}

function checkMetadata(value: unknown, where: string) {
  for (const [name, text] of Object.entries(asRecord(value, where))) {
    if (typeof text !== 'string') throw badFile(`${where}: ${shown(name)}`, 'a string', text)
  }
}
