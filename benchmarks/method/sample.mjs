// Timed samples on a machine that others may use too: a sample counts only when it had its CPUs.
import { readFileSync } from 'node:fs'
import os from 'node:os'
import { setTimeout as pause } from 'node:timers/promises'

const TRIES = 6
export const ENOUGH = 0.85 // of its CPUs; benchmarks/native/sample.h has the same
const QUIET = 0.06 // of one CPU, used by others
const SETTLE = 50 // ms
const TICK = 0.01 // seconds, of /proc/stat
let patience = 40 // seconds that a question may lose to samples that did not count

export const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/**
 * Times `work`, again while others kept CPUs from it: its own threads had less than 85 % of theirs and other processes
 * used more than 6 % of one. The try with the largest share counts. A busy machine gets noisy samples in the end.
 * @param threads - How many CPUs the work keeps busy.
 * @returns seconds, share (of its CPUs that the process had), noisy (no try was good enough), result.
 */
export async function sample(work, threads) {
  let best
  for (let tries = 0; tries < TRIES; tries++) {
    await pause(SETTLE) // threads of what ran before may go on spinning
    const [cpu, busy, start] = [process.cpuUsage(), busySeconds(), process.hrtime.bigint()]
    const result = await work()
    const seconds = Number(process.hrtime.bigint() - start) / 1e9
    const { user, system } = process.cpuUsage(cpu)
    const own = (user + system) / 1e6
    const share = own / seconds / threads
    const others = busy === null ? Infinity : (busySeconds() - busy - own) / seconds
    const noisy = share < ENOUGH && others > QUIET
    if (!best || share > best.share || !noisy) best = { seconds, share, noisy, result }
    if (!noisy || patience <= 0) break
    patience -= seconds
  }
  return best
}

/** CPU seconds that all processes together and the host have used since boot; null where nobody says. */
function busySeconds() {
  if (os.platform() !== 'linux') return null
  const [, user, nice, system, , , irq, softirq, steal] = readFileSync('/proc/stat', 'utf8').split(/\s+/, 9).map(Number)
  return (user + nice + system + irq + softirq + steal) * TICK
}

/**
 * Rounds of A, B, A, B, ..: each side is a function of the round that gives a sample. Unless `warm` already, one round
 * before them warms up.
 *
 * @param sides - {name: () => Promise<sample>}
 * @returns {name: samples}, in the order of the rounds.
 */
export async function alternate(sides, rounds, warm = false) {
  const taken = Object.fromEntries(Object.keys(sides).map((name) => [name, []]))
  for (let round = warm ? 0 : -1; round < rounds; round++) {
    for (const [name, side] of Object.entries(sides)) {
      const one = await side(Math.max(round, 0))
      if (round >= 0) taken[name].push(one)
    }
  }
  return taken
}

/** The median over rounds of f(a, b, ..) of that round's samples. */
export const byRound = (f, ...lists) => median(lists[0].map((_, i) => f(...lists.map((list) => list[i]))))

/** The median over rounds of a's time over b's. */
export const timeRatio = (a, b) => byRound((x, y) => x.seconds / y.seconds, a, b)

/** What goes into a row's detail about some samples. */
export function described(samples) {
  const seconds = samples.map((one) => one.seconds)
  return {
    seconds: rounded(median(seconds)),
    fastest: rounded(Math.min(...seconds)),
    slowest: rounded(Math.max(...seconds)),
    rounds: samples.length,
    leastShare: rounded(Math.min(...samples.map((one) => one.share))),
    noisy: samples.filter((one) => one.noisy).length,
  }
}

export const rounded = (value) => Number(value.toPrecision(4))

/** Fails the benchmark: what is about to be timed, or was, is not right. */
export function check(condition, message) {
  if (!condition) throw new Error(`wrong result: ${message}`)
}
