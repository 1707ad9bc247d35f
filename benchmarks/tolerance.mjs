// node benchmarks/tolerance.mjs --model DIR --gguf FILE --json FILE: what a tolerant verifier tells apart, for proofs
// of rows and of sketches of several sizes. Each engine and cheat computes each text once for all forms.
//   --sequences N   texts; 200 by default
//   --llama MODULE  node-llama-cpp, or the path of its entry file
import { writeFileSync } from 'node:fs'
import os from 'node:os'
import { createRequire } from 'node:module'
import { parseArgs } from 'node:util'
import { commitOf } from './method/machine.mjs'

const require = createRequire(import.meta.url)
const { generate, Model } = require('../dist/index.js')
const { calibrate } = require('../dist/calibrate.js')
const { llamaRows } = require('../dist/row-sources.js')
const { openLlama } = require('../dist/adapters/node-llama-cpp.js')
const { cheatSources } = require('../dist/commands/cheat-sources.js')
const { sketchPartBytes } = require('../dist/sketch.js')

const text = { type: 'string' }
const { values: args } = parseArgs({
  options: { model: text, gguf: text, json: text, sequences: text, llama: text },
})
const numSequences = Number(args.sequences ?? 200)
const [MIN_TOKENS, MAX_TOKENS] = [128, 256]
const ROWS = { form: 'rows' }
const sketch = (projections) => ({ form: 'sketch', projections })
const FLASH = { 'flash and plain': [true, false], plain: [false] }
const SETTINGS = [
  { kvDtype: 'f16', attention: 'flash and plain', forms: [ROWS, sketch(8), sketch(16), sketch(32)] },
  { kvDtype: 'f32', attention: 'flash and plain', forms: [ROWS, sketch(16)] },
  { kvDtype: 'f32', attention: 'plain', forms: [ROWS, sketch(16)] },
]

const model = await Model.load(args.model, { threads: 1 })
const engine = await openLlama(args.gguf, { capacity: MAX_TOKENS, threads: 1, location: args.llama })
const texts = await textsOf(model)
const results = []
for (const { kvDtype, attention, forms } of SETTINGS) {
  const { sourcesFor, close } = await cheatSources(model, { cheat: [], threads: 1 })
  const runs = FLASH[attention].map((flashAttention) => ({ kvDtype, flashAttention, batchSize: 512 }))
  const honest = runs.map((run) => llamaRows(engine, model, run)).map(remembered)
  const cheats = sourcesFor(kvDtype).map(remembered)
  for (const [i, form] of forms.entries()) {
    // Tokens do not depend on the form: they are chosen once a setting.
    const chosen = (all) => (i === 0 ? all : all.map(({ name, rows }) => ({ name, rows })))
    const options = { generator: 'llama.cpp', honest: chosen(honest), cheats: chosen(cheats), kvDtype, ...form }
    const { profile, samplesPerPosition, ...found } = await calibrate(model, texts, options)
    const sampleBytes = bytesOf(form, kvDtype)
    const size = { sampleBytes, bytesPerToken: sampleBytes * samplesPerPosition }
    results.push({ kvDtype, attention, ...form, ...size, isProfile: profile !== null, ...found })
    console.log(summary(results.at(-1)))
  }
  await close()
}
const machine = { cpu: os.cpus()[0].model.trim(), os: `${os.type()} ${os.release()}`, node: process.version }
const setup = {
  modelDigest: model.digest,
  sequences: numSequences,
  tokens: [MIN_TOKENS, MAX_TOKENS],
  engine: `${engine.name}, ${engine.systemInfo}`,
}
await engine.close()
await model.close()
const report = { machine, commit: commitOf(), ...setup, results }
if (args.json) writeFileSync(args.json, `${JSON.stringify(report, null, 1)}\n`)

/** A source that computes the rows of a text once, whatever they are compared as. */
function remembered(source) {
  const known = new Map()
  return {
    ...source,
    async rows(tokens, plan) {
      const key = tokens.join()
      if (!known.has(key)) known.set(key, await source.rows(tokens, plan))
      return known.get(key)
    },
  }
}

function bytesOf({ form, projections }, kvDtype) {
  const { numKvHeads, headDim } = model.config
  return 2 * (form === 'rows' ? numKvHeads * headDim * (kvDtype === 'f32' ? 4 : 2) : sketchPartBytes(projections))
}

/** The model's own texts, of other seeds than those on which the default headroom was chosen. */
async function textsOf(model) {
  const texts = []
  for (let i = 0; i < numSequences; i++) {
    const length = MIN_TOKENS + Math.round((((i * 7) % numSequences) / (numSequences - 1)) * (MAX_TOKENS - MIN_TOKENS))
    const seed = Buffer.from(`tolerance ${i}`).toString('hex')
    const options = { maxNewTokens: length - 1, ignoreEos: true, temperature: 0.7 + (i % 4) / 10, seed }
    texts.push((await generate(model, [model.config.bosTokenId], options)).tokens)
  }
  return texts
}

function summary({ kvDtype, attention, form, projections = '', bytesPerToken, honest, cheats }) {
  const { rejectedSequences, heldOutSequences, strain } = honest
  const cells = cheats.map(({ name, detectedSequences, sequences, strain: { min } }) => {
    return `  ${name}: ${detectedSequences} of ${sequences}, strain from ${min.toFixed(2)}`
  })
  const honestly = `honest ${rejectedSequences} of ${heldOutSequences}, up to ${strain.max.toFixed(2)}`
  const size = `${bytesPerToken.toFixed(2)} bytes a token`
  const head = `${kvDtype}, ${attention}, ${form} ${projections}: ${size}, ${honestly}`
  return [head, ...cells].join('\n')
}
