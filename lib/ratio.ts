// Exact ratios and amounts: what the terms of a stakepool are written in.

import { type ErrorCode, wrongValue } from './errors'

/** An exact non-negative fraction in lowest terms; `den` is greater than 0. */
export interface Ratio {
  readonly num: bigint
  readonly den: bigint
}

/** `'1/10'`, `'0.1'`, `'3'`, `[1n, 10n]` or a {@link Ratio}; no number, which would have been rounded. */
export type RatioLike = Ratio | string | readonly [num: bigint, den: bigint]

/** An amount in the smallest unit: a bigint, a decimal string or a safe integer. */
export type AmountLike = bigint | string | number

const MAX_DIGITS = 78 // as many as 2^256 has, the widest amount of the ledgers in use
const LIMIT = 10n ** BigInt(MAX_DIGITS)

/**
 * Reads an exact ratio and brings it to lowest terms.
 * @throws {PocError} `code`: another form, negative, zero denominator, over 78 digits.
 */
export function parseRatio(value: unknown, where = 'ratio', code: ErrorCode = 'INVALID_ARGUMENT'): Ratio {
  const [num, den] = fraction(value) ?? [0n, 0n]
  if (num >= 0n && num < LIMIT && den > 0n && den < LIMIT) {
    const divisor = gcd(num, den)
    return Object.freeze({ num: num / divisor, den: den / divisor })
  }
  throw wrongValue(code, where, `a ratio such as "1/10" or "0.1" (a string, up to ${MAX_DIGITS} digits)`, value)
}

/** The canonical text of a ratio, `'n/d'`. */
export function formatRatio(ratio: Ratio): string {
  return `${ratio.num}/${ratio.den}`
}

/**
 * Reads an amount in the smallest unit, 0 or more.
 * @throws {PocError} `code`: another form, negative, not a safe integer, over 78 digits.
 */
export function parseAmount(value: unknown, where = 'amount', code: ErrorCode = 'INVALID_ARGUMENT'): bigint {
  if (typeof value === 'bigint' && value >= 0n && value < LIMIT) return value
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return BigInt(value)
  if (typeof value === 'string' && /^(0|[1-9][0-9]{0,77})$/.test(value)) return BigInt(value)
  throw wrongValue(code, where, `an amount (decimal string or safe integer, up to ${MAX_DIGITS} digits)`, value)
}

/** Numerator and denominator as written, or null for every other form. */
function fraction(value: unknown): [bigint, bigint] | null {
  if (typeof value === 'string') {
    const match = /^([0-9]{1,78})(?:\/([0-9]{1,78})|\.([0-9]{1,78}))?$/.exec(value)
    if (!match) return null
    const [, whole, den, decimals = ''] = match
    return [BigInt(whole + decimals), den === undefined ? 10n ** BigInt(decimals.length) : BigInt(den)]
  }
  if (typeof value !== 'object' || value === null) return null
  const [num, den, ...rest] = Array.isArray(value) ? value : [(value as Ratio).num, (value as Ratio).den]
  return rest.length === 0 && typeof num === 'bigint' && typeof den === 'bigint' ? [num, den] : null
}

function gcd(a: bigint, b: bigint): bigint {
  return b === 0n ? a : gcd(b, a % b)
}
