import { existsSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { temporaryFolder } from '../../lib/temporary-folder'

test('a folder is there until it is removed, and then the end of the process has nothing to do', async () => {
  const before = process.listenerCount('exit')
  const folder = await temporaryFolder('poc-test-')
  writeFileSync(path.join(folder.path, 'file'), 'content')
  await folder.remove()
  expect(existsSync(folder.path)).toBe(false)
  expect(process.listenerCount('exit')).toBe(before)
})

test('a process that ends without removing it takes it away', async () => {
  const before = process.listeners('exit')
  const folder = await temporaryFolder('poc-test-')
  writeFileSync(path.join(folder.path, 'file'), 'content')
  const added = process.listeners('exit').filter((listener) => !before.includes(listener))
  expect(added).toHaveLength(1)
  added[0](0)
  expect(existsSync(folder.path)).toBe(false)
  await folder.remove()
})

test('many are no more to the process than one, and each is kept until its own removal', async () => {
  const before = process.listenerCount('exit')
  const folders = await Promise.all(Array.from({ length: 12 }, () => temporaryFolder('poc-test-')))
  expect(process.listenerCount('exit')).toBe(before + 1)
  await folders[0].remove()
  expect(folders.map(({ path: own }) => existsSync(own))).toEqual([false, ...Array(11).fill(true)])
  expect(process.listenerCount('exit')).toBe(before + 1)
  await Promise.all(folders.map((folder) => folder.remove()))
  expect(process.listenerCount('exit')).toBe(before)
})
