'use strict'
// Files in memory in the place of those of node:fs/promises, for code that opens and reads them. Real ones cost a
// switch of threads for every call, and thereby a hundred inputs for every one that is tried.
const promises = require('node:fs/promises')

/** Path -> contents; what is not in here does not exist. */
const files = new Map()

function contentsOf(path) {
  const contents = files.get(path)
  if (contents) return contents
  throw Object.assign(new Error(`ENOENT: ${path}`), { code: 'ENOENT' })
}

const handleOf = (contents) => ({
  async read(into, offset, length, position) {
    const part = contents.subarray(position, position + length)
    into.set(part, offset)
    return { bytesRead: part.length, buffer: into }
  },
  async close() {},
})

promises.access = async (path) => void contentsOf(path)
promises.open = async (path) => handleOf(contentsOf(path))
promises.stat = async (path) => ({ size: contentsOf(path).length, mtimeMs: 0, isFile: () => true })

module.exports = { files }
