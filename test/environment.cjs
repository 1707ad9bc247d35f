'use strict'
// Native code and node's own modules live in the main realm, tests in a vm context with intrinsics of
// their own. Sharing the outer classes makes `toThrow(TypeError)` and typed-array checks mean what they say.
const { TestEnvironment } = require('jest-environment-node')
const shared = [
  'Error',
  'TypeError',
  'RangeError',
  'SyntaxError',
  'ArrayBuffer',
  'SharedArrayBuffer',
  'DataView',
  'Promise',
  'Uint8Array',
  'Uint16Array',
  'Uint32Array',
  'Int8Array',
  'Int16Array',
  'Int32Array',
  'Float32Array',
  'Float64Array',
  'BigInt64Array',
  'BigUint64Array',
]
module.exports = class extends TestEnvironment {
  async setup() {
    await super.setup()
    for (const name of shared) this.global[name] = globalThis[name]
  }
}
