'use strict'
// What a fuzz target is: a function of bytes that must return, in time, whatever the bytes are. What the code under
// test is allowed to throw is caught with attempt(); anything else that is thrown is a finding.
const { readFileSync } = require('node:fs')
const path = require('node:path')

/** A module of lib/ as `npm run build:ts` leaves it: what users run is what is fuzzed. */
const dist = (name) => require(path.join(__dirname, '../../dist', name))

/** The cases of a file of test/vectors. */
const vectors = (name) => JSON.parse(readFileSync(path.join(__dirname, '../vectors', name), 'utf8')).vectors

const { PocError } = dist('errors')

// Of one input: CPU time, so that other work on the machine is no finding; and a wait, which that can only make longer.
const MAX_CPU_MS = 5000
const MAX_WAIT_MS = 60_000

/**
 * The module of a target: `fuzz` is what libFuzzer calls, the rest is for run.cjs.
 *
 * @param {object} target
 * @param {(bytes: Uint8Array) => unknown} target.run - Throws where something is wrong; may return a promise.
 * @param {() => (Uint8Array | string)[]} target.seeds - Inputs to start from, made of committed vectors.
 * @param {(Uint8Array | string)[]} [target.words] - What libFuzzer may put into inputs.
 * @param {number} [target.maxBytes] - Of an input.
 * @param {boolean} [target.waits] - Whether `run` returns a promise.
 */
function fuzzTarget({ run, seeds, words = [], maxBytes = 4096, waits = false }) {
  const timed = () => {
    const started = process.cpuUsage()
    return () => {
      const { user, system } = process.cpuUsage(started)
      const took = Math.round((user + system) / 1000)
      if (took > MAX_CPU_MS) throw new Error(`one input took ${took} ms of CPU time, over ${MAX_CPU_MS}`)
    }
  }
  const now = (bytes) => {
    const started = performance.now()
    run(bytes)
    if (performance.now() - started < MAX_CPU_MS) return
    const checkTime = timed() // asking for CPU time costs as much as many an input, so only slow ones are run by it
    run(bytes)
    checkTime()
  }
  const later = async (bytes) => {
    const checkTime = timed()
    let timer
    const never = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no answer after ${MAX_WAIT_MS} ms`)), MAX_WAIT_MS)
    })
    await Promise.race([run(bytes), never])
    clearTimeout(timer)
    checkTime()
  }
  return { fuzz: waits ? later : now, seeds, words, maxBytes, waits }
}

/** What `call` returns, or undefined where it throws a PocError of one of these codes. */
function attempt(codes, call) {
  try {
    return call()
  } catch (error) {
    return allowed(codes, error)
  }
}

/** As {@link attempt}, for a call that returns a promise. */
async function attemptLater(codes, call) {
  try {
    return await call()
  } catch (error) {
    return allowed(codes, error)
  }
}

function allowed(codes, error) {
  const isAllowed = error instanceof PocError && codes.includes(error.code)
  if (!isAllowed) throw error
}

/** Throws where something does not hold that the code under test promises. */
function must(condition, claim) {
  if (!condition) throw new Error(`does not hold: ${claim}`)
}

module.exports = { attempt, attemptLater, dist, fuzzTarget, must, vectors }
