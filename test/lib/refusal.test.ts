// Proofs that nobody can judge: what a verifier says of them, and what that costs the generator.
import { join } from 'node:path'
import { recompute } from '../../lib/blind'
import { planOf } from '../../lib/challenge'
import { checkVerdict } from '../../lib/check'
import { advance, type DisputeEvent, replay } from '../../lib/dispute'
import { PocError } from '../../lib/errors'
import { auditEvidence, createEvidence } from '../../lib/evidence'
import { generate } from '../../lib/generate'
import { Model } from '../../lib/model'
import { decodeProof, encodeProof, type Proof, proofDigest } from '../../lib/proof'
import { refusalOf, refusalReason } from '../../lib/refusal'
import { blindProof } from '../../lib/seal'
import { type DeadlockRule, createTerms } from '../../lib/terms'
import type { ReasonCode, Verdict } from '../../lib/verdict'
import { verify } from '../../lib/verify'
import { verifyAll } from '../../lib/verify-all'

const PROOF = '70'.repeat(32)
const OTHER = '71'.repeat(32)
const TERMS = createTerms({ alpha: '1.1', beta: '1/2', generationCost: 1000, verificationCost: 40, maxStages: 3 })
const COMMITTED: DisputeEvent[] = [
  { type: 'deposit', party: 'user', amount: 1144n },
  { type: 'deposit', party: 'generator', amount: 500n },
  { type: 'delivery', root: 'aa'.repeat(32) },
  { type: 'challenge' },
  { type: 'beacon', beacon: '0b' },
]
const OPENED: DisputeEvent[] = [...COMMITTED, { type: 'opening', proofDigest: PROOF }]
const joins = (verifier: string): DisputeEvent => ({ type: 'join', verifier, stake: 20n })
type Refusal = DisputeEvent & { type: 'refusal' }
const refuses = (verifier: string, fields: Partial<Refusal> = {}): DisputeEvent[] => [
  joins(verifier),
  { type: 'refusal', verifier, reason: 'proof_malformed', proofDigest: PROOF, ...fields },
]
const rejects = (verifier: string, samplesDigest: string): DisputeEvent[] => [
  joins(verifier),
  { type: 'verdict', verifier, status: 'rejected', samplesDigest, proofDigest: PROOF },
]
const netOf = (events: DisputeEvent[], party: string) =>
  replay(TERMS, events).settlement?.payouts.find((payout) => payout.party === party)?.net

describe('a refusal', () => {
  test('by two verifiers costs a generator what handing over nothing costs', () => {
    const withheld = [...COMMITTED, { type: 'timeout', phase: 'opening' } as const]
    const garbage = [...OPENED, ...refuses('v1'), ...refuses('v2', { reason: 'proof_too_large' })]
    expect(netOf(garbage, 'generator')).toBe(-500n)
    expect(netOf(garbage, 'generator')).toBe(netOf(withheld, 'generator'))
    expect([netOf(garbage, 'v1'), netOf(garbage, 'v2')]).toEqual([44n, 456n])
  })

  test('is a stage that agrees with refusals alone: a lone one loses its stake to who can judge the proof', () => {
    const lone = replay(TERMS, [...OPENED, ...refuses('liar')])
    expect([lone.phase, lone.verifiers[0].status]).toEqual(['verifier', 'rejected'])
    const accepted = { type: 'verdict', verifier: 'v', status: 'accepted', samplesDigest: OTHER, proofDigest: PROOF }
    const events = [...OPENED, ...refuses('liar'), joins('v'), accepted as DisputeEvent]
    expect([netOf(events, 'generator'), netOf(events, 'liar')]).toEqual([1100n, -20n])
    const apart = replay(TERMS, [...OPENED, ...refuses('a'), ...rejects('b', OTHER)])
    expect(apart.phase).toBe('verifier')
    expect(replay(TERMS, [...apart.history, ...refuses('c')]).settlement?.case).toBe('verifier_confirmed')
    for (const onDeadlock of ['return-deposits', 'confirm-generator', 'refund-user'] as DeadlockRule[]) {
      const alone = [...OPENED, ...refuses('a'), { type: 'timeout', phase: 'verifier' } as const]
      expect(replay({ ...TERMS, onDeadlock }, alone).settlement?.case).toBe('deadlock')
    }
  })

  test('is bound to the bytes that were delivered, to the model, and to the verifier at work', () => {
    const state = replay(TERMS, [...OPENED, joins('a')])
    const wrong: [Partial<Refusal>, string][] = [
      [{ proofDigest: OTHER }, 'proofDigest'],
      [{ proofDigest: undefined, subject: PROOF }, 'proofDigest'],
      [{ verifier: 'b' }, 'verifier'],
      [{ reason: 'dull' as Refusal['reason'] }, 'reason'],
    ]
    for (const [fields, where] of wrong) {
      const event = { ...refuses('a')[1], ...fields } as DisputeEvent
      expect(() => advance(state, event)).toThrow(expect.objectContaining({ where: `event.${where}` }))
    }
    const delivery: DisputeEvent = { type: 'delivery', proofDigest: PROOF, modelDigest: OTHER }
    const named = replay(TERMS, [...COMMITTED.slice(0, 2), delivery, { type: 'challenge' }, joins('a')])
    expect(() => advance(named, refuses('a')[1])).toThrow(expect.objectContaining({ where: 'event.modelDigest' }))
    expect(advance(named, refuses('a', { modelDigest: OTHER })[1]).phase).toBe('verifier')
  })
})

