// Draws that a seed fixes: a table of attacks can be made again, on any machine.
import { createHash } from 'node:crypto'
import { type Draw, uniformIntegers } from '../draw'

/** Draws of one attack in one trial. */
export interface Random {
  /** An integer in [0, bound), each equally likely. */
  below: Draw
  /** One of a list that is not empty. */
  of<T>(choices: readonly T[]): T
  /** True with this probability, in steps of 2^-20. */
  chance(probability: number): boolean
  bytes(count: number): Uint8Array
  /** Draws of their own for a part of the work: what other parts draw changes nothing. */
  fork(name: string): Random
}

/** @param seed - Any text. */
export function createRandom(seed: string): Random {
  const hash = (context: Uint8Array, counter = 0) => {
    return new Uint8Array(createHash('sha256').update(context).update(String(counter)).digest())
  }
  const below = uniformIntegers(hash, new Uint8Array(createHash('sha256').update(seed).digest()))
  let taken = 0
  return {
    below,
    of: (choices) => choices[below(choices.length)],
    chance: (probability) => below(2 ** 20) < probability * 2 ** 20,
    bytes: (count) => {
      const stream = createHash('shake256', { outputLength: Math.max(count, 1) })
      return new Uint8Array(stream.update(`${seed} ${taken++}`).digest()).slice(0, count)
    },
    fork: (name) => createRandom(`${seed}/${name}`),
  }
}

/** Small numbers are likelier than great ones, as lengths are: 1 to `max`. */
export function lengthUpTo(random: Random, max: number): number {
  const share = random.below(1024) / 1024
  return 1 + Math.floor(max * share ** 3)
}
