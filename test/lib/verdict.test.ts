import fc from 'fast-check'
import type { ProofHeader } from '../../lib/binding'
import { planOf } from '../../lib/challenge'
import { type CheckOptions, checkVerdict } from '../../lib/check'
import { digestOf } from '../../lib/form'
import { indicesOfPlan } from '../../lib/layer-walk'
import { createDigestMatcher, createMatcher } from '../../lib/matcher'
import { createPlan } from '../../lib/plan'
import { type Proof, proofDigest } from '../../lib/proof'
import { parseVerdict, type ReasonCode, type TokenReplay, type Verdict } from '../../lib/verdict'
import { handMadeProof, layerOf } from './hand-made-proof'

const { proof, plan } = handMadeProof()
const layers = [...plan.layers.keys()]

/** What an honest verifier answers to `claimed` after at most `upTo` sampled layers. */
function verdictOn(claimed: Proof, upTo = Number.POSITIVE_INFINITY): Verdict {
  const matcher = createMatcher(plan, claimed.samples)
  for (const layer of layers.slice(0, upTo)) if (!matcher.decided) matcher.push(layerOf(plan, layer))
  const { layersComputed, ...indices } = matcher.result()
  const accepted = matcher.decided && indices.firstMismatch === null
  const status = accepted ? 'accepted' : indices.firstMismatch ? 'rejected' : 'inconclusive'
  const code = ({ accepted: 'all_samples_match', rejected: 'sample_mismatch', inconclusive: 'aborted' } as const)[
    status
  ]
  const computed = { layers: layersComputed, positions: layersComputed && plan.numPositions, share: layersComputed / 6 }
  return { ...frame(claimed), status, reasons: [{ code, message: '' }], ...indices, computed }
}

/** What it answers when the proof contradicts itself. */
function structural(claimed: Proof, ...codes: ReasonCode[]): Verdict {
  const claimedPlan = createPlan(claimed.header, claimed.tokens)
  return {
    ...verdictOn(proof, 0),
    ...frame(claimed),
    status: 'rejected',
    reasons: codes.map((code) => ({ code, message: '' })),
    unchecked: indicesOfPlan(claimedPlan),
  }
}

function frame(claimed: Proof) {
  const { modelDigest, numerics } = claimed.header
  return { version: 1 as const, proofDigest: proofDigest(claimed), modelDigest, numerics, profile: null, replay: null }
}

/** A verdict without replayed tokens is one that was to be so, unless `options` say otherwise. */
function codesOf(claimed: Proof, verdict: Verdict, options: CheckOptions = {}) {
  const told = verdict.replay === null ? { replay: 'none', ...options } : options
  const { valid, problems } = checkVerdict(claimed, verdict, told)
  expect(valid).toBe(problems.length === 0)
  return problems.map(({ code }) => code).sort()
}

function withZeros(...indices: number[]): Proof {
  const zeros = new Uint8Array(proof.samples[0].k.length)
  return { ...proof, samples: proof.samples.map((s, i) => (indices.includes(i) ? { ...s, v: zeros } : s)) }
}

const accepted = verdictOn(proof)
const forged = withZeros(proof.samples.length - 3, proof.samples.length >> 1)
const rejected = verdictOn(forged)
const aborted = verdictOn(proof, 2)
const twiceWrong: Proof = { ...forged, contextDigest: '00'.repeat(32) }
const wrongContext: Proof = { ...proof, contextDigest: '00'.repeat(32) }

