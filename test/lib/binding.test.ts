import fc from 'fast-check'
import { bindingDigest, contextChain, type ProofHeader } from '../../lib/binding'
import { PocError } from '../../lib/errors'
import { checkHeader, encodeHeader } from '../../lib/header'
import { anyHeader, anyTokens, bytes, cbor, contexts, H, headerMap, hex, SMALL_HEADER } from './second-implementation'
import file from '../vectors/binding.json'

const vectors = file.vectors as unknown as {
  header: ProofHeader
  cbor: string
  binding: string
  tokens: number[]
  contexts: string[]
}[]

function thrownBy(call: () => unknown): PocError {
  try {
    call()
  } catch (error) {
    if (error instanceof PocError) return error
    throw error
  }
  throw new Error('nothing was thrown')
}

const withSampling = (change: object) => ({ sampling: { ...SMALL_HEADER.sampling, ...change } })

test('bindings and contexts are those of the vectors', () => {
  expect(vectors).toHaveLength(5)
  for (const vector of vectors) {
    expect(hex(encodeHeader(vector.header))).toBe(vector.cbor)
    const binding = bindingDigest(vector.header)
    expect(hex(binding)).toBe(vector.binding)
    const chain = contextChain(binding)
    expect(vector.tokens.map((token) => hex(chain.push(token)))).toEqual(vector.contexts)
  }
})

test('any header and tokens give the digests of the second implementation', () => {
  fc.assert(
    fc.property(anyHeader, anyTokens, (header, tokens) => {
      const binding = bindingDigest(header)
      expect(hex(binding)).toBe(hex(H('binding', cbor(headerMap(header)))))
      const chain = contextChain(binding)
      expect(Array.from(tokens, (token) => hex(chain.push(token)))).toEqual(contexts(header, tokens).map(hex))
    }),
    { numRuns: 200 },
  )
})

test('a header has no -0, which its encoding could not keep', () => {
  const header = checkHeader({ ...SMALL_HEADER, ...withSampling({ topK: -0 }) }, 'INVALID_ARGUMENT')
  expect(header.sampling?.topK).toBe(0)
})

test('every field is bound', () => {
  const changes: object[] = [
    {},
    { modelDigest: `${'5a'.repeat(31)}5b` },
    { numLayers: 7 },
    { numKvHeads: 2 },
    { headDim: 3 },
    { kvDtype: 'f16' },
    { promptLength: 3 },
    withSampling({ temperature: 1 + 2 ** -52 }),
    withSampling({ topK: 1 }),
    withSampling({ topP: 1 - 2 ** -53 }),
    withSampling({ seed: '0700' }),
    { tokenSampler: 'every:3' },
    { layerSampler: 'fixed:1,5' },
    { nonce: 'beef00' },
    { nonce: '' },
  ]
  const digests = changes.map((change) => hex(bindingDigest({ ...SMALL_HEADER, ...change })))
  expect(new Set(digests).size).toBe(changes.length)
})

test('order and surplus of the fields of an object do not matter', () => {
  const reversed = Object.fromEntries(Object.entries({ ...SMALL_HEADER, comment: 'mine' }).reverse())
  expect(bindingDigest(reversed as unknown as ProofHeader)).toEqual(bindingDigest(SMALL_HEADER))
})

