// node benchmarks/proof-bytes.mjs [FILE]: what proofs of a model's shape weigh by mode and form, in bytes a token.
// No model is run: plans are drawn by the real samplers over random tokens, and paths are those of the real tree.
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { createPlan, drawChallenge, leafIndex, merkleTree, sketchBytes, vectorBytes } from '../dist/index.mjs'
import { commitOf } from './method/machine.mjs'

const DRAWS = 200
const SHAPES = {
  'Llama-3.1-8B': { numLayers: 32, numKvHeads: 8, headDim: 128, hiddenSize: 4096 },
  'TinyLlama-1.1B': { numLayers: 22, numKvHeads: 4, headDim: 64, hiddenSize: 2048 },
}
const HEADER = {
  version: 1,
  modelDigest: '00'.repeat(32),
  numerics: 'ieee32',
  kvDtype: 'bf16',
  promptLength: 1,
  sampling: null,
  stop: null,
  tokenSampler: 'bernoulli:1/32',
  layerSampler: 'stratified:2',
  nonce: '',
  previousRoot: '',
}

/** Bytes of what a proof carries of its samples and, behind a root, of the path; not of header and tokens. */
function carried(header, plan, tree) {
  const places = [...plan.layers].flatMap(([layer, positions]) => Array.from(positions, (p) => [layer, p]))
  const sizeAt = (layer) =>
    header.form === 'sketch' ? sketchBytes(header, layer) : vectorBytes(header, header.kvDtype, layer)
  const vectors = places.reduce((sum, [layer]) => sum + sizeAt(layer).k + sizeAt(layer).v, 0)
  const samples = header.form === 'digest' ? 32 : vectors + 4 * places.length
  const indices = places.map(([layer, p]) => leafIndex(header, layer, p)).sort((a, b) => a - b)
  return samples + (tree ? tree.path(indices).length : 0)
}

/** A tree of the right size; what is in it does not matter for lengths. */
function treeOf(numLeaves) {
  let nodes = 0
  for (let size = numLeaves; size > 1; ) nodes += size = Math.ceil(size / 2)
  return merkleTree(new Uint8Array(numLeaves * 32), new Uint8Array(nodes * 32))
}

const rows = []
for (const [shape, sizes] of Object.entries(SHAPES)) {
  for (const length of [512, 4096]) {
    for (const [challenge, depth, form] of [
      ['context', 'kv', 'rows'],
      ['context', 'kv', 'sketch'],
      ['context', 'kv', 'digest'],
      ['context', 'full', 'digest'],
      ['beacon', 'full', 'rows'],
      ['beacon', 'full', 'digest'],
    ]) {
      const header = { ...HEADER, ...sizes, challenge, depth, form }
      const tree = challenge === 'beacon' ? treeOf((length - 1) * (sizes.numLayers + 1)) : null
      let bytes = 0
      for (let draw = 0; draw < DRAWS; draw++) {
        const tokens = Uint32Array.from({ length }, () => randomBytes(2).readUInt16LE())
        const claim = { header, tokens, root: randomBytes(32).toString('hex') }
        const plan = tree ? drawChallenge(claim, '01').plan : createPlan(header, tokens)
        bytes += carried(header, plan, tree)
      }
      const bytesPerToken = Number((bytes / DRAWS / length).toFixed(2))
      rows.push({ shape, tokens: length, challenge, depth, form, bytesPerToken })
    }
  }
}
console.table(rows)
if (process.argv[2]) {
  const about = { commit: commitOf(), date: new Date().toISOString().slice(0, 10), draws: DRAWS }
  writeFileSync(process.argv[2], `${JSON.stringify({ ...about, kvDtype: 'bf16', rows }, null, 1)}\n`)
}
