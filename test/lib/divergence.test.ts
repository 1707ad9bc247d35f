// Where two commitments part: found at every place of a small tree, in as many steps as it has levels, whoever lies.
import path from 'node:path'
import fc from 'fast-check'
import { addon } from '../../lib/addon'
import { type Claim, leafDigest, leafIndex, numLeaves, rootOf } from '../../lib/challenge'
import { commit, commitWithHeader } from '../../lib/commitment'
import { type DisputeParty, firstDifferentOp, locateDivergence } from '../../lib/divergence'
import { type MerkleTree, merkleTree, parentOf } from '../../lib/merkle'
import { Model } from '../../lib/model'
import { prove } from '../../lib/prove'
import { type MadeTensor, makeModel, setValues } from '../models/make'
import { HEADER } from './hand-made-proof'
import { contexts, H, hex, join, le32 } from './second-implementation'

const WIDTH = HEADER.numLayers + 1
const header = { ...HEADER, promptLength: 1, challenge: 'beacon' as const }

function treeOf(leaves: Uint8Array[]): MerkleTree {
  const nodes: Uint8Array[] = []
  for (let level = leaves; level.length > 1; nodes.push(...level)) {
    level = level.flatMap((node, i, all) => (i % 2 ? [] : i + 1 < all.length ? [parentOf(node, all[i + 1])] : [node]))
  }
  return merkleTree(join(...leaves), join(...nodes))
}

/** A party that committed to leaves from a hash, some of them its own. */
function partyOf(numTokens: number, changed: readonly number[] = [], name = 'b'): { claim: Claim; tree: MerkleTree } {
  const tokens = Uint32Array.from({ length: numTokens }, (_, i) => i + 3)
  const count = numLeaves(header, numTokens)
  const leaves = Array.from({ length: count }, (_, i) => H(changed.includes(i) ? name : 'a', le32(i)))
  const tree = treeOf(leaves)
  const contextDigest = hex(contexts(header, tokens).at(-1) as Uint8Array)
  return { claim: { header, tokens, contextDigest, root: rootOf({ header, tokens, contextDigest }, tree.head) }, tree }
}

/** Counts what a party is asked for. */
function counted(party: { claim: Claim; tree: MerkleTree }) {
  const asked: [level: number, index: number][] = []
  const node = (level: number, index: number) => {
    asked.push([level, index])
    return party.tree.node(level, index)
  }
  return { asked, party: { claim: party.claim, tree: { head: party.tree.head, node } } as DisputeParty }
}

test.each([2, 3, 4, 6, 9])('one changed leaf is found at every place, %d tokens', async (numTokens) => {
  const honest = partyOf(numTokens)
  const count = numLeaves(header, numTokens)
  for (let index = 0; index < count; index++) {
    const other = counted(partyOf(numTokens, [index]))
    const found = await locateDivergence(honest, other.party)
    expect(found).toEqual({
      layer: index % WIDTH,
      position: Math.floor(index / WIDTH),
      steps: Math.ceil(Math.log2(count)),
      leaves: [hex(H('a', le32(index))), hex(H('b', le32(index)))],
    })
    expect(other.asked.length).toBeLessThanOrEqual(2 * Math.ceil(Math.log2(count)))
    expect(await locateDivergence(other.party, honest)).toMatchObject({ layer: index % WIDTH })
  }
})

test('of several changed leaves, the first is found: all before it agree', async () => {
  const changes = fc.uniqueArray(fc.nat(numLeaves(header, 30) - 1), { minLength: 1, maxLength: 20 })
  await fc.assert(
    fc.asyncProperty(changes, changes, async (ours, theirs) => {
      const [a, b] = [partyOf(30, ours, 'mine'), partyOf(30, theirs, 'theirs')]
      const first = Math.min(...ours, ...theirs)
      const found = await locateDivergence(a, b)
      expect(found).toMatchObject({ layer: first % WIDTH, position: Math.floor(first / WIDTH) })
    }),
    { numRuns: 40 },
  )
})

test('equal roots part nowhere, and nobody is asked', async () => {
  const other = counted(partyOf(9))
  expect(await locateDivergence(partyOf(9), other.party)).toBeNull()
  expect(other.asked).toEqual([])
})

test('commitments to other tokens or headers cannot be compared', async () => {
  const refusal = { code: 'INVALID_ARGUMENT', where: 'b.claim' }
  await expect(locateDivergence(partyOf(9), partyOf(8))).rejects.toMatchObject(refusal)
  const honest = partyOf(9)
  const lie = (changes: Partial<Claim>) => ({ ...honest, claim: { ...honest.claim, ...changes } })
  for (const changes of [
    { contextDigest: '00'.repeat(32) },
    { header: { ...header, nonce: '01' } }, // under a context digest that is not its own
    { tokens: honest.claim.tokens.slice(1) },
  ]) {
    await expect(locateDivergence(honest, lie(changes))).rejects.toMatchObject(refusal)
  }
})

