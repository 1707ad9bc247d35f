// Who recomputed the same as whom: compared on the verifiers' own vectors, never on what they say about others.
import { wrongValue } from './errors'
import { createSamplesHash, fromLe32 } from './hash'
import { given, givenList, LAYER, LAYER_DIGEST, RECOMPUTATION, SAMPLE } from './given'
import type { KvSample, LayerSamples } from './kv'
import { groupsOf } from './sample-groups'

/** A sampled layer, and the samples digest (64 hex digits) over all samples up to and with it. */
export type LayerDigest = readonly [layer: number, digest: string]

/** What one verifier recomputed, by its running digests. */
export interface Recomputation {
  readonly verifier: string
  readonly digests: readonly LayerDigest[]
}

/**
 * The running digests of recomputed layers; each is the `samplesDigest` of a verdict that stopped at that layer.
 *
 * @param layers - In ascending order; a layer without positions is left out.
 * @throws {PocError} INVALID_ARGUMENT
 */
export function runningDigests(layers: Iterable<LayerSamples>): LayerDigest[] {
  if (typeof layers !== 'object' || typeof layers?.[Symbol.iterator] !== 'function') {
    throw wrongValue('INVALID_ARGUMENT', 'layers', 'an array, or another iterable', layers)
  }
  const hash = createSamplesHash()
  const digests: LayerDigest[] = []
  for (const layer of layers) {
    given(LAYER, layer, `layers, item ${digests.length}`)
    if (layer.positions.length === 0) continue
    hash.push(layer)
    digests.push([layer.layer, hash.digest()])
  }
  return digests
}

/** {@link runningDigests} of samples as a proof has them, in (layer, position) order. */
export function claimedDigests(samples: readonly KvSample[]): LayerDigest[] {
  return runningDigests(
    groupsOf(givenList(SAMPLE, samples, 'samples')).map((group) => ({
      ...group,
      positions: fromLe32(group.positions),
    })),
  )
}

/**
 * The first layer that two parties saw differently, among those that both have.
 *
 * Both follow one plan, so they have the same layers as far as the shorter one goes. In bit-equal numerics a difference
 * at this layer comes from the layers between it and the sampled one before.
 * @returns `null` where they agree as far as both go, or where one has none.
 */
export function firstDivergence(a: readonly LayerDigest[], b: readonly LayerDigest[]): number | null {
  for (const [name, list] of Object.entries({ a, b })) givenList(LAYER_DIGEST, list, name)
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    if (a[i][0] !== b[i][0]) return Math.min(a[i][0], b[i][0])
    if (a[i][1] !== b[i][1]) return a[i][0]
  }
  return null
}

/**
 * Groups verifiers that recomputed the same, bit for bit, as far as each went: no two of a group differ at a layer that
 * both have.
 *
 * One that stopped early goes with those that went on from where it was, if they agree with each other. Where they part
 * later, nobody knows which of them it would have followed, and only its equals are with it.
 * @returns The largest group first; among equals, and within a group, in the given order.
 * @throws {PocError} INVALID_ARGUMENT: one that has no layer agrees with nobody, and must be left out.
 */
export function groupBySamples(recomputed: readonly Recomputation[]): string[][] {
  givenList(RECOMPUTATION, recomputed, 'recomputed')
  const distinct = new Map<string, readonly LayerDigest[]>()
  for (const { verifier, digests } of recomputed) {
    if (digests.length === 0) throw wrongValue('INVALID_ARGUMENT', `the digests of ${verifier}`, 'one or more', digests)
    distinct.set(keyOf(digests), digests)
  }
  const goesOn = (a: readonly LayerDigest[], b: readonly LayerDigest[]) => {
    return a.length < b.length && firstDivergence(a, b) === null
  }
  const all = [...distinct.values()]
  const ends = all.filter((digests) => !all.some((other) => goesOn(digests, other)))
  const groups = new Map<string, string[]>()
  for (const { verifier, digests } of recomputed) {
    const continued = ends.filter((end) => goesOn(digests, end))
    const key = keyOf(continued.length === 1 ? continued[0] : digests)
    groups.set(key, [...(groups.get(key) ?? []), verifier])
  }
  return largestFirst([...groups.values()])
}

function keyOf(digests: readonly LayerDigest[]): string {
  return digests.flat().join(' ')
}

/**
 * Groups whatever a comparison finds alike: for tolerant numerics, where equal results have different bits.
 *
 * Likeness within a tolerance does not carry over from one to the next, so a member must be like all others of its
 * group; each goes to the first group that takes it.
 * @returns As {@link groupBySamples}.
 */
export function groupByComparison<T>(items: readonly T[], alike: (a: T, b: T) => boolean): T[][] {
  const groups: T[][] = []
  for (const item of items) {
    const group = groups.find((members) => members.every((member) => alike(member, item)))
    if (group) group.push(item)
    else groups.push([item])
  }
  return largestFirst(groups)
}

function largestFirst<T>(groups: T[][]): T[][] {
  return groups.sort((a, b) => b.length - a.length) // stable
}