describe('honest verdicts are valid', () => {
  test('accepted', () => expect(codesOf(proof, accepted)).toEqual([]))
  test('inconclusive, before and after some layers', () => {
    expect(codesOf(proof, verdictOn(proof, 0))).toEqual([])
    expect(codesOf(proof, aborted)).toEqual([])
  })
  test('rejected, whichever samples were forged', () => {
    const anySamples = fc.uniqueArray(fc.nat({ max: proof.samples.length - 1 }), { minLength: 1, maxLength: 5 })
    fc.assert(
      fc.property(anySamples, (indices) => {
        const claimed = withZeros(...indices)
        const verdict = verdictOn(claimed)
        expect(verdict.status).toBe('rejected')
        expect(codesOf(claimed, verdict)).toEqual([])
      }),
    )
  })
  test('rejected for its structure', () => {
    expect(codesOf(wrongContext, structural(wrongContext, 'context_mismatch'))).toEqual([])
    const fewer = { ...proof, samples: proof.samples.slice(1) }
    expect(codesOf(fewer, structural(fewer, 'plan_mismatch'))).toEqual([])
    const tokens = proof.tokens.map((token, i) => (i === 9 ? token + 1 : token))
    const changed = { ...proof, tokens }
    expect(codesOf(changed, structural(changed, 'context_mismatch', 'plan_mismatch'))).toEqual([])
    const other = { ...structural(proof, 'model_mismatch'), modelDigest: 'cd'.repeat(32) }
    expect(codesOf(proof, other)).toEqual([])
    // Only the verifier knows its model and, unless it is given, the nonce.
    expect(codesOf(proof, structural(proof, 'parameters_mismatch'))).toEqual([])
    expect(codesOf(proof, structural(proof, 'nonce_mismatch'))).toEqual([])
  })
  test('they survive JSON', () => {
    for (const verdict of [accepted, rejected, aborted, structural(wrongContext, 'context_mismatch')]) {
      expect(parseVerdict(JSON.parse(JSON.stringify(verdict)))).toEqual(verdict)
    }
  })
})

