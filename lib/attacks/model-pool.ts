// The models of an examination: the real one, and changed copies that are written and loaded when an attack needs them.
import { PocError } from '../errors'
import { Model } from '../model'
import { type TemporaryFolder, temporaryFolder } from '../temporary-folder'
import { CHANGES, type ChangeName, writeChangedModel } from './changed-model'

/** `real`, or what a forger runs in its place. */
export type ModelName = 'real' | ChangeName

export interface ModelPool {
  readonly real: Model
  get(name: ModelName): Promise<Model>
  /** Closes the copies and removes their files; the real model is its caller's. */
  close(): Promise<void>
}

/** How copies are loaded. */
export interface PoolOptions {
  /** Of the CPU backend; default one per available core. */
  threads?: number
  signal?: AbortSignal
}

/**
 * @param cheap - A folder to use in the place of the int8 copy; of the same shape and vocabulary.
 */
export function createModelPool(real: Model, cheap: string | undefined, options: PoolOptions = {}): ModelPool {
  const loadOptions = { ...options, backend: real.backend }
  const loading = new Map<ChangeName, Promise<Model>>()
  const folders: TemporaryFolder[] = []
  const load = async (name: ChangeName): Promise<Model> => {
    if (name === 'int8' && cheap !== undefined) return sameShape(real, await Model.load(cheap, loadOptions))
    const folder = await temporaryFolder('poc-attack-')
    folders.push(folder)
    await writeChangedModel(real.path, folder.path, CHANGES[name])
    return await Model.load(folder.path, loadOptions)
  }
  return {
    real,
    async get(name) {
      if (name === 'real') return real
      const known = loading.get(name) ?? load(name)
      loading.set(name, known)
      return await known
    },
    async close() {
      const models = await Promise.allSettled(loading.values())
      await Promise.all(models.map((model) => model.status === 'fulfilled' && model.value.close()))
      await Promise.all(folders.map((folder) => folder.remove()))
    },
  }
}

function sameShape(real: Model, cheap: Model): Model {
  for (const key of ['numLayers', 'numKvHeads', 'headDim', 'hiddenSize', 'vocabSize'] as const) {
    if (real.config[key] === cheap.config[key]) continue
    void cheap.close()
    const [expected, received] = [`${key} ${real.config[key]}`, String(cheap.config[key])]
    const message = `the cheap model must have the real one's ${expected}, received ${received}`
    throw new PocError('INVALID_ARGUMENT', message, { where: 'cheapModel', expected, received })
  }
  return cheap
}