describe('who lies is named', () => {
  const honest = partyOf(12)
  const other = partyOf(12, [40])

  test('a head that is not the one committed to', async () => {
    const level = honest.tree.numLevels - 1
    const liar = { claim: other.claim, tree: { ...other.tree, head: honest.tree.head } }
    expect(await locateDivergence(honest, liar)).toEqual({ inconsistent: 1, level, index: 0 })
    expect(await locateDivergence(liar, honest)).toEqual({ inconsistent: 0, level, index: 0 })
    const rootless = { ...other, claim: { ...other.claim, root: '77'.repeat(32) } }
    expect(await locateDivergence(honest, rootless)).toEqual({ inconsistent: 1, level, index: 0 })
  })

  test('any answer that is not what the one before hashed', async () => {
    const { asked, party } = counted(other)
    await locateDivergence(honest, party)
    expect(asked.length).toBeGreaterThan(10)
    for (const [atLevel, atIndex] of asked) {
      for (const lie of [
        (node: Uint8Array) => node.map((byte, i) => (i === atIndex % 32 ? byte ^ 0x80 : byte)),
        () => honest.tree.node(atLevel, (atIndex + 1) % 2),
        () => new Uint8Array(32),
      ]) {
        const told = lie(other.tree.node(atLevel, atIndex))
        if (hex(told) === hex(other.tree.node(atLevel, atIndex))) continue
        const node = (level: number, index: number) =>
          level === atLevel && index === atIndex ? told : other.tree.node(level, index)
        const liar = { claim: other.claim, tree: { head: other.tree.head, node } }
        const expected = { level: atLevel, index: atIndex - (atIndex % 2) }
        expect(await locateDivergence(honest, liar)).toEqual({ inconsistent: 1, ...expected })
        expect(await locateDivergence(liar, honest)).toEqual({ inconsistent: 0, ...expected })
      }
    }
  })

  test('a liar cannot move the divergence onto a leaf that agrees', async () => {
    // It answers from the honest tree wherever that would keep the walk away from its own leaf.
    for (let fromLevel = 0; fromLevel < honest.tree.numLevels - 1; fromLevel++) {
      const node = (level: number, index: number) => (level <= fromLevel ? honest : other).tree.node(level, index)
      const liar = { claim: other.claim, tree: { head: other.tree.head, node } }
      expect(await locateDivergence(honest, liar)).toMatchObject({ inconsistent: 1 })
    }
  })

  test.each<[string, unknown]>([
    ['undefined', undefined],
    ['31 bytes', new Uint8Array(31)],
    ['hex', '00'.repeat(32)],
  ])('%s for a node is refused', async (_, answer) => {
    const liar = { claim: other.claim, tree: { head: other.tree.head, node: () => answer as Uint8Array } }
    const where = expect.stringMatching(/^b\.tree\.node/)
    await expect(locateDivergence(honest, liar)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', where })
    const headless = { claim: other.claim, tree: { ...other.tree, head: answer as Uint8Array } }
    await expect(locateDivergence(honest, headless)).rejects.toMatchObject({ where: 'b.tree.head' })
  })

  test('answers may take their time; what a party throws comes through', async () => {
    const slow = async (level: number, index: number) => {
      await new Promise((resolve) => setTimeout(resolve, 1))
      return other.tree.node(level, index)
    }
    const remote = { claim: other.claim, tree: { head: Promise.resolve(other.tree.head), node: slow } }
    expect(await locateDivergence(honest, remote)).toMatchObject({ layer: 40 % WIDTH, position: 5 })
    const gone = { claim: other.claim, tree: { head: other.tree.head, node: () => Promise.reject(new Error('gone')) } }
    await expect(locateDivergence(honest, gone)).rejects.toThrow('gone')
  })
})

test('two runs of one model, of which one went another way from some leaf on', async () => {
  const model = await Model.load(path.join(__dirname, '../../models/tiny-stories'))
  try {
    const tokens = [0, 540, 539, 7, 8, 9, 10, 11]
    const honest = await commit(model, tokens, { promptLength: 3 })
    const { claim, tree } = honest
    for (const index of [0, 6, 23, 30, 48]) {
      const leaves = Uint8Array.from(
        Buffer.concat(
          Array.from({ length: tree.numLeaves }, (_, i) => (i < index ? tree.node(0, i) : H('b', tree.node(0, i)))),
        ),
      )
      const forged = merkleTree(leaves, await addon().merkleTree(leaves))
      const cheat: DisputeParty = { claim: { ...claim, root: rootOf(claim, forged.head) }, tree: forged }
      const found = await locateDivergence(honest, cheat)
      expect(found).toMatchObject({ layer: index % 7, position: Math.floor(index / 7), steps: 6 })
    }
    // Whoever is right there can be told by one recomputed sample.
    const proof = await prove(model, tokens, { promptLength: 3, tokenSampler: 'all', layerSampler: 'fixed:2' })
    for (const sample of proof.samples) {
      const leaf = tree.node(0, leafIndex(claim.header, sample.layer, sample.position))
      expect(hex(leafDigest(sample))).toBe(hex(leaf))
    }
  } finally {
    await model.close()
  }
})

describe('the op that made the difference', () => {
  const TOKENS = Uint32Array.of(5, 17, 3, 90, 41, 8, 66)
  const MODEL = { seed: 3, config: { tie_word_embeddings: false } }

  // Weights of a model with 3 layers: where the first leaf is that one of them reaches, and through which op.
  test.each<[name: string, layer: number, position: number, op: string]>([
    ['model.embed_tokens.weight', 0, 0, 'embed'],
    ['model.layers.0.self_attn.k_proj.weight', 0, 0, 'k'],
    ['model.layers.0.self_attn.v_proj.weight', 0, 0, 'v'],
    ['model.layers.1.self_attn.v_proj.weight', 1, 0, 'v'],
    ['model.layers.1.input_layernorm.weight', 1, 0, 'next_norm'],
    ['model.layers.1.self_attn.q_proj.weight', 2, 1, 'q'], // with one key, any q gives the same attention
    ['model.layers.1.self_attn.o_proj.weight', 2, 0, 'o'],
    ['model.layers.1.post_attention_layernorm.weight', 2, 0, 'post_norm'],
    ['model.layers.1.mlp.gate_proj.weight', 2, 0, 'gate'],
    ['model.layers.1.mlp.up_proj.weight', 2, 0, 'up'],
    ['model.layers.1.mlp.down_proj.weight', 2, 0, 'down'],
    ['model.layers.2.self_attn.q_proj.weight', 3, 1, 'q'],
    ['model.norm.weight', 3, 0, 'final_norm'],
  ])('%s', async (name, layer, position, op) => {
    const real = await Model.load(makeModel(MODEL).dir)
    const edit = (tensors: Map<string, MadeTensor>) => {
      const tensor = tensors.get(name) as MadeTensor
      setValues(
        tensor,
        tensor.values.map((value) => value * 1.01),
      )
    }
    const cheap = await Model.load(makeModel({ ...MODEL, edit }).dir)
    try {
      const honest = await commit(real, TOKENS, { promptLength: 2 })
      const cheat = await commitWithHeader(cheap, honest.claim.header, TOKENS)
      expect(await locateDivergence(honest, cheat)).toMatchObject({ layer, position })
      const [a, b] = await Promise.all([real, cheap].map((m) => m.traceOps(TOKENS, 'f32', layer, position)))
      expect(firstDifferentOp(a, b)).toBe(op)
    } finally {
      await Promise.all([real.close(), cheap.close()])
    }
  })

  test('the head is behind all leaves: what it does is for token replay', async () => {
    const edit = (tensors: Map<string, MadeTensor>) => {
      const tensor = tensors.get('lm_head.weight') as MadeTensor
      setValues(
        tensor,
        tensor.values.map((value) => -value),
      )
    }
    const models = await Promise.all([MODEL, { ...MODEL, edit }].map((options) => Model.load(makeModel(options).dir)))
    const honest = await commit(models[0], TOKENS, { promptLength: 2 })
    expect(await locateDivergence(honest, await commitWithHeader(models[1], honest.claim.header, TOKENS))).toBeNull()
    await Promise.all(models.map((model) => model.close()))
  })

  const trace = (...digests: string[]) => digests.map((digest, i) => ({ op: ['norm', 'qkv', 'rope'][i], digest }))
  test('is the first whose digests differ', () => {
    expect(firstDifferentOp(trace('1', '2', '3'), trace('1', '9', '8'))).toBe('qkv')
    expect(firstDifferentOp(trace('1', '2', '3'), trace('1', '2', '8'))).toBe('rope')
    expect(firstDifferentOp(trace('1', '2', '3'), trace('1', '2', '3'))).toBeNull()
  })
  test('traces of other ops are refused', () => {
    const refusal = expect.objectContaining({ code: 'INVALID_ARGUMENT' })
    expect(() => firstDifferentOp(trace('1', '2'), trace('1'))).toThrow(refusal)
    expect(() => firstDifferentOp(trace('1'), [{ op: 'rope', digest: '1' }])).toThrow(refusal)
  })
})