describe('a lying verdict is found out', () => {
  const [first, second] = accepted.matched
  const reasons = (code: ReasonCode) => [{ code, message: '' }]
  const cases: [name: string, proof: Proof, verdict: Verdict, codes: string[]][] = [
    ['about another proof', forged, accepted, ['other_proof', 'samples_digest']],
    ['in other numerics', proof, { ...accepted, numerics: 'bf16' }, ['other_numerics']],
    ['for no reason', proof, { ...accepted, reasons: [] }, ['reason_status']],
    ['for a reason of another status', proof, { ...aborted, reasons: reasons('all_samples_match') }, ['reason_status']],
    [
      'for a sample and for structure at once',
      twiceWrong,
      { ...rejected, ...frame(twiceWrong), reasons: [...reasons('context_mismatch'), ...reasons('sample_mismatch')] },
      ['reason_status', 'structure_overlooked'],
    ],
    ['for a context that is right', proof, structural(proof, 'context_mismatch'), ['reason_false']],
    ['for a plan that is right', proof, structural(proof, 'plan_mismatch'), ['reason_false']],
    ['for a model that is the same', proof, structural(proof, 'model_mismatch'), ['reason_false']],
    [
      'accepted in spite of a wrong context',
      wrongContext,
      { ...accepted, ...frame(wrongContext) },
      ['accepted_despite_structure'],
    ],
    ['accepted by another model', proof, { ...accepted, modelDigest: 'cd'.repeat(32) }, ['accepted_despite_structure']],
    [
      'two indices swapped',
      proof,
      { ...accepted, matched: [second, first, ...accepted.matched.slice(2)] },
      ['index_order'],
    ],
    [
      'an index twice in place of another',
      proof,
      { ...accepted, matched: [first, first, ...accepted.matched.slice(2)] },
      ['index_missing', 'index_order', 'index_repeated'],
    ],
    ['an index left out', proof, { ...accepted, matched: accepted.matched.slice(1) }, ['index_missing']],
    [
      'an index that the plan does not have',
      proof,
      { ...accepted, matched: [[0, 0], ...accepted.matched] },
      ['index_not_in_plan'],
    ],
    [
      'accepted before the end',
      proof,
      { ...aborted, status: 'accepted', reasons: accepted.reasons },
      ['status_indices'],
    ],
    [
      'rejected without a mismatch',
      proof,
      { ...accepted, status: 'rejected', reasons: rejected.reasons },
      ['status_indices'],
    ],
    [
      'inconclusive with a mismatch',
      forged,
      { ...rejected, status: 'inconclusive', reasons: aborted.reasons },
      ['status_indices'],
    ],
    ['without its first mismatch', forged, { ...rejected, firstMismatch: null }, ['first_mismatch']],
    [
      'with a first mismatch that matched',
      proof,
      { ...accepted, firstMismatch: { layer: first[0], position: first[1], part: 'k' } },
      ['first_mismatch'],
    ],
    [
      'a sample compared after the decision',
      forged,
      { ...rejected, matched: [...rejected.matched, rejected.unchecked[0]], unchecked: rejected.unchecked.slice(1) },
      ['termination'],
    ],
    [
      'a sample left unchecked before it',
      forged,
      { ...rejected, matched: rejected.matched.slice(1), unchecked: [rejected.matched[0], ...rejected.unchecked] },
      ['termination'],
    ],
    ['fewer layers computed', proof, { ...accepted, computed: { ...accepted.computed, layers: 2 } }, ['computed']],
    ['more layers computed', forged, { ...rejected, computed: { ...rejected.computed, layers: 6 } }, ['computed']],
    [
      'fewer positions computed',
      proof,
      { ...accepted, computed: { ...accepted.computed, positions: 1 } },
      ['computed'],
    ],
    ['layers for nothing', proof, { ...accepted, computed: { ...accepted.computed, share: 0 } }, ['computed']],
    ['other samples that all match', proof, { ...accepted, samplesDigest: rejected.samplesDigest }, ['samples_digest']],
  ]
  test.each(cases)('%s', (_, claimed, verdict, codes) => {
    expect(codesOf(claimed, verdict)).toEqual(codes)
  })

  test('a mismatch made up over the claimed samples themselves', () => {
    const upTo = rejected.computed.layers
    const copied = verdictOn(proof, layers.filter((layer) => layer < upTo).length)
    const lazy = { ...rejected, ...frame(proof), samplesDigest: copied.samplesDigest }
    expect(codesOf(proof, lazy)).toEqual(['samples_digest'])
  })

  test('a nonce, where the user says which was given out', () => {
    expect(codesOf(proof, accepted, { nonce: '00FF' })).toEqual([])
    expect(codesOf(proof, accepted, { nonce: '01' })).toEqual(['accepted_despite_structure'])
    expect(codesOf(proof, structural(proof, 'nonce_mismatch'), { nonce: '01' })).toEqual([])
    expect(codesOf(proof, structural(proof, 'nonce_mismatch'), { nonce: '00ff' })).toEqual(['reason_false'])
  })

  test('every single change of an index list is noticed', () => {
    const moves = fc.record({
      from: fc.constantFrom('matched' as const, 'mismatched' as const, 'unchecked' as const),
      to: fc.constantFrom('matched' as const, 'mismatched' as const, 'unchecked' as const, null),
      at: fc.nat(),
    })
    fc.assert(
      fc.property(fc.constantFrom(rejected, accepted, aborted), moves, (honest, { from, to, at }) => {
        const claimed = honest === rejected ? forged : proof
        fc.pre(honest[from].length > 0 && from !== to)
        // A second mismatch in the deciding layer is the verifier's word alone.
        fc.pre(!(honest === rejected && from !== 'unchecked' && to !== 'unchecked' && to !== null))
        const index = honest[from][at % honest[from].length]
        const lists = { ...honest, [from]: honest[from].filter((one) => one !== index) }
        if (to) lists[to] = [...lists[to], index].sort(([a, b], [c, d]) => a - c || b - d)
        expect(codesOf(claimed, lists)).not.toEqual([])
      }),
    )
  })
})

test('custom samplers are needed where the proof names them', () => {
  const tokenSampler = { name: 'even', rate: { num: 1, den: 2 }, samples: (_: Uint8Array, p: number) => p % 2 === 0 }
  const header = { ...proof.header, tokenSampler: 'even' }
  const custom = { ...proof, header }
  const verdict = {
    ...structural(proof, 'plan_mismatch', 'context_mismatch'),
    ...frame(custom),
    unchecked: indicesOfPlan(createPlan(header, proof.tokens, { tokenSampler })),
  }
  expect(codesOf(custom, verdict, { tokenSampler })).toEqual([])
  expect(() => checkVerdict(custom, verdict)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }))
})

