// The demo's dishonest generator: a model folder whose weights went through int8, as a cheaper deployment's would.

import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { PocError } from '../errors'
import { readCheckpoint, type TensorEntry } from '../safetensors'

const INT8_MAX = 127

/**
 * Writes a copy of a bf16 model whose projection weights are rounded to int8, symmetric with one scale a row.
 *
 * @param dir - A folder with one weight file.
 * @throws {PocError} MODEL_UNSUPPORTED for weights in another dtype; what reading the folder throws.
 */
export async function writeCheapModel(dir: string, out: string): Promise<void> {
  const { files, tensors } = await readCheckpoint(dir)
  const projections = tensors.filter(({ name }) => name.endsWith('_proj.weight'))
  if (files.length !== 1 || projections.some(({ dtype }) => dtype !== 'bf16')) {
    throw new PocError('MODEL_UNSUPPORTED', `${dir} must have its weights in one file in bf16`, { where: dir })
  }
  const weights = await readFile(files[0])
  const view = new DataView(weights.buffer, weights.byteOffset, weights.byteLength)
  for (const projection of projections) roundTensor(view, projection)
  await mkdir(out, { recursive: true })
  await copyFile(join(dir, 'config.json'), join(out, 'config.json'))
  await writeFile(join(out, basename(files[0])), weights)
}

function roundTensor(view: DataView, { offset, shape }: TensorEntry): void {
  const [rows, columns] = shape
  for (let row = 0; row < rows; row++) roundRow(view, offset + row * columns * 2, columns)
}

function roundRow(view: DataView, offset: number, columns: number): void {
  let largest = 0
  for (let i = 0; i < columns; i++) largest = Math.max(largest, Math.abs(bf16At(view, offset + i * 2)))
  const scale = largest / INT8_MAX || 1
  for (let i = 0; i < columns; i++) {
    const at = offset + i * 2
    view.setUint16(at, toBf16(Math.round(bf16At(view, at) / scale) * scale), true)
  }
}

function bf16At(view: DataView, offset: number): number {
  word.setUint32(0, view.getUint16(offset, true) << 16)
  return word.getFloat32(0)
}

// Nearest even, for finite values.
function toBf16(value: number): number {
  word.setFloat32(0, value)
  const bits = word.getUint32(0)
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16
}

const word = new DataView(new ArrayBuffer(4))
