// The built-in token samplers. After parsing there are integers only: equal contexts, equal samples, any language.
import { contextHash, wordAt } from './hash'
import { MAX_TOKENS } from './limits'
import type { TokenSampler } from './sampler'

const MAX_FRACTION = 0xffffffff // of a fraction's numerator and denominator

/** `n/d` or a decimal of at most 9 places: each position with this probability, by the hash of its context. */
export function bernoulli(argument: string): TokenSampler | null {
  const rate = fraction(argument) ?? decimal(argument)
  if (rate === null || rate.num < 1 || rate.num > rate.den) return null
  const divisor = gcd(rate.num, rate.den)
  const num = rate.num / divisor
  const den = rate.den / divisor
  const threshold = (BigInt(num) << 64n) / BigInt(den)
  const [high, low] = [Number(threshold >> 32n), Number(threshold & 0xffffffffn)]
  const hash = contextHash('token-sampler')
  return {
    name: `bernoulli:${num}/${den}`,
    rate: Object.freeze({ num, den }),
    // The first 64-bit word of the digest, little-endian, is below the threshold.
    samples(context) {
      const digest = hash(context)
      const upper = wordAt(digest, 4)
      return upper < high || (upper === high && wordAt(digest, 0) < low)
    },
  }
}

/** Every n-th position: n - 1, 2n - 1, ... */
export function every(argument: string): TokenSampler | null {
  const step = wholeNumber(argument, 1, MAX_TOKENS)
  if (step === null) return null
  return {
    name: `every:${step}`,
    rate: Object.freeze({ num: 1, den: step }),
    samples: (_context, position) => position % step === step - 1,
  }
}

/** Every position. */
export function all(argument: string): TokenSampler | null {
  return argument === '' ? { name: 'all', rate: Object.freeze({ num: 1, den: 1 }), samples: () => true } : null
}

/** A decimal integer without sign or leading zeros, in [min, max]; null otherwise. */
export function wholeNumber(text: string, min: number, max: number): number | null {
  if (!/^(?:0|[1-9][0-9]{0,9})$/.test(text)) return null
  const value = Number(text)
  return value >= min && value <= max ? value : null
}

function fraction(text: string): { num: number; den: number } | null {
  const parts = text.split('/')
  if (parts.length !== 2) return null
  const num = wholeNumber(parts[0], 1, MAX_FRACTION)
  const den = wholeNumber(parts[1], 1, MAX_FRACTION)
  return num === null || den === null ? null : { num, den }
}

function decimal(text: string): { num: number; den: number } | null {
  const match = /^([01])(?:\.([0-9]{1,9}))?$/.exec(text)
  if (match === null) return null
  const places = match[2] ?? ''
  return { num: Number(match[1] + places), den: 10 ** places.length }
}

function gcd(a: number, b: number): number {
  return b === 0 ? a : gcd(b, a % b)
}
