// The native programs of benchmarks/native: built when first needed, and run.
import { execFile } from 'node:child_process'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '../..')
const build = path.join(root, 'build/benchmarks/native')
const run = promisify(execFile)

export async function buildNative() {
  const options = ['-DCMAKE_BUILD_TYPE=Release', '-DPOC_ADDON=OFF', '-DPOC_CUDA=OFF', '-DPOC_BENCHMARKS=ON']
  await run('cmake', ['-S', root, '-B', build, `-DPOC_OUT=${path.join(build, 'out')}`, ...options])
  await run('cmake', ['--build', build, '--parallel', '2', '--target', 'matmul_benchmark', 'limits_benchmark'])
}

/** What a program printed, as JSON. */
export async function native(program, args, env = {}) {
  const options = { env: { ...process.env, ...env }, maxBuffer: 1 << 24 }
  const { stdout } = await run(path.join(build, `${program}_benchmark`), args.map(String), options)
  return JSON.parse(stdout)
}
