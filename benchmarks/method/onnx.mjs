// onnxruntime-node, as one more rival in matrix products: a model of a single MatMul, written here.
// Format: onnx/onnx.proto, in protocol buffers' wire format.
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

const folder = path.join(path.dirname(fileURLToPath(import.meta.url)), '../rivals/node_modules/onnxruntime-node')
const FLOAT = 1

/** Why it cannot be asked; null where it can. */
export const onnxMissing = () =>
  existsSync(folder) ? null : 'onnxruntime-node is not there; install it with: npm install --prefix benchmarks/rivals'

/** y (rows, outputs) = x (rows, inputs) * w (inputs, outputs), for one w that may be prepacked; both row-major. */
export async function openProduct({ x, w, rows, inputs, outputs, threads }) {
  const { InferenceSession, Tensor } = createRequire(import.meta.url)(folder)
  const model = matmulModel({ w, rows, inputs, outputs })
  const session = await InferenceSession.create(model, { intraOpNumThreads: threads, interOpNumThreads: 1 })
  const feed = { x: new Tensor('float32', x, [rows, inputs]) }
  return {
    run: async () => (await session.run(feed)).y.data,
    close: () => session.release(),
  }
}

function matmulModel({ w, rows, inputs, outputs }) {
  const node = [text(1, 'x'), text(1, 'w'), text(2, 'y'), text(4, 'MatMul')]
  const weight = [number(1, inputs), number(1, outputs), number(2, FLOAT), text(8, 'w'), bytes(9, w)]
  const graph = [
    message(1, node),
    text(2, 'product'),
    message(5, weight),
    message(11, value('x', rows, inputs)),
    message(12, value('y', rows, outputs)),
  ]
  return Buffer.concat([number(1, 8), message(7, graph), message(8, [number(2, 13)])])
}

function value(name, ...dims) {
  const shape = dims.map((size) => message(1, [number(1, size)]))
  return [text(1, name), message(2, [message(1, [number(1, FLOAT), message(2, shape)])])]
}

function varint(n) {
  const out = []
  for (; n > 127; n = Math.floor(n / 128)) out.push((n % 128) + 128)
  return Buffer.from([...out, n])
}

const number = (field, n) => Buffer.concat([varint(field * 8), varint(n)])
const chunk = (field, data) => Buffer.concat([varint(field * 8 + 2), varint(data.length), data])
const text = (field, string) => chunk(field, Buffer.from(string))
const message = (field, parts) => chunk(field, Buffer.concat(parts))
const bytes = (field, array) => chunk(field, Buffer.from(array.buffer, array.byteOffset, array.byteLength))
