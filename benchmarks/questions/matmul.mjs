// How do our matrix products compare with OpenBLAS and oneDNN, and with what the CPU can do?
import { native } from '../method/native.mjs'
import { byRound, median, rounded } from '../method/sample.mjs'

export default async function matmul({ rounds, threadCounts, features }) {
  // Without this, OpenBLAS takes its Haswell kernels on CPUs newer than itself.
  const core = features.includes('avx512f') ? { OPENBLAS_CORETYPE: 'SkylakeX' } : {}
  const runs = []
  for (const threads of threadCounts) {
    const env = { ...core, OMP_NUM_THREADS: String(threads) }
    runs.push(await native('matmul', [threads, rounds + 2], env))
  }
  const bf16 = runs[0].contenders['ours-bf16']
  const peak = byRound((seconds, gflops) => runs[0].flops / seconds / 1e9 / gflops, bf16.seconds, runs[0].peakGflops)
  return {
    'matmul-f32': againstOpenBlas(runs),
    'matmul-bf16-peak': { value: rounded(peak), detail: runs.map(described) },
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

function described({ threads, flops, peakGflops, contenders }) {
  const peak = rounded(median(peakGflops))
  const rates = Object.entries(contenders).map(([name, { about, seconds, shares }]) => {
    const gflops = rounded(flops / median(seconds) / 1e9)
    const ofPeak = rounded(byRound((s, p) => flops / s / 1e9 / p, seconds, peakGflops))
    return [name, { about, gflops, ofPeak, leastShare: rounded(Math.min(...shares)) }]
  })
  return { threads, peakGflops: peak, ...Object.fromEntries(rates) }
}
