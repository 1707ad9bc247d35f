'use strict'
// Runs one target under libFuzzer: `node engine.cjs ADDON TARGET LIBFUZZER-ARGUMENT...`; run.cjs starts it.
// Code of the library, and of the CBOR decoder behind it, is instrumented by istanbul as it is loaded; its counters
// are then put into memory that libFuzzer watches.
const path = require('node:path')
const { createInstrumenter } = require('istanbul-lib-instrument')
const { addHook } = require('pirates')

const [addonPath, targetPath, ...libFuzzerArguments] = process.argv.slice(2)
const addon = require(path.resolve(addonPath))

const dist = path.join(__dirname, '../../dist', path.sep)
const cborg = `${path.sep}node_modules${path.sep}cborg${path.sep}`
const instrumenter = createInstrumenter({ esModules: false, coverageVariable: '__coverage__' })
addHook((code, file) => instrumenter.instrumentSync(code, file), {
  exts: ['.js', '.cjs'],
  ignoreNodeModules: false,
  matcher: (file) => file.startsWith(dist) || file.includes(cborg),
})

/** Moves the counters of all loaded modules: statements, functions, branches. Returns how many there are. */
function moveCounters(into) {
  let used = 0
  const place = (counts) => {
    used += Object.keys(counts).length
    if (used > into.length) throw new Error(`more than ${into.length} counters`)
    return into.subarray(used - Object.keys(counts).length, used)
  }
  for (const module of Object.values(globalThis.__coverage__)) {
    module.s = place(module.s)
    module.f = place(module.f)
    for (const branch of Object.keys(module.b)) module.b[branch] = place(module.b[branch])
  }
  return used
}

const { fuzz, waits } = require(path.resolve(targetPath))
const whenDone = (bytes, done) => fuzz(bytes).then(done, (error) => done(String(error?.stack ?? error)))
const numCounters = moveCounters(new Uint8Array(addon.counters))
addon.start(['fuzz', ...libFuzzerArguments], numCounters, waits, waits ? whenDone : fuzz)
