'use strict'
// Nearly right values. Bytes alone seldom get past the first checks of a decoder; so here the fuzzer's bytes say how an
// example is changed: which of its parts is replaced, left out, repeated, moved or made a little larger.

const MAX_EDITS = 8
const NUMBERS = [0, 1, 2, -1, -0, 0.5, 255, 65536, 2 ** 20, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1, 2 ** 53, 1e308]

/** Decisions read off bytes; zeros once they are used up. */
class Choices {
  constructor(bytes) {
    this.bytes = bytes
    this.at = 0
  }
  get done() {
    return this.at >= this.bytes.length
  }
  byte() {
    return this.done ? 0 : this.bytes[this.at++]
  }
  below(bound) {
    const value = bound > 256 ? this.byte() * 256 + this.byte() : this.byte()
    return value % bound
  }
  pick(list) {
    return list[this.below(list.length)]
  }
  take(count) {
    const start = this.at
    this.at += count
    return this.bytes.slice(start, this.at)
  }
}

const isPlain = (value) => typeof value === 'object' && value !== null && !ArrayBuffer.isView(value)

const keysOf = (node) => {
  if (node instanceof Map || Array.isArray(node)) return [...node.keys()]
  return isPlain(node) ? Object.keys(node) : []
}

const childOf = (node, key) => (node instanceof Map ? node.get(key) : node[key])

function put(node, key, value) {
  if (node instanceof Map) node.set(key, value)
  else if (key !== '__proto__') node[key] = value
  // As JSON.parse does, to which it is a key like any other.
  else Object.defineProperty(node, key, { value, enumerable: true, configurable: true, writable: true })
}

function remove(node, key) {
  if (node instanceof Map) node.delete(key)
  else if (Array.isArray(node)) node.splice(key, 1)
  else delete node[key]
}

function copyOf(value) {
  if (value instanceof Map) return new Map([...value].map(([key, child]) => [key, copyOf(child)]))
  if (Array.isArray(value)) return value.map(copyOf)
  if (ArrayBuffer.isView(value)) return value.slice()
  if (!isPlain(value)) return value
  const copy = {}
  for (const key of Object.keys(value)) put(copy, key, copyOf(value[key]))
  return copy
}

/** A place in the tree under `root`: a node with children, and the key of one of them. */
function placeIn(root, choices) {
  let node = root
  for (;;) {
    const key = choices.pick(keysOf(node))
    const child = childOf(node, key)
    if (keysOf(child).length === 0 || choices.below(4) === 0) return { node, key, child }
    node = child
  }
}

function freshValue(choices, { words, bytes, float }) {
  const kinds = [
    () => choices.pick(NUMBERS),
    () => choices.pick(words),
    () => String.fromCharCode(...choices.take(choices.below(16))),
    () => 'x'.repeat(choices.below(5000)),
    () => choices.pick([true, false, null]),
    () => [],
    () => Array(choices.below(300)).fill(0),
    () => (bytes ? new Map() : {}),
    ...(bytes ? [() => choices.take(choices.below(64)), () => new Uint8Array(choices.below(5000))] : []),
    ...(float ? [() => float(choices.pick(NUMBERS))] : []),
  ]
  return choices.pick(kinds)()
}

/** `value` a little different, of the same type. */
function nudged(value, choices) {
  if (typeof value === 'number') return value + choices.pick([1, -1, 2, -2, 0.5, 4, 256, -value, value])
  if (typeof value === 'boolean') return !value
  if (typeof value === 'string') {
    const at = choices.below(value.length + 1)
    return value.slice(0, at) + String.fromCharCode(choices.byte()) + value.slice(at + choices.below(2))
  }
  if (!(value instanceof Uint8Array)) return value
  const size = Math.max(0, value.length + choices.pick([0, 0, 1, -1, 4, -4, 8, -8, 16, -16]))
  const changed = new Uint8Array(size)
  changed.set(value.subarray(0, size))
  if (size > 0) changed[choices.below(size)] = choices.byte()
  return changed
}

function edit(root, choices, options) {
  const { node, key, child } = placeIn(root, choices)
  switch (choices.below(6)) {
    case 0:
      return put(node, key, freshValue(choices, options))
    case 1:
      return remove(node, key)
    case 2: // one more
      if (Array.isArray(node)) return void node.splice(key, 0, copyOf(child))
      return put(node, choices.pick(options.words), freshValue(choices, options))
    case 3:
      return put(node, key, copyOf(placeIn(root, choices).child))
    default:
      return put(node, key, nudged(child, choices))
  }
}

/**
 * One of the examples with up to 8 edits, as the bytes say.
 *
 * @param {unknown[]} examples - Trees of objects (or Maps, with byte strings) and arrays; not changed.
 * @param {object} options
 * @param {string[]} options.words - Strings and keys that mean something.
 * @param {boolean} [options.bytes] - Whether there are Maps and Uint8Arrays: CBOR, not JSON.
 * @param {(value: number) => unknown} [options.float] - What is encoded as a float where it is whole.
 */
function edited(examples, bytes, options) {
  const choices = new Choices(bytes)
  const root = [copyOf(choices.pick(examples))]
  for (let i = 0; i < MAX_EDITS && !choices.done && root.length > 0; i++) edit(root, choices, options)
  return root[0]
}

/** The value of JSON text; for bytes that do not begin like an object, or are no JSON, an edited example. */
function jsonOrEdited(examples, bytes, words) {
  try {
    if (bytes[0] === 0x7b) return JSON.parse(Buffer.from(bytes).toString())
  } catch {}
  return edited(examples, bytes, { words })
}

/** All keys and strings of trees: what a fuzzer may put elsewhere. */
function wordsOf(...trees) {
  const words = new Set(['__proto__', 'constructor', 'length', ''])
  const visit = (value) => {
    if (typeof value === 'string') words.add(value)
    for (const key of keysOf(value)) {
      if (typeof key === 'string') words.add(key)
      visit(childOf(value, key))
    }
  }
  trees.forEach(visit)
  return [...words]
}

module.exports = { Choices, edited, jsonOrEdited, wordsOf }