test('tokens that verify() replays by itself were to be replayed, unless the verifier was told otherwise', () => {
  const found = (options?: CheckOptions) => checkVerdict(proof, accepted, options).problems.map(({ code }) => code)
  for (const options of [undefined, {}, { replay: undefined }, { replay: 'all' }, { nonce: '00ff' }]) {
    expect(found(options)).toEqual(['replay'])
  }
  expect(found({ replay: 'none' })).toEqual([])
  const silent = handMadeProof(40, { sampling: null }).proof // nobody can replay these by default
  const plain = { ...accepted, ...frame(silent), matched: indicesOfPlan(planOf(silent).plan) }
  const verdict = { ...plain, samplesDigest: digestOf(silent.samples) }
  expect(checkVerdict(silent, verdict).problems).toEqual([])
  expect(checkVerdict(silent, verdict, { probabilityTest: true }).problems).toMatchObject([{ code: 'replay' }])
})

test('what is no proof, no verdict or no option is an error', () => {
  const refused = (code: string, ...args: unknown[]) => {
    const call = () => checkVerdict(...(args as Parameters<typeof checkVerdict>))
    expect(call).toThrow(expect.objectContaining({ name: 'PocError', code }))
  }
  for (const junk of [null, undefined, 7, '', 'proof', {}, [], new Uint8Array(4), { header: {} }]) {
    refused('INVALID_ARGUMENT', junk, accepted)
    refused('VERDICT_MALFORMED', proof, junk)
  }
  for (const junk of [null, 7, '', { nonce: 5 }, { nonze: '01' }, { maxFlops: 1 }]) {
    refused('INVALID_ARGUMENT', proof, accepted, junk)
  }
})

describe('parseVerdict', () => {
  const changed = (path: (string | number)[], value: unknown): unknown => {
    const copy = structuredClone(rejected)
    let parent = copy as unknown as Record<string | number, never>
    for (const key of path.slice(0, -1)) parent = parent[key]
    Object.assign(parent, { [path[path.length - 1]]: value })
    return copy
  }
  test.each<[path: (string | number)[], value: unknown]>([
    [['version'], 2],
    [['status'], 'maybe'],
    [['status'], undefined],
    [['reasons'], {}],
    [['reasons', 0, 'code'], 'toString'],
    [['reasons', 0, 'message'], 1],
    [['reasons', 0, 'more'], 1],
    [['proofDigest'], 'AB'.repeat(32)],
    [['modelDigest'], 'ab'],
    [['numerics'], 32],
    [['replay'], undefined],
    [['replay'], { positions: 1, mismatched: 0, first: null, meanScoreGap: 0 }],
    [['matched'], 'all'],
    [['matched', 0], [1]],
    [
      ['matched', 0],
      [1, 2, 3],
    ],
    [['matched', 0, 1], -1],
    [['unchecked', 0, 0], 0.5],
    [['mismatched', 0, 0], 2 ** 32],
    [['firstMismatch'], undefined],
    [['firstMismatch', 'part'], 'q'],
    [['computed', 'layers'], '3'],
    [['computed', 'share'], -0.01],
    [['computed', 'share'], Number.NaN],
    [['samplesDigest'], null],
    [['comment'], 'trust me'],
  ])('refuses %j = %j', (path, value) => {
    const error = expect.objectContaining({ code: 'VERDICT_MALFORMED', where: expect.stringMatching(/^verdict/) })
    expect(() => parseVerdict(changed(path, value))).toThrow(error)
  })

  test('names the field, what it must be and what it is', () => {
    const thrown = { where: 'verdict.matched[0][1]', expected: 'an integer from 0 to 4294967295', received: '-1' }
    expect(() => parseVerdict(changed(['matched', 0, 1], -1))).toThrow(expect.objectContaining(thrown))
  })

  test('gives a verdict or a typed error for any JSON', () => {
    const anyPath = fc.constantFrom(...Object.keys(rejected))
    fc.assert(
      fc.property(fc.oneof(fc.jsonValue(), fc.tuple(anyPath, fc.jsonValue())), (json) => {
        const given = Array.isArray(json) && typeof json[0] === 'string' ? { ...rejected, [json[0]]: json[1] } : json
        try {
          expect(parseVerdict(given)).toEqual(given)
        } catch (error) {
          expect(error).toMatchObject({ code: 'VERDICT_MALFORMED' })
        }
      }),
    )
  })
})

