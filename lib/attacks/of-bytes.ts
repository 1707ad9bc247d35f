// Bytes that no honest generator wrote: they must be refused, and never bring a verifier down.
import { encodeProof } from '../proof'
import type { Attack } from './attack'
import type { Random } from './random'

const damaged = (name: string, about: string, damage: (bytes: Uint8Array, random: Random) => Uint8Array): Attack => ({
  name,
  reference: 'A14',
  about,
  forge: async (trial, random) => ({ proof: damage(encodeProof(await trial.honestProof()), random) }),
})

export const BYTE_ATTACKS: readonly Attack[] = [
  damaged('bits-flipped', 'one to three bits of an encoded proof', (bytes, random) => {
    const places = Array.from({ length: 1 + random.below(3) }, () => random.below(bytes.length * 8))
    for (const place of new Set(places)) bytes[place >> 3] ^= 1 << (place & 7)
    return bytes
  }),
  damaged('bytes-cut', 'an encoded proof that ends early', (bytes, random) =>
    bytes.slice(0, random.below(bytes.length)),
  ),
  damaged('bytes-added', 'bytes put in somewhere', (bytes, random) => {
    const at = random.below(bytes.length + 1)
    const added = random.bytes(1 + random.below(40))
    return new Uint8Array(Buffer.concat([bytes.subarray(0, at), added, bytes.subarray(at)]))
  }),
  damaged('bytes-at-random', 'a proof in its first bytes only', (bytes, random) => {
    const kept = random.below(Math.min(200, bytes.length))
    return new Uint8Array(Buffer.concat([bytes.subarray(0, kept), random.bytes(bytes.length - kept)]))
  }),
]
