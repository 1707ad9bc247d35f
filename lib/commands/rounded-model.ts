// Copies of a model whose projection weights went through f16, bf16 or int8: what a cheaper deployment would run.

import { copyFile, mkdir, open, readdir } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { readExactly } from '../json'
import { readCheckpoint, type TensorEntry } from '../safetensors'

export type Rounding = 'f16' | 'bf16' | 'int8'

const INT8_MAX = 127

/** Whether rounding changes anything, and gives numbers that the stored dtype has: bf16 weights are narrow already. */
export async function canRound(dir: string, rounding: Rounding): Promise<boolean> {
  const { tensors } = await readCheckpoint(dir)
  const dtypes = tensors.filter(isProjection).map(({ dtype }) => dtype)
  return dtypes.every((dtype) => dtype === 'f32' || (dtype === 'bf16' && rounding === 'int8'))
}

/**
 * Writes a copy whose projection weights are rounded, int8 being symmetric with one scale a row. They stay in the
 * dtype that they are stored in.
 *
 * @param dir - A model that {@link canRound} is true of.
 * @throws {PocError} What reading the folder throws.
 */
export async function writeRoundedModel(dir: string, out: string, rounding: Rounding): Promise<void> {
  const { files, tensors } = await readCheckpoint(dir)
  await mkdir(out, { recursive: true })
  const names = await readdir(dir)
  for (const name of names.filter((one) => one.endsWith('.json'))) await copyFile(join(dir, name), join(out, name))
  for (const [file, path] of files.entries()) {
    const copy = join(out, basename(path))
    await copyFile(path, copy)
    const handle = await open(copy, 'r+')
    try {
      for (const tensor of tensors) {
        if (tensor.file !== file || !isProjection(tensor)) continue
        const bytes = await readExactly(handle, copy, tensor.offset, new Uint8Array(tensor.bytes))
        roundTensor(bytes, tensor, rounding)
        await handle.write(bytes, 0, bytes.length, tensor.offset)
      }
    } finally {
      await handle.close()
    }
  }
}

function isProjection({ name }: TensorEntry): boolean {
  return name.endsWith('_proj.weight')
}

function roundTensor(bytes: Uint8Array, { dtype, shape }: TensorEntry, rounding: Rounding): void {
  const [rows, columns] = shape
  const { get, set } = dtype === 'f32' ? binary32(bytes) : bfloat16(bytes)
  for (let row = 0; row < rows; row++) {
    let largest = 0
    for (let i = row * columns; i < (row + 1) * columns; i++) largest = Math.max(largest, Math.abs(get(i)))
    const scale = largest / INT8_MAX || 1
    for (let i = row * columns; i < (row + 1) * columns; i++) {
      set(i, round[rounding](get(i), scale))
    }
  }
}

const round: Readonly<Record<Rounding, (value: number, scale: number) => number>> = {
  f16: toF16,
  bf16: toBf16,
  int8: (value, scale) => Math.round(value / scale) * scale,
}

function binary32(bytes: Uint8Array) {
  const view = new DataView(bytes.buffer)
  return {
    get: (i: number) => view.getFloat32(4 * i, true),
    set: (i: number, value: number) => view.setFloat32(4 * i, value, true),
  }
}

function bfloat16(bytes: Uint8Array) {
  const view = new DataView(bytes.buffer)
  return {
    get: (i: number) => {
      word.setUint32(0, view.getUint16(2 * i, true) << 16)
      return word.getFloat32(0)
    },
    set: (i: number, value: number) => {
      word.setFloat32(0, toBf16(value))
      view.setUint16(2 * i, word.getUint16(0), true)
    },
  }
}

// Nearest even, for finite values.
function toBf16(value: number): number {
  word.setFloat32(0, value)
  const bits = word.getUint32(0)
  word.setUint32(0, (bits + 0x7fff + ((bits >>> 16) & 1)) & 0xffff0000)
  return word.getFloat32(0)
}

// Nearest even, for values that are finite in binary16: adding 3 * 2^51 units rounds to a whole number of them.
function toF16(value: number): number {
  word.setFloat32(0, value)
  const exponent = Math.max(((word.getUint32(0) >>> 23) & 0xff) - 127, -14)
  const unit = 2 ** (exponent - 10)
  return (value / unit + 3 * 2 ** 51 - 3 * 2 ** 51) * unit
}

const word = new DataView(new ArrayBuffer(4))
