'use strict'
// Builds the addon from CMakeLists.txt into build/Release; never downloads. cmake-js where it is
// installed (this repository), plain cmake elsewhere (a user's source build).
//   --tests        also build the native tests, and run them
//   -DNAME=VALUE   goes to CMake
const { spawnSync } = require('node:child_process')
const os = require('node:os')
const path = require('node:path')

const root = path.join(__dirname, '..')
const tests = process.argv.includes('--tests')
const definitions = process.argv.slice(2).filter((argument) => argument.startsWith('-D'))
// Remembered by CMake's cache: a later plain build keeps the tests out again.
definitions.push(`-DPOC_TESTS=${tests ? 'ON' : 'OFF'}`)
// Not build/ itself: node-gyp keeps a Makefile there and wipes it.
const out = path.join(root, 'build', 'cmake-Release')
const threads = String(os.availableParallelism())

function run(command, args) {
  const result = spawnSync(command, args, { stdio: 'inherit', cwd: root })
  if (result.error) console.error(`proof-of-cache: ${command}: ${result.error.message}`)
  if (result.status !== 0) process.exit(result.status ?? 1)
}

function cmakeJs() {
  try {
    return require.resolve('cmake-js/bin/cmake-js', { paths: [root] })
  } catch {
    return null
  }
}

const cli = cmakeJs()
if (cli) {
  const args = ['--directory', root, '--out', out, '--config', 'Release', '--parallel', threads]
  // Configured each time: `cmake-js build` alone drops new definitions once there is a cache.
  run(process.execPath, [cli, 'configure', ...args, ...definitions.map((d) => `--CD${d.slice(2)}`)])
  run(process.execPath, [cli, 'build', ...args])
} else {
  const include = [require('node-api-headers').include_dir, require('node-addon-api').include_dir]
  const paths = include.map((dir) => path.resolve(root, dir)).join(';')
  run('cmake', ['-S', root, '-B', out, '-DCMAKE_BUILD_TYPE=Release', `-DPOC_NODE_INC=${paths}`, ...definitions])
  run('cmake', ['--build', out, '--config', 'Release', '--parallel', threads])
}
if (tests) run('ctest', ['--test-dir', out, '--output-on-failure', '--build-config', 'Release'])
