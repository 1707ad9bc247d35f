// What is found before any model work: termination, what was asked for, what was accepted before, and openings.
import fc from 'fast-check'
import { bindingDigest, type ProofHeader, type StopRule } from '../../lib/binding'
import { leafDigest, leafIndex, leavesOf, numLeaves, planOf, rootOf } from '../../lib/challenge'
import { hexFrom } from '../../lib/hex'
import type { KvSample } from '../../lib/kv'
import { merkleTree, parentOf } from '../../lib/merkle'
import type { Model } from '../../lib/model'
import type { Proof } from '../../lib/proof'
import {
  openingFault,
  type Request,
  type StructuralDemands,
  structuralReasons,
  terminationFault,
} from '../../lib/structure'
import { HEADER, handMadeProof } from './hand-made-proof'
import { contexts, H, hex, join } from './second-implementation'

const { proof } = handMadeProof()

/** All that the structural checks see of a model. */
const MODEL = {
  digest: HEADER.modelDigest,
  numerics: 'ieee32',
  config: { numLayers: 6, numKvHeads: 2, headDim: 4, hiddenSize: 5 },
} as Model

const codes = (given: Proof, demands: StructuralDemands = {}, model = MODEL) =>
  structuralReasons(model, given, planOf(given).plan, demands).map(({ code }) => code)

describe('termination', () => {
  const fault = (tokens: number[], promptLength: number, stop: StopRule | null) =>
    terminationFault({ header: { ...HEADER, promptLength, stop }, tokens: Uint32Array.from(tokens) })

  test.each<[string, number[], number, StopRule | null, RegExp | null]>([
    ['nothing is stated', [5, 2, 2, 2], 1, null, null],
    ['as many as there may be', [5, 6, 7], 1, { maxNewTokens: 2, stopTokens: [] }, null],
    ['a stop token at the end', [5, 6, 2], 1, { maxNewTokens: 9, stopTokens: [2] }, null],
    ['another stop token at the end', [5, 6, 7], 1, { maxNewTokens: 9, stopTokens: [2, 7] }, null],
    ['a stop token at the end of as many as may be', [5, 6, 2], 1, { maxNewTokens: 2, stopTokens: [2] }, null],
    ['stop tokens in the prompt', [2, 2, 6, 2], 2, { maxNewTokens: 9, stopTokens: [2] }, null],
    ['nothing generated', [5, 6], 2, { maxNewTokens: 9, stopTokens: [2] }, /stopped after 0 of 9/],
    ['nothing, behind a stop token of the prompt', [5, 2], 2, { maxNewTokens: 9, stopTokens: [2] }, /after 0 of 9/],
    ['too few', [5, 6, 7], 1, { maxNewTokens: 3, stopTokens: [2] }, /stopped after 2 of 3/],
    ['too few, and nothing that could end it', [5, 6], 1, { maxNewTokens: 3, stopTokens: [] }, /stopped after 1 of 3/],
    ['too many', [5, 6, 7, 8], 1, { maxNewTokens: 2, stopTokens: [2] }, /3 tokens were generated, at most 2/],
    ['one too many, which is a stop token', [5, 6, 7, 2], 1, { maxNewTokens: 2, stopTokens: [2] }, /at most 2/],
    ['on after a stop token', [5, 2, 6], 1, { maxNewTokens: 2, stopTokens: [2] }, /after stop token 2 at position 1/],
    ['on after a stop token to another', [5, 7, 2], 1, { maxNewTokens: 9, stopTokens: [2, 7] }, /7 at position 1/],
  ])('%s', (_, tokens, promptLength, stop, expected) => {
    const found = fault(tokens, promptLength, stop)
    if (expected === null) expect(found).toBeNull()
    else expect(found).toMatch(expected)
  })

  test('is that of the rule, run again, for any tokens', () => {
    const run = fc.record({
      tokens: fc.array(fc.nat(5), { minLength: 2, maxLength: 12 }),
      promptLength: fc.integer({ min: 1, max: 2 }),
      maxNewTokens: fc.integer({ min: 1, max: 10 }),
      stopTokens: fc.uniqueArray(fc.nat(6), { maxLength: 2 }).map((ids) => ids.sort()),
    })
    /** Tokens that a generator by this rule would have given out, were these what the sampler chooses. */
    const ended = (tokens: number[], promptLength: number, { maxNewTokens, stopTokens }: StopRule) => {
      const out = tokens.slice(0, promptLength)
      for (const token of tokens.slice(promptLength)) {
        if (out.length === promptLength + maxNewTokens) return out
        out.push(token)
        if (stopTokens.includes(token)) return out
      }
      return out.length === promptLength + maxNewTokens ? out : null // it would have gone on
    }
    fc.assert(
      fc.property(run, ({ tokens, promptLength, ...stop }) => {
        fc.pre(tokens.length > promptLength)
        const isRight = String(ended(tokens, promptLength, stop)) === String(tokens)
        expect(fault(tokens, promptLength, stop) === null).toBe(isRight)
      }),
      { numRuns: 500 },
    )
  })

  test('is a reason of its own', () => {
    const stop = { maxNewTokens: 36, stopTokens: [] }
    expect(codes(handMadeProof(40, { stop }).proof)).toEqual(['termination_mismatch'])
    expect(codes(handMadeProof(39, { stop }).proof)).toEqual([])
  })
})

