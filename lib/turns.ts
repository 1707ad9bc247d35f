// Long work on the JS thread, cut so that others get their turn in between: hashing a million tokens takes seconds.
import { setImmediate } from 'node:timers/promises'

/** Work that yields wherever others may have their turn, and returns its result. */
export type Turns<T> = Generator<void, T, void>

/** Positions that are hashed between two turns: some milliseconds. */
export const POSITIONS_A_TURN = 2048

/** The result, without giving others a turn. */
export function atOnce<T>(work: Turns<T>): T {
  let step = work.next()
  while (!step.done) step = work.next()
  return step.value
}

/** The result, others having had their turns; work that never yields takes none. */
export async function inTurns<T>(work: Turns<T>): Promise<T> {
  let step = work.next()
  while (!step.done) {
    await setImmediate()
    step = work.next()
  }
  return step.value
}