describe('verdicts on replayed tokens', () => {
  const reason = (code: ReasonCode) => [{ code, message: '' }]
  const whole = { layers: 7, positions: plan.numPositions, share: 1.2 }
  const replay: TokenReplay = { positions: 37, mismatched: 0, first: null, meanScoreGap: 0, surprise: null }
  const replayed: Verdict = { ...accepted, replay, computed: whole }
  const first = { position: 20, claimed: proof.tokens[20], chosen: proof.tokens[20] + 1 }
  const wrongTokens: Verdict = {
    ...replayed,
    status: 'rejected',
    reasons: reason('token_mismatch'),
    replay: { ...replay, mismatched: 2, first, meanScoreGap: 0.3 },
  }
  const silentProof = handMadeProof(40, { sampling: null }).proof
  const improbable: Verdict = {
    ...structural(silentProof, 'improbable_tokens'),
    matched: indicesOfPlan(planOf(silentProof).plan),
    unchecked: [],
    samplesDigest: digestOf(silentProof.samples),
    replay: { ...replay, meanScoreGap: null, surprise: 14 },
    computed: whole,
  }
  const changed = (verdict: Verdict, changes: Partial<TokenReplay>): Verdict => {
    return { ...verdict, replay: { ...(verdict.replay as TokenReplay), ...changes } }
  }

  test('a surprise that is none', () => {
    for (const surprise of [13.8, 0, null])
      expect(codesOf(silentProof, changed(improbable, { surprise }))).toEqual(['replay'])
  })

  test('a surprise that is overlooked, or left out', () => {
    const passed = { ...improbable, status: 'accepted' as const, reasons: reason('all_samples_match') }
    const codesAt = (surprise: number | null) =>
      codesOf(silentProof, changed(passed, { surprise }), { probabilityTest: true })
    expect([13.8, 13.9, null].map(codesAt)).toEqual([[], ['replay'], ['replay']])
  })

  test('in other numerics, a token that is not chosen may be near enough', () => {
    const foreign = { ...proof, header: { ...proof.header, numerics: 'llama.cpp' } }
    const near = { ...changed(replayed, { mismatched: 2, first }), ...frame(foreign) }
    expect(codesOf(foreign, { ...near, replay: { ...replay, mismatched: 2, first } })).not.toContain('replay')
  })

  test('honest ones are valid, and survive JSON', () => {
    for (const verdict of [replayed, wrongTokens, improbable, changed(wrongTokens, { positions: 2 })]) {
      expect(codesOf(verdict === improbable ? silentProof : proof, verdict)).toEqual([])
      expect(parseVerdict(JSON.parse(JSON.stringify(verdict)))).toEqual(verdict)
    }
  })

  test.each<[string, Verdict, string[]]>([
    ['accepted in spite of a token', changed(replayed, { mismatched: 2, first }), ['replay']],
    ['rejected for a token, none named', changed(wrongTokens, { mismatched: 0, first: null }), ['replay']],
    [
      'rejected for a token without a replay',
      { ...wrongTokens, replay: null, computed: accepted.computed },
      ['replay'],
    ],
    ['a token that mismatched, but no first', changed(wrongTokens, { first: null }), ['replay']],
    ['a first, but none that mismatched', changed(replayed, { first }), ['replay']],
    ['a first in the prompt', changed(wrongTokens, { first: { ...first, position: 2 } }), ['replay']],
    ['a first that is not the proof’s', changed(wrongTokens, { first: { ...first, claimed: 5 } }), ['replay']],
    ['a first that was chosen', changed(wrongTokens, { first: { ...first, chosen: first.claimed } }), ['replay']],
    ['a first behind the end', changed(wrongTokens, { first: { ...first, position: 40 } }), ['replay']],
    ['more tokens than were generated', changed(replayed, { positions: 38 }), ['replay']],
    ['no tokens', changed(replayed, { positions: 0 }), ['replay']],
    ['more mismatched than replayed', changed(wrongTokens, { positions: 1 }), ['replay']],
    ['without the layers that logits need', { ...replayed, computed: { ...whole, layers: 6 } }, ['computed']],
    ['more layers than there are', { ...replayed, computed: { ...whole, layers: 8 } }, ['computed']],
    [
      'rejected for a token, but a sample left out',
      { ...wrongTokens, matched: accepted.matched.slice(0, -1), unchecked: accepted.matched.slice(-1) },
      ['status_indices', 'termination'],
    ],
    [
      'rejected for tokens and structure at once',
      { ...wrongTokens, reasons: [...reason('token_mismatch'), ...reason('nonce_mismatch')] },
      ['reason_status'],
    ],
  ])('%s', (_, verdict, codes) => {
    expect(codesOf(proof, verdict)).toEqual(codes.sort())
  })
})

