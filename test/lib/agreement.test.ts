import { createHash } from 'node:crypto'
import fc from 'fast-check'
import * as agreement from '../../lib/agreement'
import type { LayerDigest } from '../../lib/agreement'
import { PocError } from '../../lib/errors'
import { matchRecomputed } from '../../lib/blind'
import { handMadeProof, layerOf } from './hand-made-proof'

const { claimedDigests, firstDivergence, groupByComparison, groupBySamples, runningDigests } = agreement
const { proof, plan } = handMadeProof()
const layers = [...plan.layers.keys()].map((layer) => layerOf(plan, layer))
const digest = (n: number) => n.toString(16).padStart(2, '0').repeat(32)
const digestsOf = (...numbers: number[]): LayerDigest[] => numbers.map((n, i) => [2 * i + 1, digest(n)])

describe('running digests', () => {
  test('are SHA-256 over layer, count, positions, K and V of every layer so far', () => {
    const le = (...values: number[]) => Buffer.from(Uint32Array.from(values).buffer)
    const parts = [Buffer.from('proof-of-cache/v1/samples\0')]
    const expected = layers.map(({ layer, positions, k, v }) => {
      parts.push(le(layer, positions.length), le(...positions), Buffer.from(k), Buffer.from(v))
      return [layer, createHash('sha256').update(Buffer.concat(parts)).digest('hex')]
    })
    expect(expected.length).toBeGreaterThan(2)
    expect(runningDigests(layers)).toEqual(expected)
    expect(claimedDigests(proof.samples)).toEqual(expected)
  })

  test('each is the samples digest of a verdict that stops at its layer', () => {
    for (const [layer, expected] of runningDigests(layers)) {
      const claimed = proof.samples.map((one) => (one.layer === layer ? { ...one, k: new Uint8Array(16) } : one))
      const { samplesDigest, firstMismatch } = matchRecomputed(plan, layers, claimed)
      expect([firstMismatch?.layer, samplesDigest]).toEqual([layer, expected])
    }
  })
})

describe('first divergence', () => {
  test('is the first layer whose digests differ, among those that both reached', () => {
    expect(firstDivergence(digestsOf(1, 2, 3), digestsOf(1, 2, 3))).toBeNull()
    expect(firstDivergence(digestsOf(1, 2, 3), digestsOf(1, 9, 8))).toBe(3)
    expect(firstDivergence(digestsOf(1, 2), digestsOf(1, 2, 3))).toBeNull()
    expect(firstDivergence([[1, digest(1)]], [[2, digest(1)]])).toBe(1)
    expect(firstDivergence([], digestsOf(1))).toBeNull()
  })
})

describe('groups', () => {
  test('are those that recomputed the same as far as each went', () => {
    const recomputed = [
      { verifier: 'lazy', digests: digestsOf(7, 7, 7) },
      { verifier: 'a', digests: digestsOf(1, 2, 3) },
      { verifier: 'aborted', digests: digestsOf(1, 2) },
      { verifier: 'other', digests: digestsOf(1, 5, 6) },
      { verifier: 'b', digests: digestsOf(1, 2, 3) },
    ]
    expect(groupBySamples(recomputed)).toEqual([['a', 'aborted', 'b'], ['lazy'], ['other']])
    expect(groupBySamples([])).toEqual([])
    expect(() => groupBySamples([{ verifier: 'none', digests: [] }])).toThrow(PocError)
  })

  const digestLists = fc.array(
    fc.array(fc.nat({ max: 2 }), { minLength: 1, maxLength: 4 }).map((numbers) => digestsOf(...numbers)),
    { minLength: 1, maxLength: 8 },
  )

  test('one that stopped early joins no honest verifier to a liar that differs deeper', () => {
    const honest = { verifier: 'honest', digests: digestsOf(1, 2, 3) }
    const liar = { verifier: 'liar', digests: digestsOf(1, 2, 9) }
    const stopped = [
      { verifier: 'early', digests: digestsOf(1) },
      { verifier: 'as early', digests: digestsOf(1) },
    ]
    expect(groupBySamples([honest, liar, ...stopped])).toEqual([['early', 'as early'], ['honest'], ['liar']])
    expect(groupBySamples([honest, ...stopped])).toEqual([['honest', 'early', 'as early']])
  })

  // As text, one that stopped early is the beginning of those that went on.
  test('hold every verifier once, two that differ never, and one that stopped early where there is one way on', () => {
    const textOf = (digests: readonly LayerDigest[]) => digests.map(([, each]) => each.slice(0, 2)).join('')
    fc.assert(
      fc.property(digestLists, (lists) => {
        const groups = groupBySamples(lists.map((digests, i) => ({ verifier: `v${i}`, digests })))
        expect(groups.flat().sort()).toEqual(lists.map((_, i) => `v${i}`).sort())
        const texts = lists.map(textOf)
        const placeOf = (i: number) => groups.findIndex((group) => group.includes(`v${i}`))
        for (const [i, a] of texts.entries()) {
          const longer = texts.filter((text) => text.startsWith(a))
          const isOneWay = longer.every((one) => longer.every((two) => one.startsWith(two) || two.startsWith(one)))
          for (const [j, b] of texts.entries()) {
            const together = placeOf(i) === placeOf(j)
            if (!a.startsWith(b) && !b.startsWith(a)) expect(together).toBe(false)
            if (b.startsWith(a)) expect(together).toBe(a === b || isOneWay)
          }
        }
      }),
    )
  })

  test('within a tolerance, all members are like each other, and none could join an earlier group', () => {
    const alike = (a: number, b: number) => Math.abs(a - b) <= 3
    fc.assert(
      fc.property(fc.array(fc.nat({ max: 20 }), { maxLength: 12 }), (values) => {
        const groups = groupByComparison(values, alike)
        expect(groups.flat().sort((a, b) => a - b)).toEqual([...values].sort((a, b) => a - b))
        for (const group of groups) expect(Math.max(...group) - Math.min(...group)).toBeLessThanOrEqual(3)
        const sizes = groups.map(({ length }) => length)
        expect(sizes).toEqual([...sizes].sort((a, b) => b - a))
      }),
    )
    expect(groupByComparison([0, 3, 6], alike)).toEqual([[0, 3], [6]])
  })
})
