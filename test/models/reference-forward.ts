// A plain forward pass in double precision, written from the published architectures and sharing nothing with the
// library: the yardstick for every architecture's K, V and logits.
import type { MadeModel } from './make'

export interface Reference {
  /** [layer][position]: (kv heads, head dim), K rotated. */
  k: number[][][]
  v: number[][][]
  /** Of the last position. */
  logits: number[]
}

const dot = (a: ArrayLike<number>, b: ArrayLike<number>, from = 0) => {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += a[i] * b[from + i]
  return sum
}

/** RoPE frequencies, with Llama 3.1's stretching where the config asks for it. */
function frequencies(config: Record<string, unknown>): number[] {
  const dim = config.head_dim as number
  const scaling = config.rope_scaling as Record<string, number> | null | undefined
  return Array.from({ length: dim / 2 }, (_, i) => {
    const plain = (config.rope_theta as number) ** ((-2 * i) / dim)
    if (!scaling) return plain
    const { factor, low_freq_factor: low, high_freq_factor: high, original_max_position_embeddings: original } = scaling
    const turns = (original * plain) / (2 * Math.PI)
    const blend = Math.min(1, Math.max(0, (turns - low) / (high - low)))
    return blend * plain + ((1 - blend) * plain) / factor
  })
}

export function referenceForward({ config, tensors }: MadeModel, tokens: ArrayLike<number>): Reference {
  const size = (name: string) => config[name] as number
  const dim = size('head_dim')
  const [heads, kvHeads] = [size('num_attention_heads'), size('num_key_value_heads')]
  const weight = (name: string) => {
    const tensor = tensors.get(name)
    if (!tensor) throw new Error(`the made model has no ${name}`)
    return tensor.values
  }
  const linear = (name: string, x: number[]) => {
    const w = weight(`${name}.weight`)
    const bias = tensors.get(`${name}.bias`)?.values
    return Array.from({ length: w.length / x.length }, (_, row) => dot(x, w, row * x.length) + (bias?.[row] ?? 0))
  }
  const norm = (x: number[], w: ArrayLike<number>) => {
    const scale = 1 / Math.sqrt(dot(x, x) / x.length + size('rms_norm_eps'))
    return x.map((value, i) => value * scale * w[i])
  }
  const freqs = frequencies(config)
  const rotated = (x: number[], position: number, normName: string) => {
    const perHead = tensors.get(normName)?.values
    const out: number[] = []
    for (let from = 0; from < x.length; from += dim) {
      const head = perHead ? norm(x.slice(from, from + dim), perHead) : x.slice(from, from + dim)
      head.forEach((value, i) => {
        const angle = position * freqs[i % (dim / 2)]
        const partner = i < dim / 2 ? -head[i + dim / 2] : head[i - dim / 2]
        out.push(value * Math.cos(angle) + partner * Math.sin(angle))
      })
    }
    return out
  }
  const window = (config.sliding_window as number | null | undefined) ?? Number.POSITIVE_INFINITY

  const embedding = weight('model.embed_tokens.weight')
  const hidden = size('hidden_size')
  const x = Array.from(tokens, (token) => Array.from(embedding.slice(token * hidden, (token + 1) * hidden)))
  const [k, v]: number[][][][] = [[], []]
  for (let layer = 0; layer < size('num_hidden_layers'); layer++) {
    const at = `model.layers.${layer}.`
    const normed = x.map((row) => norm(row, weight(`${at}input_layernorm.weight`)))
    const q = normed.map((row, p) => rotated(linear(`${at}self_attn.q_proj`, row), p, `${at}self_attn.q_norm.weight`))
    k.push(normed.map((row, p) => rotated(linear(`${at}self_attn.k_proj`, row), p, `${at}self_attn.k_norm.weight`)))
    v.push(normed.map((row) => linear(`${at}self_attn.v_proj`, row)))
    x.forEach((row, p) => {
      const attended: number[] = []
      for (let head = 0; head < heads; head++) {
        const kv = Math.floor((head * kvHeads) / heads) * dim
        const query = q[p].slice(head * dim, (head + 1) * dim)
        const keys = Array.from({ length: p + 1 }, (_, t) => t).filter((t) => p - t < window)
        const scores = keys.map((t) => dot(query, k[layer][t], kv) / Math.sqrt(dim))
        const top = Math.max(...scores)
        const weights = scores.map((score) => Math.exp(score - top))
        const total = weights.reduce((a, b) => a + b)
        for (let d = 0; d < dim; d++) {
          attended.push(keys.reduce((sum, t, i) => sum + (weights[i] / total) * v[layer][t][kv + d], 0))
        }
      }
      const output = linear(`${at}self_attn.o_proj`, attended)
      for (let i = 0; i < row.length; i++) row[i] += output[i]
      const y = norm(row, weight(`${at}post_attention_layernorm.weight`))
      const up = linear(`${at}mlp.up_proj`, y)
      const gated = linear(`${at}mlp.gate_proj`, y).map((g, i) => (g / (1 + Math.exp(-g))) * up[i])
      const down = linear(`${at}mlp.down_proj`, gated)
      for (let i = 0; i < row.length; i++) row[i] += down[i]
    })
  }
  const last = norm(x[x.length - 1], weight('model.norm.weight'))
  const head = config.tie_word_embeddings ? 'model.embed_tokens' : 'lm_head'
  return { k, v, logits: linear(head, last) }
}
