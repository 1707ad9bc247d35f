'use strict'
// A model folder, one of whose files is somebody else's: the first byte says which, the rest is its contents or, where
// they are no JSON, edits of what it should hold. Nothing of the folder's weights is read.
const path = require('node:path')
const { attemptLater, dist, fuzzTarget, must } = require('../target.cjs')
const { files } = require('../memory-files.cjs')
const { jsonOrEdited, wordsOf } = require('../edits.cjs')
const { CONFIGS, weightHeader } = require('../model-folder.cjs')

const { readCheckpoint } = dist('safetensors')

const [config] = CONFIGS
const { header, dataBytes } = weightHeader(config)
const weight_map = Object.fromEntries(Object.keys(header).map((name) => [name, 'a.safetensors']))
const { __metadata__, ...listed } = weight_map

const sealed = (text, length = text.length) => {
  const prefix = Buffer.alloc(8)
  prefix.writeBigUInt64LE(BigInt(length))
  return Buffer.concat([prefix, Buffer.from(text), Buffer.alloc(dataBytes)])
}
const weights = sealed(JSON.stringify(header))

// What the folder holds when all is well, by the first byte of an input; the file of that byte is replaced.
const KINDS = [
  { file: 'config.json', example: config, rest: { 'model.safetensors': weights } },
  { file: 'model.safetensors', example: header, rest: { 'config.json': JSON.stringify(config) } },
  {
    file: 'model.safetensors.index.json',
    example: { metadata: { total_size: dataBytes }, weight_map: listed },
    rest: { 'config.json': JSON.stringify(config), 'a.safetensors': weights },
  },
  {
    file: 'generation_config.json',
    example: { eos_token_id: [2, 3], do_sample: true },
    rest: { 'config.json': JSON.stringify(config), 'model.safetensors': weights },
  },
]
const FOLDER = path.resolve('model')
const words = wordsOf(...KINDS.map(({ example }) => example))

function contentsOf({ file, example }, bytes) {
  const isWeights = file === 'model.safetensors'
  if (isWeights && bytes[0] === 0) return bytes.subarray(1) // a file of any bytes
  const text = JSON.stringify(jsonOrEdited([example], bytes, words)) ?? ''
  return isWeights ? sealed(text) : text
}

module.exports = fuzzTarget({
  waits: true,
  seeds: () => [
    ...KINDS.flatMap(({ example }, kind) => [
      Uint8Array.of(kind),
      `${String.fromCharCode(kind)}${JSON.stringify(example)}`,
    ]),
    Buffer.concat([Uint8Array.of(1, 0), weights]),
  ],
  words,
  async run(bytes) {
    const kind = (bytes[0] ?? 0) % KINDS.length
    const { file: hostile, rest } = KINDS[kind]
    const contents = { ...rest, [hostile]: contentsOf(KINDS[kind], bytes.subarray(1)) }
    files.clear()
    for (const name of Object.keys(contents)) files.set(path.join(FOLDER, name), Buffer.from(contents[name]))
    const codes = ['MODEL_MALFORMED', 'MODEL_UNSUPPORTED', 'FILE_NOT_FOUND']
    const checkpoint = await attemptLater(codes, () => readCheckpoint(FOLDER))
    if (!checkpoint) return
    for (const { file, offset, bytes: size } of checkpoint.tensors) {
      must(offset >= 8 && offset + size <= checkpoint.fileSizes[file], 'a tensor lies within its file')
    }
  },
})
