import fc from 'fast-check'
import { bindingDigest } from '../../lib/binding'
import { PocError } from '../../lib/errors'
import { bindingId, type ChainTurn, checkChain, createBindingRegistry } from '../../lib/registry'
import { HEADER } from './hand-made-proof'

const id = (n: number) => n.toString(16).padStart(64, '0')

function expectRefused(action: () => unknown): void {
  expect(action).toThrow(PocError)
  expect(action).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
}

describe('binding ids', () => {
  test('are the binding digest, then the root where the request had no nonce', () => {
    const binding = Buffer.from(bindingDigest(HEADER)).toString('hex')
    expect(bindingId(HEADER)).toBe(binding)
    expect(bindingId(HEADER, id(5))).toBe(binding)
    const silent = { ...HEADER, nonce: '' }
    expect(bindingId(silent, id(5))).toBe(Buffer.from(bindingDigest(silent)).toString('hex') + id(5))
    expect(bindingId({ ...HEADER, nonce: '00fe' })).not.toBe(binding)
    for (const root of ['0', 'zz'.repeat(32), id(5).toUpperCase().replace('0', 'A')]) {
      expectRefused(() => bindingId(HEADER, root))
    }
  })
})

describe('registry', () => {
  test('a replay is seen, by the registry and by what its JSON gives back', () => {
    const registry = createBindingRegistry()
    const silent = { ...HEADER, nonce: '' }
    const fresh = bindingId(silent, id(1))
    expect(registry.has(fresh)).toBe(false)
    registry.add(fresh)
    const revived = createBindingRegistry(JSON.parse(JSON.stringify(registry)))
    for (const one of [registry, revived]) {
      expect([one.has(fresh), one.has(bindingId(silent, id(2))), one.has(bindingId(silent))]).toEqual([
        true,
        false,
        false,
      ])
    }
  })

  test('behaves as a list of the newest ids, whatever is added', () => {
    const ids = fc.array(fc.nat({ max: 12 }).map(id), { maxLength: 60, size: 'max' })
    fc.assert(
      fc.property(ids, fc.integer({ min: 1, max: 8 }), fc.nat(), (added, maxEntries, cut) => {
        const at = cut % (added.length + 1)
        let registry = createBindingRegistry(added.slice(0, at), maxEntries)
        registry = createBindingRegistry(JSON.parse(JSON.stringify(registry)), maxEntries)
        for (const one of added.slice(at)) registry.add(one)
        let model: string[] = []
        for (const one of added) if (!model.includes(one)) model = [...model, one].slice(-maxEntries)
        expect(registry.toJSON()).toEqual(model)
        expect(registry.size).toBe(model.length)
        for (let n = 0; n <= 12; n++) expect(registry.has(id(n))).toBe(model.includes(id(n)))
      }),
    )
  })

  test('other ids, lists and bounds are refused', () => {
    const registry = createBindingRegistry()
    for (const wrong of ['', 'ab', id(1).slice(1), `${id(1)}00`, id(10).toUpperCase(), 3, null]) {
      expectRefused(() => registry.add(wrong as string))
      expectRefused(() => createBindingRegistry([wrong as string]))
    }
    expect(registry.size).toBe(0)
    for (const wrong of [null, 3, 'ids', {}]) expectRefused(() => createBindingRegistry(wrong as string[]))
    for (const wrong of [0, -1, 1.5, 2 ** 24 + 1, '5']) expectRefused(() => createBindingRegistry([], wrong as number))
  })
})

describe('chain of turns', () => {
  const turn = (n: number, previousRoot: string, length: number, promptLength: number): ChainTurn => ({
    header: { promptLength, previousRoot },
    tokens: Uint32Array.from({ length }, (_, i) => (i * 31) % 97),
    root: id(n),
  })
  const chain = [turn(1, '', 10, 4), turn(2, id(1), 20, 12), turn(3, id(2), 25, 20)]
  const codes = (turns: ChainTurn[], options = {}) =>
    checkChain(turns, options).map(({ code, turn: at }) => `${at} ${code}`)

  test('one that holds has no problems, from its start or from any turn on', () => {
    expect(checkChain(chain)).toEqual([])
    expect(checkChain(chain.slice(1), { previousRoot: id(1) })).toEqual([])
    expect(checkChain([])).toEqual([])
  })

  const [one, two, three] = chain
  const naming = (turn: ChainTurn, previousRoot: string) => ({ ...turn, header: { ...turn.header, previousRoot } })
  const changed = Uint32Array.from(two.tokens, (token, i) => (i === 9 ? token + 1 : token))
  test.each<[string, ChainTurn[], string[]]>([
    ['another root before', [one, naming(two, id(9)), three], ['1 previous_root']],
    ['a first turn that names one', [naming(one, id(9)), two, three], ['0 previous_root']],
    ['none before the second', [one, naming(two, ''), three], ['1 previous_root']],
    ['a turn left out', [one, three], ['1 previous_root']],
    ['a turn told twice', [one, naming(one, id(1)), two], ['1 root_repeated', '1 prompt_length']],
    ['a changed token', [one, { ...two, tokens: changed }, three], ['1 tokens', '2 tokens']],
    ['a token left out', [one, two, { ...three, tokens: Array.from(three.tokens).slice(1) }], ['2 tokens']],
    ['fewer tokens than before', [one, two, { ...three, tokens: Array.from(three.tokens).slice(0, 19) }], ['2 tokens']],
    [
      'a prompt within the turn before',
      [one, { ...two, header: { ...two.header, promptLength: 9 } }, three],
      ['1 prompt_length'],
    ],
    ['no commitment', [one, { ...two, root: '' }, three], ['1 root_missing', '2 previous_root']],
  ])('%s', (_, turns, expected) => {
    expect(codes(turns)).toEqual(expected)
    expect(codes(turns, { continued: false })).toEqual(expected.filter((code) => !/tokens|prompt/.test(code)))
  })

  test('what is no turn is refused', () => {
    const wrong = [null, 3, {}, { ...one, header: null }, { ...one, tokens: 'abc' }, { ...one, root: 'x' }]
    for (const turns of wrong) expectRefused(() => checkChain([turns as ChainTurn]))
    expectRefused(() => checkChain(one as never))
    fc.assert(
      fc.property(fc.anything(), (value) => {
        try {
          checkChain([value as ChainTurn])
        } catch (error) {
          expect(error).toMatchObject({ code: 'INVALID_ARGUMENT' })
        }
      }),
    )
  })
})
