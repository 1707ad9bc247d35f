// The cheats that a calibration tries: models that were given, copies with rounded weights, and rounded caches.

import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { CHANGES, roundedTo, type WeightChange, writeChangedModel } from '../attacks'
import type { RowSource } from '../calibrate'
import { PocError } from '../errors'
import type { KvDtype } from '../kv'
import { Model } from '../model'
import { checkSameShape, int8Rows, modelRows } from '../row-sources'

export interface CheatSources {
  sources: RowSource[]
  /** Cheats that could not be made, and why. */
  left: string[]
  close(): Promise<void>
}

const ROUNDINGS = { f16: roundedTo('f16'), bf16: roundedTo('bf16'), int8: CHANGES.int8 }

/** Writes a changed copy, unless the change leaves every weight as it is. */
async function isChanged(dir: string, copy: string, change: WeightChange): Promise<boolean> {
  try {
    await writeChangedModel(dir, copy, change)
    return true
  } catch (error) {
    if (error instanceof PocError && error.code === 'MODEL_UNSUPPORTED') return false
    throw error
  }
}

/** Opens every cheat; `close` frees their models and removes the copies. */
export async function cheatSources(
  model: Model,
  { cheat, kvDtype, threads }: { cheat: readonly string[]; kvDtype: KvDtype; threads?: number },
): Promise<CheatSources> {
  const folder = await mkdtemp(join(tmpdir(), 'poc-cheats-'))
  const models: Model[] = []
  const close = async () => {
    for (const one of models) await one.close()
    await rm(folder, { recursive: true, force: true })
  }
  const load = async (name: string, dir: string): Promise<RowSource> => {
    const other = await Model.load(dir, { threads })
    models.push(other)
    checkSameShape(model, other)
    return modelRows(name, other, kvDtype)
  }
  try {
    const sources: RowSource[] = []
    const left: string[] = []
    for (const dir of cheat) sources.push(await load(`model ${basename(dir)}`, dir))
    for (const [rounding, change] of Object.entries(ROUNDINGS)) {
      const copy = join(folder, rounding)
      if (await isChanged(model.path, copy, change)) sources.push(await load(`weights rounded to ${rounding}`, copy))
      else left.push(`weights rounded to ${rounding}: the model's own dtype is no wider`)
    }
    for (const dtype of ['f16', 'bf16'] as const) {
      if (kvDtype === 'f32' || dtype !== kvDtype) sources.push(modelRows(`K and V kept in ${dtype}`, model, dtype))
    }
    sources.push(int8Rows(model, kvDtype))
    return { sources, left, close }
  } catch (error) {
    await close()
    throw error
  }
}
