// What a result was measured on, without which it means nothing.
import { execFileSync } from 'node:child_process'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { info } from '../../dist/index.mjs'
import { native } from './native.mjs'

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '../..')

/** CPU and its measured limits on one thread and on two: GFLOP/s of fp32 multiply-adds, GB/s of reading memory. */
export async function describeMachine() {
  const { cpu } = info()
  const cores = os.availableParallelism()
  const threadCounts = cores > 1 ? [1, 2] : [1]
  const limits = {}
  for (const threads of threadCounts) limits[threads] = await native('limits', [threads])
  return {
    cpu: os.cpus()[0].model.trim(),
    cores,
    memoryGiB: Math.round(os.totalmem() / 2 ** 30),
    simd: cpu.best,
    features: cpu.features,
    os: `${os.type()} ${os.release()}`,
    node: process.version,
    threadCounts,
    limits,
  }
}

/** The commit that was measured, and whether code was changed since. */
export function commitOf() {
  const git = (...args) => execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim()
  try {
    const changed = git('status', '--porcelain', '--', 'lib', 'native', 'benchmarks', ':!benchmarks/results') !== ''
    return `${git('rev-parse', '--short', 'HEAD')}${changed ? ' with changes' : ''}`
  } catch {
    return 'unknown'
  }
}