describe('what was asked for', () => {
  const asks = (request: object) => codes(proof, { request: request as Request })

  test('the header as it is, and the prompt', () => {
    const { version, modelDigest, ...fields } = HEADER
    expect(version).toBe(1)
    expect(modelDigest).toBe(MODEL.digest)
    expect(asks(fields)).toEqual([])
    expect(asks({ ...fields, prompt: proof.tokens.slice(0, 3) })).toEqual([])
    expect(asks({ prompt: [...proof.tokens.slice(0, 3)], sampling: undefined, stop: null })).toEqual([])
    expect(asks({})).toEqual([])
  })

  const others: [string, object][] = [
    ['numLayers', { numLayers: 7 }],
    ['numerics', { numerics: 'llama.cpp' }],
    ['kvDtype', { kvDtype: 'f32' }],
    ['promptLength', { promptLength: 4 }],
    ['temperature', { sampling: { temperature: 1, topK: 0, topP: 1, seed: '' } }],
    ['seed', { sampling: { temperature: 0, topK: 0, topP: 1, seed: '00' } }],
    ['that sampling is not stated', { sampling: null }],
    ['stop', { stop: { maxNewTokens: 37, stopTokens: [] } }],
    ['challenge', { challenge: 'beacon' }],
    ['depth', { depth: 'full' }],
    ['form', { form: 'digest' }],
    ['tokenSampler', { tokenSampler: 'all' }],
    ['layerSampler', { layerSampler: 'uniform:2' }],
    ['nonce', { nonce: '' }],
    ['previousRoot', { previousRoot: '11'.repeat(32) }],
    ['a longer prompt', { prompt: proof.tokens.slice(0, 4) }],
    ['a shorter prompt', { prompt: proof.tokens.slice(0, 2) }],
    ['another prompt', { prompt: [...proof.tokens.slice(0, 2), 1] }],
  ]
  test.each(others)('another %s', (_, request) => {
    expect(asks(request)).toEqual(['request_mismatch'])
  })

  test('a difference is named', () => {
    const [reason] = structuralReasons(MODEL, proof, planOf(proof).plan, { request: { depth: 'full' } })
    expect(reason.message).toMatch(/depth "kv", asked for was "full"/)
  })

  test.each<[string, object]>([
    ['a field that no header has', { colour: 'red' }],
    ['a prompt that is no list', { prompt: null }],
  ])('%s is refused', (_, request) => {
    expect(() => asks(request)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
  })
})

describe('freshness', () => {
  test('a binding that was accepted before', () => {
    const binding = hexFrom(bindingDigest(proof.header))
    expect(codes(proof, { seen: new Set() })).toEqual([])
    expect(codes(proof, { seen: new Set([binding]) })).toEqual(['replayed'])
    expect(codes(handMadeProof(40, { nonce: '01' }).proof, { seen: new Set([binding]) })).toEqual([])
  })

  test('of a committed run, its root belongs to what was seen where the request had no nonce', () => {
    const silent = openedProof({ nonce: '' })
    const unasked = hexFrom(bindingDigest(silent.header))
    expect(codes(silent, { seen: new Set([unasked]) })).toEqual([])
    expect(codes(silent, { seen: new Set([unasked + silent.root]) })).toEqual(['replayed'])
    const elsewhere = openedProof({ nonce: '' }, 'beaf')
    expect(codes(elsewhere, { seen: new Set([unasked + silent.root]) })).toEqual(['replayed'])
    const asked = openedProof({ nonce: '0a' }) // a request with a nonce is answered once, whatever the root
    expect(codes(asked, { seen: new Set([hexFrom(bindingDigest(asked.header))]) })).toEqual(['replayed'])
  })

  test('nonce and beacon', () => {
    expect(codes(proof, { nonce: '00FF' })).toEqual([])
    expect(codes(proof, { nonce: '00fe' })).toEqual(['nonce_mismatch'])
    expect(codes(proof, { beacon: '01' })).toEqual(['beacon_mismatch'])
  })

  test('another model, and other shapes', () => {
    expect(codes(proof, {}, { ...MODEL, digest: 'cd'.repeat(32) } as Model)).toEqual(['model_mismatch'])
    for (const name of ['numLayers', 'numKvHeads', 'headDim', 'hiddenSize']) {
      const config = { ...MODEL.config, [name]: 9 }
      expect(codes(proof, {}, { ...MODEL, config } as Model)).toEqual(['parameters_mismatch'])
    }
  })

  test('all that is wrong is named, in this order', () => {
    const stop = { maxNewTokens: 2, stopTokens: [] }
    const wrong = { ...handMadeProof(40, { stop }).proof, contextDigest: '00'.repeat(32), samples: [] }
    const seen = new Set([hexFrom(bindingDigest(wrong.header))])
    const demands = { nonce: '01', beacon: '02', request: { depth: 'full' }, seen }
    expect(codes(wrong, demands, { ...MODEL, digest: 'cd'.repeat(32) } as Model)).toEqual([
      'model_mismatch',
      'nonce_mismatch',
      'beacon_mismatch',
      'request_mismatch',
      'replayed',
      'context_mismatch',
      'termination_mismatch',
      'plan_mismatch',
    ])
  })
})

/** A commitment to vectors from a hash, opened for a beacon, as docs/FORMATS.md has it. */
function openedProof(changes: Partial<ProofHeader> = {}, beacon = 'bea0'): Proof {
  const header: ProofHeader = { ...HEADER, challenge: 'beacon', depth: 'full', ...changes }
  const tokens = Uint32Array.from({ length: 12 }, (_, i) => i * 31)
  const vector = (layer: number, position: number, part: string, length: number) =>
    join(H('a', Buffer.from(`${layer}/${position}/${part}`)).slice(0, length))
  const sampleAt = (layer: number, position: number): KvSample =>
    layer === 6
      ? { layer, position, k: vector(layer, position, 'k', 20), v: new Uint8Array(0) }
      : { layer, position, k: vector(layer, position, 'k', 16), v: vector(layer, position, 'v', 16) }
  const size = numLeaves(header, tokens.length)
  let level = Array.from({ length: size }, (_, i) => leafDigest(sampleAt(i % 7, Math.floor(i / 7))))
  const leaves = join(...level)
  const nodes: Uint8Array[] = []
  while (level.length > 1) {
    level = level.flatMap((node, i) =>
      i % 2 === 1 ? [] : i + 1 < level.length ? [parentOf(node, level[i + 1])] : [node],
    )
    nodes.push(...level)
  }
  const tree = merkleTree(leaves, join(...nodes))
  const contextDigest = hex(contexts(header, tokens).at(-1) as Uint8Array)
  const root = rootOf({ header, tokens, contextDigest }, tree.head)
  const bare = { header, tokens, contextDigest, root, beacon, samplesDigest: '', samples: [], path: new Uint8Array(0) }
  const { plan } = planOf(bare)
  const samples = [...plan.layers].flatMap(([layer, positions]) => [...positions].map((p) => sampleAt(layer, p)))
  return { ...bare, samples, path: tree.path([...leavesOf(header, samples).keys()]) }
}

describe('openings', () => {
  const honest = openedProof()
  const fault = (changes: Partial<Proof>) => openingFault({ ...honest, ...changes })

  test('an honest one leads to its root', () => {
    for (const depth of ['kv', 'full', 'random:2']) {
      for (const beacon of ['00', 'ff'.repeat(64)]) {
        const opened = openedProof({ depth }, beacon)
        expect(openingFault(opened)).toBeNull()
        expect(codes(opened, { beacon })).toEqual([])
      }
    }
    expect(honest.samples.some(({ layer }) => layer === 6)).toBe(true)
  })

  test('leaves lie position by position, layers ascending', () => {
    expect(leafIndex(honest.header, 0, 0)).toBe(0)
    expect(leafIndex(honest.header, 6, 0)).toBe(6)
    expect(leafIndex(honest.header, 0, 1)).toBe(7)
    expect(leafIndex(honest.header, 6, 10)).toBe(numLeaves(honest.header, 12) - 1)
  })

  test('one changed bit of any sample does not', () => {
    honest.samples.forEach((sample, i) => {
      for (const part of ['k', 'v'] as const) {
        if (sample[part].length === 0) continue
        const changed = sample[part].slice()
        changed[i % changed.length] ^= 1 << (i & 7)
        const samples = honest.samples.map((one) => (one === sample ? { ...one, [part]: changed } : one))
        expect(fault({ samples })).not.toBeNull()
      }
    })
  })

  test('another path, root, token or header does not', () => {
    const path = honest.path.slice()
    path[5] ^= 4
    expect(fault({ path })).not.toBeNull()
    expect(fault({ path: honest.path.slice(32) })).not.toBeNull()
    expect(fault({ root: '00'.repeat(32) })).not.toBeNull()
    expect(fault({ contextDigest: '00'.repeat(32) })).not.toBeNull()
    expect(fault({ tokens: honest.tokens.slice(0, 11) })).not.toBeNull()
    expect(fault({ header: { ...honest.header, nonce: '' } })).not.toBeNull()
    expect(fault({ header: { ...honest.header, numLayers: 7 } })).not.toBeNull()
  })

  test('it is a reason only where nothing else is wrong, since another beacon asks for other samples', () => {
    const path = honest.path.slice()
    path[0] ^= 1
    expect(codes({ ...honest, path })).toEqual(['opening_mismatch'])
    expect(codes({ ...honest, path, contextDigest: '00'.repeat(32) })).toEqual(['context_mismatch'])
    const moved = { ...honest, beacon: 'beaf' }
    expect(codes(moved)).toEqual(['plan_mismatch'])
    expect(codes(moved, { beacon: 'bea0' })).toEqual(['beacon_mismatch', 'plan_mismatch'])
  })

  test('a root for other vectors is of no use: its plan is another', () => {
    const other = openedProof({ nonce: '99' })
    expect(codes({ ...honest, root: other.root })).toEqual(['plan_mismatch'])
  })
})
