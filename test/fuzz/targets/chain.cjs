'use strict'
// Turns of a conversation and ids of proofs that were seen, as JSON from a database or another party has them.
const { isDeepStrictEqual } = require('node:util')
const { attempt, dist, fuzzTarget, must } = require('../target.cjs')
const { jsonOrEdited, wordsOf } = require('../edits.cjs')

const { checkChain, createBindingRegistry } = dist('registry')

const hash = (n) => n.toString(16).padStart(2, '0').repeat(32)
const tokens = Array.from({ length: 12 }, (_, i) => i * 7)
const turn = (promptLength, end, previousRoot, root) => {
  return { header: { promptLength, previousRoot }, tokens: tokens.slice(0, end), root }
}
const TURNS = [turn(2, 5, '', hash(1)), turn(6, 8, hash(1), hash(2)), turn(8, 12, hash(2), hash(3))]
const SEEN = [hash(1), hash(2) + hash(3), hash(4), hash(5) + hash(1)]
const examples = [
  { turns: TURNS, previousRoot: '', continued: true, seen: SEEN, maxEntries: 100 },
  { turns: TURNS.slice(1), previousRoot: hash(1), continued: false, seen: SEEN, maxEntries: 2 },
]
for (const { turns, previousRoot } of examples) {
  must(checkChain(turns, { previousRoot }).length === 0, 'turns that follow one another are a chain')
}
const words = wordsOf(...examples)

function follow({ turns, previousRoot, continued }) {
  const problems = checkChain(turns, { previousRoot, continued })
  must(
    problems.every((problem, i) => problem.turn < turns.length && (i === 0 || problem.turn >= problems[i - 1].turn)),
    'problems are of the turns, in their order',
  )
  if (problems.length > 0) return
  const roots = turns.map(({ root }) => root)
  must(new Set(roots).size === roots.length, 'no root of a chain comes twice')
  const named = turns.map(({ header }) => header.previousRoot)
  must(isDeepStrictEqual(named, [previousRoot ?? '', ...roots].slice(0, turns.length)), 'each names the one before')
}

function remember({ seen, maxEntries }) {
  const registry = createBindingRegistry(seen, maxEntries)
  const ids = registry.toJSON()
  must(registry.size === ids.length && ids.length <= (maxEntries ?? 2 ** 20), 'a registry keeps within its limit')
  must(isDeepStrictEqual(createBindingRegistry(ids, maxEntries).toJSON(), ids), 'a registry survives JSON')
  must(
    ids.every((id) => registry.has(id)),
    'it has what it lists',
  )
}

module.exports = fuzzTarget({
  maxBytes: 2048,
  seeds: () => examples.flatMap((example, i) => [JSON.stringify(example), Uint8Array.of(i)]),
  words,
  run(bytes) {
    const given = jsonOrEdited(examples, bytes, words) ?? {}
    attempt(['INVALID_ARGUMENT'], () => follow(given))
    attempt(['INVALID_ARGUMENT'], () => remember(given))
  },
})
