// Unbiased integers drawn from a hash: what samplers and depth policies choose by.
import { type contextHash, DIGEST_BYTES, wordAt } from './hash'

/** An integer in [0, bound), each equally likely; `bound` is 1 to 2^32. */
export type Draw = (bound: number) => number

/** Draws by the 32-bit words of H(context, le32(0)), H(context, le32(1)), ...; words that would bias are skipped. */
export function uniformIntegers(hash: ReturnType<typeof contextHash>, context: Uint8Array): Draw {
  let block = 0
  let offset = DIGEST_BYTES
  let digest: Uint8Array = new Uint8Array(0)
  const next = () => {
    if (offset === DIGEST_BYTES) {
      digest = hash(context, block++)
      offset = 0
    }
    offset += 4
    return wordAt(digest, offset - 4)
  }
  return (bound) => {
    const usable = 2 ** 32 - (2 ** 32 % bound)
    let word = next()
    while (word >= usable) word = next()
    return word % bound
  }
}
