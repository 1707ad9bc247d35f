// Digest and weights must be of the same files: one that is replaced while a model loads is noticed.
import { copyFileSync, renameSync, statSync, utimesSync } from 'node:fs'
import path from 'node:path'
import { checkUnchanged, fingerprints } from '../../lib/fingerprint'
import { type LoadOptions, Model } from '../../lib/model'
import { makeFolder, makeModel } from '../models/make'

/** Two weight files of one size, with the same time of modification. */
function twins() {
  const { dir } = makeModel()
  const other = makeModel({ seed: 2 })
  const weights = path.join(dir, 'model.safetensors')
  const twin = path.join(other.dir, 'model.safetensors')
  const { atime, mtime } = statSync(weights)
  for (const file of [weights, twin]) utimesSync(file, atime, mtime)
  expect(statSync(twin).size).toBe(statSync(weights).size)
  return { dir, weights, twin }
}

test.each<[string, () => LoadOptions]>([
  ['a plain load', () => ({})],
  ['a load that writes a cache file', () => ({ cacheDir: makeFolder() })],
  ['a load under a budget', () => ({ weightBudgetBytes: 1e9 })],
])('%s refuses a file that is replaced meanwhile', async (_, options) => {
  const { dir, twin, weights } = twins()
  let swapped = false
  const onProgress = () => {
    if (!swapped) renameSync(twin, weights)
    swapped = true
  }
  const loading = Model.load(dir, { backend: 'cpu', ...options(), onProgress })
  await expect(loading).rejects.toMatchObject({ code: 'MODEL_MALFORMED', where: weights })
  expect(swapped).toBe(true)
  await (await Model.load(dir, { backend: 'cpu', ...options() })).close() // left alone, it loads
})

test('a file that is the same but for its inode is another one; a missing one is named', async () => {
  const { weights, twin } = twins()
  const before = await fingerprints([weights, twin])
  await checkUnchanged([weights, twin], before)
  const copy = `${weights}.copy`
  copyFileSync(weights, copy)
  const { atime, mtime } = statSync(weights)
  utimesSync(copy, atime, mtime)
  renameSync(copy, weights)
  await expect(checkUnchanged([weights, twin], before)).rejects.toMatchObject({
    code: 'MODEL_MALFORMED',
    where: weights,
  })
  const missing = `${twin}.missing`
  await expect(fingerprints([missing])).rejects.toMatchObject({ code: 'FILE_NOT_FOUND', where: missing })
})