describe('reasons that a proof leaves to nobody', () => {
  test.each<[string, Partial<ProofHeader>, ReasonCode]>([
    ['a digest, where there are rows', {}, 'digest_mismatch'],
    ['a sample, where there is a digest', { form: 'digest' }, 'sample_mismatch'],
    ['a token, where nobody says how it was chosen', { sampling: null }, 'token_mismatch'],
    ['improbable tokens, where somebody does', {}, 'improbable_tokens'],
  ])('%s', (_, header, code) => {
    const made = handMadeProof(40, header).proof
    const isDigest = header.form === 'digest'
    const claimed = isDigest ? { ...made, samples: [], samplesDigest: '00'.repeat(32) } : made
    expect(codesOf(claimed, structural(claimed, code))).toContain('reason_false')
  })
})

describe('structural reasons that the proof disproves or bears out', () => {
  const endless = handMadeProof(40, { stop: { maxNewTokens: 99, stopTokens: [] } }).proof
  const opened: Proof = {
    ...handMadeProof().proof,
    header: { ...proof.header, challenge: 'beacon' },
    root: '77'.repeat(32),
    beacon: 'bea0',
  }
  /** What an honest verifier finds in a proof whose samples are not compared. */
  const found = (claimed: Proof, ...codes: ReasonCode[]): Verdict => ({
    ...structural(proof, ...codes),
    ...frame(claimed),
    unchecked: indicesOfPlan(planOf(claimed).plan),
  })

  test('termination', () => {
    expect(codesOf(endless, found(endless, 'termination_mismatch'))).toEqual([])
    expect(codesOf(proof, found(proof, 'termination_mismatch'))).toEqual(['reason_false'])
    expect(codesOf(endless, { ...verdictOn(proof), ...frame(endless) })).toContain('accepted_despite_structure')
  })

  test('beacon, where the user says which', () => {
    expect(codesOf(opened, found(opened, 'beacon_mismatch', 'plan_mismatch'), { beacon: '01' })).toEqual([])
    expect(codesOf(opened, found(opened, 'beacon_mismatch', 'plan_mismatch'), { beacon: 'BEA0' })).toEqual([
      'reason_false',
    ])
    expect(codesOf(proof, accepted, { beacon: '01' })).toEqual(['accepted_despite_structure'])
  })

  test('an opening that leads nowhere', () => {
    const { plan: drawn } = planOf(opened)
    const samples = [...drawn.layers].flatMap(([layer, positions]) =>
      [...positions].map((position) => ({ ...proof.samples[0], layer, position })),
    )
    const contextDigest = Buffer.from(drawn.contextDigest).toString('hex')
    const lost = { ...opened, samples, contextDigest }
    expect(codesOf(lost, found(lost, 'opening_mismatch'))).toEqual([])
    expect(codesOf(proof, found(proof, 'opening_mismatch'))).toEqual(['reason_false'])
    const believed: Verdict = { ...found(lost), status: 'accepted', reasons: accepted.reasons }
    expect(codesOf(lost, believed)).toContain('accepted_despite_structure')
  })

  test('an opening, also where tokens were to be replayed and cannot be', () => {
    const { proof: silent } = handMadeProof(40, { sampling: null })
    const told = { replay: 'all' }
    expect(codesOf(silent, found(silent, 'opening_mismatch'), told)).toEqual(['reason_false'])
    const published = { ...told, root: '0a'.repeat(32) }
    expect(codesOf(silent, found(silent, 'opening_mismatch'), published)).toEqual([])
  })

  test('what only the verifier knows', () => {
    for (const code of ['request_mismatch', 'replayed', 'parameters_mismatch'] as const) {
      expect(codesOf(proof, found(proof, code))).toEqual([])
      expect(codesOf(proof, { ...accepted, reasons: [{ code, message: '' }] })).toContain('reason_status')
    }
  })

  test('a proof that was accepted meanwhile is rejected after its samples were compared', () => {
    expect(codesOf(proof, { ...accepted, status: 'rejected', reasons: [{ code: 'replayed', message: '' }] })).toEqual(
      [],
    )
  })
})

