// The fuzzer's nearly right values: decided by the bytes alone, near the example, and of many kinds.
import { createHash } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'

const { edited, jsonOrEdited, wordsOf } = require('../fuzz/edits.cjs')

const example = () => ({ version: 1, name: 'all', list: [1, [2, 3]], inner: { flag: true, none: null } })
const words = wordsOf(example())
const programs = Array.from({ length: 2000 }, (_, i) => {
  const digest = createHash('sha256').update(`${i}`).digest()
  return new Uint8Array(digest.subarray(0, 1 + (i % 24)))
})

test('equal bytes give equal values, and the example stays as it is', () => {
  const examples = [example()]
  for (const program of programs) {
    expect(edited(examples, program, { words })).toEqual(edited(examples, program, { words }))
  }
  expect(examples).toEqual([example()])
})

test('what comes out is JSON, some of it the example, most of it not, in hundreds of forms', () => {
  const results = programs.map((program) => edited([example()], program, { words }))
  const texts = results.map((value) => JSON.stringify(value) ?? 'nothing')
  expect(new Set(texts).size).toBeGreaterThan(programs.length / 4)
  expect(texts.filter((text) => text === JSON.stringify(example())).length).toBeLessThan(programs.length / 4)
  const has = (found: (value: any) => boolean) =>
    expect(results.filter((value) => found(value ?? {})).length).not.toBe(0)
  has((value) => Object.hasOwn(value, '__proto__'))
  has((value) => !('version' in Object(value)))
  has((value) => value.version === 2)
  has((value) => Array.isArray(value.list) && value.list.length === 3)
  has((value) => typeof value.inner?.flag === 'string')
  has((value) => isDeepStrictEqual(value.name, value.list))
})

test('maps and byte strings are edited too, floats only where they are asked for', () => {
  const map = new Map<string, unknown>([
    ['bytes', new Uint8Array(8)],
    ['inner', new Map([['n', 1]])],
  ])
  const float = (value: number) => Float64Array.of(value)
  const results = programs.map((program) => edited([map], program, { words, bytes: true, float }))
  const bytes = results.map((value) => (value instanceof Map ? value.get('bytes') : undefined))
  expect(bytes.some((value) => value instanceof Uint8Array && value.length === 12)).toBe(true)
  expect(bytes.some((value) => value instanceof Uint8Array && value.length === 8 && value.some(Boolean))).toBe(true)
  expect(bytes.some((value) => value instanceof Float64Array)).toBe(true)
  expect(map.get('bytes')).toEqual(new Uint8Array(8))
})

test('JSON text is taken as it is, any other text as edits', () => {
  expect(jsonOrEdited([example()], Buffer.from('{"a": 1}'), words)).toEqual({ a: 1 })
  expect(jsonOrEdited([example()], Buffer.from('{"a": '), words)).toEqual(
    edited([example()], Buffer.from('{"a": '), { words }),
  )
  expect(jsonOrEdited([example()], new Uint8Array(0), words)).toEqual(example())
})
