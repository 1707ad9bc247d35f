'use strict'
// npm's install script: uses a fitting prebuilt addon, else builds from source. Never downloads.
const { spawnSync } = require('node:child_process')
const path = require('node:path')

const root = path.join(__dirname, '..')
if (process.env.npm_config_build_from_source !== 'true') {
  // In a child: an addon that crashes while loading must not end the install.
  const load = `require('node-gyp-build')(${JSON.stringify(root)})`
  if (spawnSync(process.execPath, ['-e', load], { cwd: root }).status === 0) process.exit(0)
}
console.log(
  'proof-of-cache: no fitting prebuilt addon, building from source (needs CMake >= 3.24 and a C++17 compiler)',
)
const build = spawnSync(process.execPath, [path.join(__dirname, 'build.cjs')], { stdio: 'inherit', cwd: root })
if (build.status !== 0) {
  console.error(
    'proof-of-cache: the build failed. Install cmake and a C++ compiler, then run: npm rebuild proof-of-cache',
  )
}
process.exit(build.status ?? 1)