describe('verdicts on one digest for all samples', () => {
  const made = handMadeProof(40, { form: 'digest' })
  const of = (samplesDigest: string): Proof => ({ ...made.proof, samples: [], samplesDigest })
  const right = digestOf(made.proof.samples)
  const honest = of(right)
  const verdictOnDigest = (claimed: Proof, upTo = 5): Verdict => {
    const matcher = createDigestMatcher(made.plan, claimed.header, 'f16', claimed.samplesDigest)
    for (let layer = 0; layer <= upTo; layer++) if (!matcher.decided) matcher.push(layerOf(made.plan, layer))
    const { layersComputed, digestMatches, ...indices } = matcher.result()
    const status = digestMatches === undefined ? 'inconclusive' : digestMatches ? 'accepted' : 'rejected'
    const code = ({ accepted: 'all_samples_match', rejected: 'digest_mismatch', inconclusive: 'aborted' } as const)[
      status
    ]
    const positions = layersComputed && made.plan.numPositions
    const computed = { layers: layersComputed, positions, share: layersComputed / 6 }
    return { ...frame(claimed), status, reasons: [{ code, message: '' }], ...indices, computed }
  }
  const other = of('00'.repeat(32))

  test('honest ones are valid', () => {
    expect(verdictOnDigest(honest).status).toBe('accepted')
    expect(codesOf(honest, verdictOnDigest(honest))).toEqual([])
    expect(verdictOnDigest(other).status).toBe('rejected')
    expect(codesOf(other, verdictOnDigest(other))).toEqual([])
    for (const upTo of [-1, 2]) expect(codesOf(honest, verdictOnDigest(honest, upTo))).toEqual([])
  })

  test('lies are found out', () => {
    const yes = verdictOnDigest(honest)
    const no = verdictOnDigest(other)
    // A digest that is the proof's own speaks for it, another against it.
    expect(codesOf(honest, { ...yes, samplesDigest: '11'.repeat(32) })).toEqual(['samples_digest'])
    expect(codesOf(honest, { ...no, ...frame(honest) })).toEqual(['samples_digest'])
    expect(codesOf(other, { ...yes, ...frame(other) })).toEqual(['samples_digest'])
    expect(codesOf(other, { ...no, samplesDigest: other.samplesDigest })).toEqual(['samples_digest'])
    const [index] = indicesOfPlan(made.plan)
    const named = { ...no, matched: [index], unchecked: no.unchecked.slice(1) }
    expect(codesOf(other, named)).toEqual(['status_indices'])
    expect(codesOf(honest, { ...yes, matched: [], unchecked: yes.matched })).toContain('status_indices')
    expect(codesOf(other, { ...no, computed: { ...no.computed, layers: 2 } })).toContain('computed')
  })
})
