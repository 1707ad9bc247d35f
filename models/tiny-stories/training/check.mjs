// A plain float32 Llama (greedy, KV cache), compared with PyTorch's continuations in reference.json.
//   node check.mjs [model folder with a reference.json of its own]
import { readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const f = Math.fround
const here = dirname(fileURLToPath(import.meta.url))
const folder = process.argv[2] ?? join(here, '..')
const reference = join(process.argv[2] ?? here, 'reference.json')

function loadTensors(path) {
  const file = readFileSync(path)
  const start = 8 + Number(file.readBigUInt64LE(0))
  const { __metadata__, ...header } = JSON.parse(file.toString('utf8', 8, start))
  const tensors = Object.entries(header).map(([name, { dtype, data_offsets }]) => {
    if (dtype !== 'BF16') throw new Error(`${name}: ${dtype}`)
    const [from, to] = data_offsets
    const bits = new Uint32Array((to - from) / 2) // bf16 is the upper half of a float32
    for (let i = 0; i < bits.length; i++) bits[i] = file.readUInt16LE(start + from + 2 * i) << 16
    return [name, new Float32Array(bits.buffer)]
  })
  return Object.fromEntries(tensors)
}

function dot(a, aAt, b, bAt, n) {
  let sum = 0
  for (let i = 0; i < n; i++) sum = f(sum + f(a[aAt + i] * b[bAt + i]))
  return sum
}

const matvec = (w, x) =>
  Float32Array.from({ length: w.length / x.length }, (_, r) => dot(w, r * x.length, x, 0, x.length))

function rmsNorm(x, w, eps) {
  const scale = f(1 / Math.sqrt(dot(x, 0, x, 0, x.length) / x.length + eps))
  return x.map((v, i) => w[i] * f(v * scale))
}

class Llama {
  constructor(config, tensors) {
    this.config = config
    this.tensors = tensors
    this.cache = Array.from({ length: config.num_hidden_layers }, () => ({ k: [], v: [] }))
    this.position = 0
  }

  rope(x) {
    // rotate-half: element i pairs with i + dim / 2
    const { head_dim: dim, rope_theta: theta } = this.config
    for (let head = 0; head < x.length; head += dim)
      for (let i = 0; i < dim / 2; i++) {
        const angle = f(this.position * f(theta ** ((-2 * i) / dim)))
        const [c, s, a, b] = [f(Math.cos(angle)), f(Math.sin(angle)), x[head + i], x[head + i + dim / 2]]
        x[head + i] = f(a * c) - f(b * s)
        x[head + i + dim / 2] = f(b * c) + f(a * s)
      }
    return x
  }

  attention(q, { k, v }) {
    const { num_attention_heads: heads, num_key_value_heads: kvHeads, head_dim: dim } = this.config
    const out = new Float32Array(heads * dim)
    for (let h = 0; h < heads; h++) {
      const kv = Math.floor(h / (heads / kvHeads)) * dim
      const scores = Float32Array.from(k, (key) => dot(q, h * dim, key, kv, dim) / Math.sqrt(dim))
      const max = scores.reduce((a, b) => Math.max(a, b))
      const weights = scores.map((s) => Math.exp(s - max))
      const total = weights.reduce((a, b) => f(a + b))
      v.forEach((value, t) => {
        for (let i = 0; i < dim; i++) out[h * dim + i] += f(f(weights[t] / total) * value[kv + i])
      })
    }
    return out
  }

  forward(id) {
    // one token in, logits out
    const { hidden_size: size, rms_norm_eps: eps } = this.config
    const embed = this.tensors['model.embed_tokens.weight']
    let x = embed.slice(id * size, (id + 1) * size)
    const add = (y) => {
      x = x.map((v, i) => v + y[i])
    }
    this.cache.forEach((cache, n) => {
      const w = (name) => this.tensors[`model.layers.${n}.${name}.weight`]
      let y = rmsNorm(x, w('input_layernorm'), eps)
      cache.k.push(this.rope(matvec(w('self_attn.k_proj'), y)))
      cache.v.push(matvec(w('self_attn.v_proj'), y))
      add(matvec(w('self_attn.o_proj'), this.attention(this.rope(matvec(w('self_attn.q_proj'), y)), cache)))
      y = rmsNorm(x, w('post_attention_layernorm'), eps)
      const up = matvec(w('mlp.up_proj'), y)
      const gated = matvec(w('mlp.gate_proj'), y).map((g, i) => f(g / (1 + Math.exp(-g))) * up[i])
      add(matvec(w('mlp.down_proj'), gated))
    })
    this.position++
    return matvec(embed, rmsNorm(x, this.tensors['model.norm.weight'], eps)) // tied head
  }
}

const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'))
const tensors = loadTensors(join(folder, 'model.safetensors'))
let failed = false
for (const { prompt, ids, continuation, margins } of JSON.parse(readFileSync(reference, 'utf8'))) {
  const model = new Llama(config, tensors)
  let logits,
    same = 0,
    worst = 0
  for (const id of ids) logits = model.forward(id)
  continuation.forEach((id, step) => {
    const best = logits.reduce((a, v, i) => (v > logits[a] ? i : a), 0)
    const second = logits.reduce((a, v, i) => (i !== best && v > a ? v : a), -Infinity)
    if (best === id) {
      same++
      worst = Math.max(worst, Math.abs(logits[best] - second - margins[step]))
    } else {
      console.log(`  step ${step}: ${best} here, ${id} in PyTorch, whose margin was ${margins[step]}`)
      failed ||= margins[step] > 1e-3 // a smaller one is a near-tie
    }
    logits = model.forward(id) // follow PyTorch, so that every step is compared
  })
  console.log(
    `${JSON.stringify(prompt)}: ${same} of ${continuation.length} ids the same; ` +
      `smallest margin ${Math.min(...margins)}, margins differ by at most ${worst.toExponential(1)}`,
  )
}
process.exitCode = failed ? 1 : 0