test.each<[string, object]>([
  ['header.version', { version: 2 }],
  ['header.modelDigest', { modelDigest: 'AB'.repeat(32) }],
  ['header.modelDigest', { modelDigest: 'ab'.repeat(31) }],
  ['header.numLayers', { numLayers: 0 }],
  ['header.numLayers', { numLayers: 4097 }],
  ['header.numKvHeads', { numKvHeads: 1.5 }],
  ['header.headDim', { headDim: '2' }],
  ['header.hiddenSize', { hiddenSize: 0 }],
  ['header.hiddenSize', { hiddenSize: 65537 }],
  ['header.numerics', { numerics: '' }],
  ['header.numerics', { numerics: 'LLaMA' }],
  ['header.numerics', { numerics: 'a'.repeat(65) }],
  ['header.stop', { stop: undefined }],
  ['header.stop.maxNewTokens', { stop: { maxNewTokens: 0, stopTokens: [] } }],
  ['header.stop.stopTokens', { stop: { maxNewTokens: 1, stopTokens: 2 } }],
  ['header.stop.stopTokens[1]', { stop: { maxNewTokens: 1, stopTokens: [2, 2] } }],
  ['header.challenge', { challenge: 'vrf' }],
  ['header.depth', { depth: 'deep' }],
  ['header.depth', { depth: 'random:17' }],
  ['header.depth', { depth: 'random:2' }], // its draw would be known while generating
  ['header.form', { form: 'hash' }],
  ['header.form', { form: 'sketch', challenge: 'beacon' }],
  ['header.form', { form: 'digest', numerics: 'llama.cpp' }],
  ['header.layerSampler', { layerSampler: 'fixed:1', challenge: 'beacon', depth: 'random:2' }],
  ['header.layerSampler', { layerSampler: 'fixed:7', depth: 'full' }],
  ['header.previousRoot', { previousRoot: '00' }],
  ['header.kvDtype', { kvDtype: 'toString' }],
  ['header.promptLength', { promptLength: 0 }],
  ['header.promptLength', { promptLength: NaN }],
  ['header.sampling', { sampling: undefined }],
  ['header.sampling.temperature', withSampling({ temperature: -0 })],
  ['header.sampling.temperature', withSampling({ temperature: Infinity })],
  ['header.sampling.temperature', withSampling({ temperature: NaN })],
  ['header.sampling.topP', withSampling({ topP: 0 })],
  ['header.sampling.topP', withSampling({ topP: 1.01 })],
  ['header.sampling.topP', withSampling({ topP: NaN })],
  ['header.sampling.topK', withSampling({ topK: 2 ** 32 })],
  ['header.sampling.topK', withSampling({ topK: -1 })],
  ['header.sampling.seed', withSampling({ seed: 7 })],
  ['header.sampling.seed', withSampling({ seed: '7' })],
  ['header.nonce', { nonce: '00'.repeat(65) }],
  ['header.nonce', { nonce: '0g' }],
  ['header.tokenSampler', { tokenSampler: 'bernoulli:2/64' }],
  ['header.tokenSampler', { tokenSampler: 'bernoulli:0.5' }],
  ['header.tokenSampler', { tokenSampler: 'uniform:2' }],
  ['header.tokenSampler', { tokenSampler: '' }],
  ['header.tokenSampler', { tokenSampler: 'a'.repeat(65) }],
  ['header.layerSampler', { layerSampler: 'fixed:4,1' }],
  ['header.layerSampler', { layerSampler: 'fixed:6' }],
  ['header.layerSampler', { layerSampler: 'Mine' }],
])('a wrong %s is refused', (where, change) => {
  const error = thrownBy(() => bindingDigest({ ...SMALL_HEADER, ...change } as ProofHeader))
  expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', where })
})

test('what is no header, binding or token at all is refused', () => {
  for (const value of [null, undefined, 7, 'header']) {
    expect(thrownBy(() => bindingDigest(value as never)).code).toBe('INVALID_ARGUMENT')
    expect(thrownBy(() => contextChain(value as never)).code).toBe('INVALID_ARGUMENT')
  }
  expect(thrownBy(() => contextChain(new Uint8Array(31))).code).toBe('INVALID_ARGUMENT')
  const chain = contextChain(new Uint8Array(32))
  for (const token of [-1, 2 ** 32, 0.5, NaN, '1', undefined, 1n]) {
    expect(thrownBy(() => chain.push(token as never)).code).toBe('INVALID_ARGUMENT')
  }
})

test('a caller who overwrites a context digest does not change the chain', () => {
  const [overwritten, untouched] = [contextChain(bytes('11'.repeat(32))), contextChain(bytes('11'.repeat(32)))]
  overwritten.push(1).fill(0)
  untouched.push(1)
  expect(overwritten.push(2)).toEqual(untouched.push(2))
})

test('the vectors say what made them', () => {
  expect(file.madeBy).toContain('test/vectors/formats.py')
})
