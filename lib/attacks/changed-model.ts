// Copies of a model folder with other weights: what cheaper, tuned or shortened deployments of it would run.
import { mkdir, open, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { PocError } from '../errors'
import { openFile, readExactly } from '../json'
import { type Checkpoint, readCheckpoint, type TensorEntry } from '../safetensors'
import { createRandom } from './random'
import { bytesOfValues, valuesOf, withMantissa } from './values'

/** What becomes of one tensor; null: it stays as it is. */
export type WeightChange = (
  tensor: TensorEntry,
  config: Checkpoint['config'],
) => null | ((values: Float32Array) => void)

const INT8_MAX = 127
const EMBEDDING = 'model.embed_tokens.weight'
const HEAD = 'lm_head.weight'

const isProjection = ({ name }: TensorEntry) => name.endsWith('_proj.weight')
const layerOf = ({ name }: TensorEntry) => Number(/^model\.layers\.(\d+)\./.exec(name)?.[1] ?? -1)

/** The copies that attacks use, by name. */
export const CHANGES = {
  /** Projections through int8, symmetric with one scale a row. */
  int8: (tensor) => (isProjection(tensor) ? roundRows(tensor) : null),
  /** Half the bits: bf16 of f32, and 3 bits of mantissa (as fp8 has them) of 16 bits. */
  half: (tensor) => (isProjection(tensor) ? roundEach(tensor.dtype === 'f32' ? 7 : 3) : null),
  /** One tensor of the first block, by one part in a hundred. */
  tuned: (tensor) => (tensor.name === 'model.layers.0.mlp.down_proj.weight' ? disturb(tensor, 0.01) : null),
  /** A product of two vectors added to each q and v projection. */
  lora: (tensor) => (/\.(?:q|v)_proj\.weight$/.test(tensor.name) ? addProduct(tensor, 0.02) : null),
  /** The first block does nothing. */
  pruned: (tensor) => {
    return layerOf(tensor) === 0 && /\.(?:o|down)_proj\.weight$/.test(tensor.name) ? (values) => values.fill(0) : null
  },
  /** Int8 in the second half of the blocks. */
  suffix: (tensor, { numLayers }) => {
    return isProjection(tensor) && layerOf(tensor) >= numLayers / 2 ? roundRows(tensor) : null
  },
  /** Int8 in the last block behind its K and V, which all are those of the model. */
  lastBlock: (tensor, { numLayers }) => {
    const isBehind = /\.(?:q_proj|o_proj|gate_proj|up_proj|down_proj)\.weight$/.test(tensor.name)
    return isBehind && layerOf(tensor) === numLayers - 1 ? roundRows(tensor) : null
  },
  /** The final norm, which only the virtual layer sees. */
  norm: (tensor) => (tensor.name === 'model.norm.weight' ? disturb(tensor, 0.01) : null),
  /** The output head alone through int8; a tied one is no longer tied. */
  head: (tensor) => (tensor.name === HEAD ? roundRows(tensor) : null),
} as const satisfies Record<string, WeightChange>

export type ChangeName = keyof typeof CHANGES

/** Projections through a narrower dtype; those that are stored in 16 bits stay as they are. */
export function roundedTo(dtype: 'f16' | 'bf16'): WeightChange {
  return (tensor) => {
    if (!isProjection(tensor) || tensor.dtype !== 'f32') return null
    return (values) => values.set(valuesOf(bytesOfValues(values, dtype), dtype))
  }
}

/**
 * Writes a copy of a model with changed weights, in one file and in the dtypes of the original.
 *
 * @throws {PocError} MODEL_UNSUPPORTED where the change leaves every weight as it is; what reading the folder throws.
 */
export async function writeChangedModel(dir: string, out: string, change: WeightChange): Promise<void> {
  const { config, files, tensors } = await readCheckpoint(dir)
  const source = JSON.parse(await readFile(join(dir, 'config.json'), 'utf8'))
  const all = [...tensors]
  const embedding = tensors.find(({ name }) => name === EMBEDDING)
  const ownHead = embedding && { ...embedding, name: HEAD }
  const unties = config.tiedHead && ownHead && change(ownHead, config)
  if (unties) all.push(ownHead)
  await mkdir(out, { recursive: true })
  const eos = { eos_token_id: config.eosTokenIds, tie_word_embeddings: config.tiedHead && !unties }
  await writeFile(join(out, 'config.json'), JSON.stringify({ ...source, ...eos }))
  const file = await open(join(out, 'model.safetensors'), 'w')
  let isChanged = false
  try {
    await file.write(headerOf(all))
    for (const tensor of all) {
      const bytes = await bytesOf(tensor, files)
      const changed = applied(bytes, tensor, change(tensor, config))
      isChanged ||= Buffer.compare(bytes, changed) !== 0
      await file.write(changed)
    }
  } finally {
    await file.close()
  }
  if (isChanged) return
  throw new PocError('MODEL_UNSUPPORTED', `${dir}: the change leaves every weight as it is`, { where: dir })
}

const DTYPE_NAMES = { f32: 'F32', f16: 'F16', bf16: 'BF16' } as const

function headerOf(tensors: readonly TensorEntry[]): Uint8Array {
  let end = 0
  const entries = tensors.map(({ name, dtype, shape, bytes }) => {
    end += bytes
    return [name, { dtype: DTYPE_NAMES[dtype], shape, data_offsets: [end - bytes, end] }] as const
  })
  const json = Buffer.from(JSON.stringify(Object.fromEntries(entries)))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(json.length))
  return Buffer.concat([length, json])
}

async function bytesOf({ file, offset, bytes }: TensorEntry, files: readonly string[]): Promise<Uint8Array> {
  const { handle } = await openFile(files[file])
  try {
    return await readExactly(handle, files[file], offset, new Uint8Array(bytes))
  } finally {
    await handle.close()
  }
}

function applied(bytes: Uint8Array, { dtype }: TensorEntry, change: ReturnType<WeightChange>): Uint8Array {
  if (!change) return bytes
  const values = valuesOf(bytes, dtype)
  change(values)
  return bytesOfValues(values, dtype)
}

function roundRows({ shape }: TensorEntry): (values: Float32Array) => void {
  const columns = shape[shape.length - 1]
  return (values) => {
    for (let start = 0; start < values.length; start += columns) roundRow(values.subarray(start, start + columns))
  }
}

function roundRow(row: Float32Array): void {
  const largest = row.reduce((most, value) => Math.max(most, Math.abs(value)), 0)
  const scale = largest / INT8_MAX || 1
  for (let i = 0; i < row.length; i++) row[i] = Math.round(row[i] / scale) * scale
}

function roundEach(bits: number): (values: Float32Array) => void {
  return (values) =>
    values.forEach((value, i) => {
      values[i] = withMantissa(value, bits)
    })
}

function disturb({ name }: TensorEntry, share: number): (values: Float32Array) => void {
  const random = createRandom(name)
  return (values) =>
    values.forEach((value, i) => {
      values[i] = value * (1 + (random.below(2) ? share : -share))
    })
}

function addProduct({ name, shape: [rows, columns] }: TensorEntry, scale: number): (values: Float32Array) => void {
  const random = createRandom(name)
  const signs = (count: number) => Float32Array.from({ length: count }, () => (random.below(2) ? 1 : -1))
  return (values) => {
    const left = signs(rows)
    const right = signs(columns)
    for (let i = 0; i < values.length; i++) values[i] += scale * left[Math.floor(i / columns)] * right[i % columns]
  }
}
