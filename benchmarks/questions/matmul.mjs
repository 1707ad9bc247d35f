// How do our matrix products compare with OpenBLAS, oneDNN and ONNX Runtime, and with what the CPU can do?
import { nearNormal } from '../method/models.mjs'
import { native } from '../method/native.mjs'
import { onnxMissing, openProduct } from '../method/onnx.mjs'
import { byRound, check, ENOUGH, median, rounded, sample } from '../method/sample.mjs'

const [ROWS, OUTPUTS, INPUTS] = [512, 5632, 2048]
const ONNX_ROUNDS = 3

export default async function matmul({ rounds, threadCounts, features }) {
  // Without this, OpenBLAS takes its Haswell kernels on CPUs newer than itself.
  const core = features.includes('avx512f') ? { OPENBLAS_CORETYPE: 'SkylakeX' } : {}
  const runs = []
  for (const threads of threadCounts) {
    const env = { ...core, OMP_NUM_THREADS: String(threads) }
    const run = await native('matmul', [threads, rounds + 2], env)
    runs.push({ ...run, overOnnx: onnxMissing() ?? (await overOnnx(threads, env)) })
  }
  const bf16 = runs[0].contenders['ours-bf16']
  const peak = byRound((seconds, gflops) => runs[0].flops / seconds / 1e9 / gflops, bf16.seconds, runs[0].peakGflops)
  return {
    'matmul-f32': againstOpenBlas(runs),
    'matmul-bf16-peak': { value: rounded(peak), detail: described(runs[0]) },
  }
}

function againstOpenBlas(runs) {
  const missing = 'OpenBLAS is not there; install it with: apt-get install libopenblas-dev'
  if (!runs[0].contenders.openblas) return { skipped: missing }
  const over = (rival) => (run) =>
    byRound((ours, theirs) => theirs / ours, run.contenders['ours-f32'].seconds, run.contenders[rival].seconds)
  const ratios = runs.map(over('openblas'))
  const oneDnn = runs[0].contenders.onednn ? runs.map(over('onednn')).map(rounded) : 'not there: libdnnl-dev'
  const byThreads = { overOpenBlas: ratios.map(rounded), overOneDnn: oneDnn }
  return { value: rounded(Math.min(...ratios)), detail: { ...byThreads, runs: runs.map(described) } }
}

/** Its calls and our program take turns, a process each. */
async function overOnnx(threads, env) {
  const [x, w] = [nearNormal(ROWS * INPUTS, 1, 1), nearNormal(INPUTS * OUTPUTS, 2, 1)]
  const product = await openProduct({ x, w, rows: ROWS, inputs: INPUTS, outputs: OUTPUTS, threads })
  const y = await product.run()
  for (let i = 0; i < y.length; i += 9973) {
    const [row, output] = [Math.floor(i / OUTPUTS), i % OUTPUTS]
    let sum = 0
    for (let j = 0; j < INPUTS; j++) sum += x[row * INPUTS + j] * w[j * OUTPUTS + output]
    check(Math.abs(sum - y[i]) < 0.01, `ONNX Runtime's product at ${i}`)
  }
  const ratios = []
  for (let round = 0; round < ONNX_ROUNDS; round++) {
    const { contenders } = await native('matmul', [threads, 1], env)
    await product.run()
    const { seconds } = await sample(() => product.run(), threads)
    ratios.push(seconds / contenders['ours-f32'].seconds[0])
  }
  await product.close()
  return rounded(median(ratios))
}

function described({ threads, flops, peakGflops, contenders, overOnnx }) {
  const peak = rounded(median(peakGflops))
  const rates = Object.entries(contenders).map(([name, { about, seconds, shares }]) => {
    const gflops = rounded(flops / median(seconds) / 1e9)
    const ofPeak = rounded(byRound((s, p) => flops / s / 1e9 / p, seconds, peakGflops))
    const noisy = shares.filter((share) => share < ENOUGH).length
    return [name, { about, gflops, ofPeak, leastShare: rounded(Math.min(...shares)), noisy }]
  })
  return { threads, peakGflops: peak, ...Object.fromEntries(rates), overOnnx }
}
