// The cheats that a calibration tries: models that were given, copies with rounded weights, and rounded caches.

import { basename, join } from 'node:path'
import { CHANGES, roundedTo, type WeightChange, writeChangedModel } from '../attacks'
import type { RowSource } from '../calibrate'
import { PocError } from '../errors'
import type { KvDtype } from '../kv'
import { Model } from '../model'
import { checkSameShape, int8Rows, modelRows } from '../row-sources'
import { temporaryFolder } from '../temporary-folder'

export interface CheatSources {
  /** All of them, by generators whose cache has this dtype; the verifier's own dtype is no cheat. */
  sourcesFor(kvDtype: KvDtype, verifierKvDtype?: KvDtype): RowSource[]
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

/** Opens every cheat's model; `close` frees them and removes the copies. */
export async function cheatSources(
  model: Model,
  { cheat, threads, signal }: { cheat: readonly string[]; threads?: number; signal?: AbortSignal },
): Promise<CheatSources> {
  const folder = await temporaryFolder('poc-cheats-')
  const models: { name: string; model: Model }[] = []
  const left: string[] = []
  const close = async () => {
    for (const one of models) await one.model.close()
    await folder.remove()
  }
  const load = async (name: string, dir: string) => {
    const other = await Model.load(dir, { threads, signal })
    models.push({ name, model: other })
    checkSameShape(model, other)
  }
  try {
    for (const dir of cheat) await load(`model ${basename(dir)}`, dir)
    for (const [rounding, change] of Object.entries(ROUNDINGS)) {
      signal?.throwIfAborted()
      const copy = join(folder.path, rounding)
      if (await isChanged(model.path, copy, change)) await load(`weights rounded to ${rounding}`, copy)
      else left.push(`weights rounded to ${rounding}: the model's own dtype is no wider`)
    }
  } catch (error) {
    await close()
    throw error
  }
  const sourcesFor = (kvDtype: KvDtype, verifierKvDtype = kvDtype) => [
    ...models.map((one) => modelRows(one.name, one.model, kvDtype, signal)),
    ...(['f16', 'bf16'] as const)
      .filter((dtype) => dtype !== kvDtype && dtype !== verifierKvDtype)
      .map((dtype) => modelRows(`K and V kept in ${dtype}`, model, dtype, signal)),
    int8Rows(model, kvDtype, signal),
  ]
  return { sourcesFor, left, close }
}
