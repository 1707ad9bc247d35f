// What is not what a public function asks for is a typed error, whatever it is instead.
import path from 'node:path'
import * as poc from '../../lib'
import { handMadeProof, layerOf } from './hand-made-proof'

const { proof, plan } = handMadeProof(30)
const layers = [...plan.layers.keys()].map((layer) => layerOf(plan, layer))
const digests = poc.runningDigests(layers)
const subject = poc.sealSubject(poc.blindProof(proof))
const sealed = { verifier: 'v1', subject, digests, refuted: false }
const report = poc.matchRecomputed(plan, layers, proof.samples)
const canaries: poc.Canary[] = [{ layer: 1, position: 2, part: 'k' }]
const ops = [{ op: 'norm', digest: 'ab' }]
const seed = new Uint8Array(32)

let model: poc.Model
let commitment: poc.Commitment
let opened: poc.Proof
let recomputed: poc.Recomputed
beforeAll(async () => {
  model = await poc.Model.load(path.join(__dirname, '../../models/tiny-stories'), { threads: 1 })
  commitment = await poc.commit(model, [0, 540, 539, 260], { promptLength: 2 })
  opened = await commitment.open('aa')
  recomputed = await poc.recompute(model, poc.blindProof(opened))
})
afterAll(() => model.close())

const JUNK: unknown[] = [null, undefined, 7, '', [], {}]

/** Name, right arguments, and by position the junk that is none: what may be left out, or is a right answer itself. */
type Case = [name: string, args: () => readonly unknown[], allowed?: Record<number, readonly unknown[]>]
const EMPTY = [[]]
const OPTIONS = [undefined, [], {}]
const CASES: Case[] = [
  ['locateDivergence', () => [commitment, commitment]],
  ['firstDifferentOp', () => [ops, ops]],
  ['scoreCanaries', () => [canaries, report, {}], { 2: OPTIONS }],
  ['plantCanaries', () => [proof, { seed: 'ab'.repeat(16) }]],
  ['blindProof', () => [proof]],
  ['sealSubject', () => [proof]],
  ['sealVerdict', () => [sealed, 'ab'.repeat(32)], { 1: [undefined] }],
  ['sealedOutcome', () => [sealed, proof]],
  ['checkSealedVerdict', () => [sealed, proof, { ...report, status: 'accepted' }], { 2: [[], {}] }],
  ['groupBySamples', () => [[sealed]], { 0: EMPTY }],
  ['runningDigests', () => [layers], { 0: EMPTY }],
  ['claimedDigests', () => [proof.samples], { 0: EMPTY }],
  ['firstDivergence', () => [digests, digests], { 0: EMPTY, 1: EMPTY }],
  ['matchRecomputed', () => [plan, layers, proof.samples], { 1: EMPTY }],
  ['leafDigest', () => [proof.samples[0]]],
  ['opensTo', () => [commitment.claim, new Map([[0, seed]]), seed]],
  ['headFromPath', () => [new Map([[0, seed]]), 2, seed], { 1: [7] }],
  ['sketchSample', () => [proof.header, seed, proof.samples[0]]],
  ['recompute', () => [model, opened, {}], { 2: OPTIONS }],
  ['judge', () => [model, recomputed, opened, {}], { 3: OPTIONS }],
  ['openClaim', () => [model, commitment.claim, 'aa', {}], { 3: OPTIONS }],
]

const functions = poc as unknown as Record<string, (...args: unknown[]) => unknown>
const call = async (name: string, args: readonly unknown[]) => await functions[name](...args)

describe.each(CASES)('%s', (name, args, allowed = {}) => {
  test('takes what it asks for', async () => {
    await expect(call(name, args())).resolves.toBeDefined()
  })

  test('refuses junk in any place, as a typed error', async () => {
    for (const at of args().keys()) {
      for (const junk of JUNK) {
        if (allowed[at]?.some((one) => JSON.stringify(one) === JSON.stringify(junk))) continue
        const wrong = args().map((arg, i) => (i === at ? junk : arg))
        const where = `${name}, argument ${at}: ${JSON.stringify(junk)}`
        const error = await call(name, wrong).then(
          (result) => ({ where, result }),
          ({ name: kind, code }: poc.PocError) => ({ where, kind, code }),
        )
        expect(error).toEqual({
          where,
          kind: 'PocError',
          code: expect.stringMatching(/^INVALID_ARGUMENT$|_MALFORMED$/),
        })
      }
    }
  })
})

test('what is wrong inside of a list is named', () => {
  const wrong: [() => unknown, string][] = [
    [() => poc.runningDigests([layers[0], {} as poc.LayerSamples]), 'layers, item 1'],
    [() => poc.claimedDigests([proof.samples[0], null as never]), 'samples[1]'],
    [() => poc.scoreCanaries(canaries, { ...report, unchecked: [5 as never] }), 'verdict.unchecked[0]'],
    [() => poc.scoreCanaries([{ ...canaries[0], part: 'q' as 'k' }], report), 'canaries[0]'],
    [() => poc.groupBySamples([{ verifier: 'a', digests: [['1', 'ab'] as never] }]), 'recomputed[0]'],
    [() => poc.firstDifferentOp(ops, [{ op: 'norm' } as never]), 'b[0]'],
    [() => poc.headFromPath(new Map([[1, new Uint8Array(31)]]), 2, seed), 'leaf 1'],
    [() => poc.sketchSample({ ...proof.header, kvDtype: 'f8' as 'f16' }, seed, proof.samples[0]), 'shape.kvDtype'],
  ]
  for (const [action, where] of wrong) {
    expect(action).toThrow(expect.objectContaining({ name: 'PocError', code: 'INVALID_ARGUMENT', where }))
  }
})