describe('what verifiers throw', () => {
  let model: Model
  let proof: Proof

  beforeAll(async () => {
    model = await Model.load(join(__dirname, '../../models/tiny-stories'))
    proof = (await generate(model, [0, 540, 539], { maxNewTokens: 12, ignoreEos: true })).proof
  })
  afterAll(() => model.close())

  const errorOf = (action: () => unknown): Promise<unknown> =>
    (async () => action())().then(
      () => null,
      (error: unknown) => error,
    )
  const headed = (fields: object): Proof => ({ ...proof, header: { ...proof.header, ...fields } })
  const withTokens = (tokens: Uint32Array): Proof => ({ ...proof, tokens })
  const tooLong = () => withTokens(new Uint32Array(model.config.maxPositions + 2).fill(7))

  /** Right by itself, whatever its last token is: that one is never computed. */
  function endingIn(token: number): Proof {
    const tokens = Uint32Array.from([...proof.tokens.subarray(0, -1), token])
    const { plan } = planOf({ ...proof, tokens })
    return { ...proof, tokens, contextDigest: Buffer.from(plan.contextDigest).toString('hex') }
  }

  test('is a refusal where it is about the proof', async () => {
    const encoded = encodeProof(proof)
    const reasonOf = async (action: () => unknown) => refusalReason(await errorOf(action))
    expect(await reasonOf(() => decodeProof(Uint8Array.of(1, 2, 3)))).toBe('proof_malformed')
    expect(await reasonOf(() => decodeProof(encoded.subarray(0, -1)))).toBe('proof_malformed')
    expect(await reasonOf(() => decodeProof(encoded, { maxBytes: encoded.length - 1 }))).toBe('proof_too_large')
    expect(await reasonOf(() => verify(model, tooLong()))).toBe('context_overflow')
    for (const fields of [{ tokenSampler: 'mine' }, { layerSampler: 'mine' }]) {
      expect(await reasonOf(() => verify(model, headed(fields)))).toBe('unknown_sampler')
      expect(await reasonOf(() => recompute(model, blindProof(headed(fields))))).toBe('unknown_sampler')
      const [wrapped] = await verifyAll(model, [headed(fields)])
      expect(refusalReason(wrapped)).toBe('unknown_sampler')
    }
    expect(await reasonOf(() => verify(model, endingIn(model.config.vocabSize)))).toBe('token_out_of_range')
    expect(await reasonOf(() => recompute(model, blindProof(headed({ modelDigest: OTHER }))))).toBe('model_mismatch')
    expect(await reasonOf(() => recompute(model, blindProof(headed({ headDim: proof.header.headDim + 2 }))))).toBe(
      'model_mismatch',
    )
  })

  test('is none where it is about the verifier', async () => {
    const mine = { name: 'mine', rate: { num: 1, den: 1 }, samples: () => true }
    const closed = await Model.load(join(__dirname, '../../models/tiny-stories'))
    await closed.close()
    const cases: (() => unknown)[] = [
      () => verify(model, proof, { tokenSampler: mine }),
      () => verify(model, headed({ tokenSampler: 'mine' }), { tokenSampler: 'all' }),
      () => verify(model, headed({ tokenSampler: 'mine' }), { tokenSampler: 'nobody' }),
      () => verify(model, proof, { request: { colour: 'red' } as object }),
      () => verify(model, proof, { chunkSize: -1 }),
      () => recompute(model, { ...blindProof(proof), contextDigest: OTHER }), // a task that is not the proof
      () => verify(closed, proof),
    ]
    for (const action of cases) {
      const error = await errorOf(action)
      expect(error).toBeInstanceOf(PocError)
      expect(refusalReason(error)).toBeNull()
    }
    for (const other of [new Error('PROOF_MALFORMED'), null, undefined, { code: 'PROOF_MALFORMED' }]) {
      expect(refusalOf(other, { verifier: 'a', proofDigest: PROOF })).toBeNull()
    }
  })

  test('becomes the event, for bytes that are no proof as well', async () => {
    const garbage = Uint8Array.of(0xff, 1, 2)
    const delivered = proofDigest(garbage)
    expect(proofDigest(encodeProof(proof))).toBe(proofDigest(proof))
    const error = await errorOf(() => decodeProof(garbage))
    const [a, b] = ['a', 'b'].map((verifier) => {
      return [joins(verifier), refusalOf(error, { verifier, proofDigest: delivered }) as DisputeEvent]
    })
    expect(a[1]).toEqual({ type: 'refusal', verifier: 'a', reason: 'proof_malformed', proofDigest: delivered })
    const opened: DisputeEvent[] = [...COMMITTED, { type: 'opening', proofDigest: delivered }]
    expect(netOf([...opened, ...a, ...b], 'generator')).toBe(-500n)
  })

  test('is a verdict instead, where another sampler was asked for than one that nobody has', async () => {
    for (const [name, asked] of [
      ['tokenSampler', 'all'],
      ['layerSampler', 'uniform:2'],
    ] as const) {
      const named = headed({ [name]: 'mine' })
      const verdict = await verify(model, named, { request: { [name]: asked } })
      expect(verdict).toMatchObject({
        status: 'rejected',
        reasons: [{ code: 'request_mismatch', message: expect.stringContaining(`${name} "mine"`) }],
        proofDigest: proofDigest(named),
        computed: { layers: 0, positions: 0, share: 0 },
        matched: [],
        mismatched: [],
        unchecked: [],
      })
      // What was asked for is what the proof names: the verifier lacks the sampler.
      const same = await errorOf(() => verify(model, named, { request: { [name]: 'mine' } }))
      expect(same).toMatchObject({ code: 'INVALID_ARGUMENT', where: `header.${name}` })
    }
    // As do those who bring a sampler that was agreed on, for a proof that names another.
    const mine = { name: 'mine', rate: { num: 1, den: 1 }, samples: () => true }
    const other = await verify(model, proof, { tokenSampler: mine, request: { tokenSampler: 'mine' } })
    expect(other).toMatchObject({ status: 'rejected', reasons: [{ code: 'request_mismatch' }] })
  })

  test('is a verdict that the user checks, and an audit, though nobody has its plan', async () => {
    const named = headed({ tokenSampler: 'mine' })
    const request = { tokenSampler: 'all' }
    const verdict = await verify(model, named, { request })
    expect(checkVerdict(named, verdict, { request }).problems).toEqual([])
    const bundle = createEvidence(named, verdict, { request })
    expect(await auditEvidence(bundle, model)).toMatchObject({ valid: true, verified: true })
    const codes = (changes: Partial<Verdict>) =>
      checkVerdict(named, { ...verdict, ...changes }, { request }).problems.map(({ code }) => code)
    const reason = (code: ReasonCode) => [{ code, message: '' }]
    expect(codes({ status: 'accepted', reasons: reason('all_samples_match') })).toContain('accepted_despite_structure')
    expect(codes({ reasons: reason('context_mismatch') })).toEqual(['reason_false'])
    expect(codes({ unchecked: [[0, 0]] })).toEqual(['index_not_in_plan'])
    // Where it is what was asked for, the one who checks lacks the sampler.
    for (const options of [{}, { request: { tokenSampler: 'mine' } }]) {
      expect(() => checkVerdict(named, verdict, options)).toThrow(
        expect.objectContaining({ where: 'header.tokenSampler' }),
      )
    }
  })

  test('is no verdict where the options of the verifier are wrong', async () => {
    const options = { replay: '1/2', request: { nonce: 'ff' } } // a share, and nothing that draws it
    expect(await errorOf(() => verify(model, proof, options))).toMatchObject({ where: 'options.replaySeed' })
    const found = await verify(model, proof, { ...options, replaySeed: '01' })
    expect(checkVerdict(proof, found, options).problems).toEqual([])
  })

  test('costs no model work to repeat', async () => {
    const limits = { maxFlops: 0 }
    expect(refusalReason(await errorOf(() => verify(model, tooLong(), limits)))).toBe('context_overflow')
    expect(await verify(model, proof, limits)).toMatchObject({ reasons: [{ code: 'limit_exceeded' }] })
  })
})
