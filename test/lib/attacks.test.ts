// The attack kit on the bundled model: each attack is caught by the check that is there for it, honest proofs are not,
// and a weaker verifier lets through what it does not look at.
import path from 'node:path'
import {
  ALLOWED_ATTACKS,
  type Attack,
  ATTACKS,
  type AttackReport,
  CHANCE_ATTACKS,
  runAttacks,
  type Verifier,
  VERDICT_ATTACKS,
} from '../../lib/attacks'
import type { ProofHeader } from '../../lib/binding'
import { planOf } from '../../lib/challenge'
import { Model } from '../../lib/model'
import { type VerifyOptions, verify } from '../../lib/verify'

const tiny = path.join(__dirname, '../../models/tiny-stories')

let model: Model
beforeAll(async () => {
  model = await Model.load(tiny)
})
afterAll(() => model.close())

const VECTORS = ['sample_mismatch', 'digest_mismatch']
const OPENING = ['opening_mismatch', 'plan_mismatch', 'digest_mismatch']
/** What must catch an attack, by name; vectors where nothing is said. */
const CHECKS: Record<string, string[]> = {
  'head-int8': ['token_mismatch'],
  'prefill-int8': ['token_mismatch'],
  'prefill-half': ['token_mismatch'],
  greedy: ['token_mismatch'],
  sampled: ['token_mismatch'],
  temperature: ['token_mismatch'],
  filters: ['token_mismatch'],
  seed: ['token_mismatch'],
  'seed-stated': ['request_mismatch'],
  'second-best': ['token_mismatch'],
  'prefix-injected': ['token_mismatch'],
  'lossy-draft': ['token_mismatch'],
  'swap-prefilled': ['token_mismatch'],
  'path-changed': ['opening_mismatch'],
  'path-cut': ['opening_mismatch'],
  'path-longer': ['opening_mismatch'],
  'rows-exchanged': ['opening_mismatch'],
  'row-elsewhere': ['opening_mismatch'],
  'rows-of-others': ['opening_mismatch'],
  'samples-fewer': ['plan_mismatch'],
  'samples-none': ['plan_mismatch'],
  'samples-twice': ['INVALID_ARGUMENT'],
  'digest-made-up': ['digest_mismatch'],
  'root-made-up': OPENING,
  'root-of-others': OPENING,
  'root-late': ['opening_mismatch'],
  'beacon-own': ['beacon_mismatch'],
  'beacon-relabelled': OPENING,
  'nonce-ground': ['nonce_mismatch'],
  'header-changed': ['model_mismatch', 'parameters_mismatch', 'nonce_mismatch', 'request_mismatch', 'INVALID_ARGUMENT'],
  'header-restated': ['model_mismatch', 'nonce_mismatch', 'beacon_mismatch', 'request_mismatch'],
  'prompt-injected': ['request_mismatch'],
  'prompt-hidden': ['request_mismatch'],
  'prompt-cut': ['request_mismatch'],
  'prompt-token': ['request_mismatch'],
  'stopped-early': ['termination_mismatch'],
  'limit-lowered': ['request_mismatch'],
  'went-on': ['termination_mismatch'],
  replayed: ['replayed'],
  recommitted: ['replayed'],
  'old-proof': ['nonce_mismatch'],
}

test('every attack is caught, each by its own check, and no honest proof is rejected', async () => {
  const names = [...ATTACKS, ...VERDICT_ATTACKS].map(({ name }) => name)
  const report = await runAttacks(model, { trials: 2, honest: 24, seed: 'caught', attacks: names })
  expect(report.attacks.map(({ attack }) => attack)).toEqual(ATTACKS.map(({ name }) => name))
  for (const { attack, trials, caught, by, reference } of report.attacks) {
    expect({ attack, trials, caught }).toEqual({ attack, trials: 2, caught: 2 })
    if (reference === 'A14') continue // damaged bytes: any check may find what they have become
    expect({ attack, others: Object.keys(by).filter((code) => !(CHECKS[attack] ?? VECTORS).includes(code)) }).toEqual({
      attack,
      others: [],
    })
  }
  expect(report.verdicts.every(({ trials, caught }) => trials === 2 && caught === 2)).toBe(true)
  expect(report.honest).toMatchObject({ trials: 24, accepted: 24, rejected: 0, by: {} })
  expect(report.allCaught).toBe(true)
}, 240000)

test('honest proofs are of every challenge, depth and form in turn, chained and not', async () => {
  const seen: { header: ProofHeader; demands: VerifyOptions }[] = []
  const verifier: Verifier = (proof, demands) => {
    seen.push({ header: proof.header, demands })
    return verify(model, proof, demands)
  }
  const { honest } = await runAttacks(model, { trials: 1, honest: 96, seed: 'kinds', attacks: [], verifier })
  expect(honest).toMatchObject({ accepted: 96, rejected: 0, by: {} })
  const kinds = ['beacon, full', 'beacon, kv', 'beacon, random', 'context, full', 'context, kv'].flatMap((kind) => {
    return ['rows', 'digest', ...(kind.startsWith('context') ? ['sketch'] : [])].map((form) => `${kind}, ${form}`)
  })
  expect(honest.kinds).toEqual(Object.fromEntries(kinds.map((kind) => [kind, 8])))
  const has = (what: string, is: (one: (typeof seen)[0]) => boolean) => {
    expect([what, seen.some(is), seen.some((one) => !is(one))]).toEqual([what, true, true])
  }
  has('a layer sampler that names layers', ({ header }) => header.layerSampler.startsWith('fixed:'))
  has('a turn before', ({ header }) => header.previousRoot !== '')
  has('no sampling stated', ({ header }) => header.sampling === null)
  has('no stop rule stated', ({ header }) => header.stop === null)
  has('an extreme temperature', ({ header }) => (header.sampling?.temperature ?? 1) > 2)
  has('a share of tokens replayed', ({ demands }) => demands.replay?.includes('/') ?? false)
  has('a published root', ({ demands }) => demands.root !== undefined)
}, 120000)

test.each(['header-changed', 'header-restated'])('%s: every field is caught', async (name) => {
  const report = await runAttacks(model, { trials: 60, honest: 0, seed: 'fields', attacks: [name] })
  expect(report.attacks[0]).toMatchObject({ trials: 60, caught: 60, accepted: 0, undecided: 0 })
}, 120000)

test('samples-fewer leaves out one sample, samples-twice adds one', async () => {
  const more: number[] = []
  const verifier: Verifier = (proof, demands) => {
    more.push(proof.samples.length - planOf(proof).plan.numSamples)
    return verify(model, proof, demands)
  }
  for (const [name, difference] of [
    ['samples-fewer', -1],
    ['samples-twice', 1],
  ] as const) {
    more.length = 0
    await runAttacks(model, { trials: 12, honest: 0, seed: 'one', attacks: [name], verifier })
    expect(more).toEqual(Array(12).fill(difference))
  }
}, 60000)

test('damaged bytes are refused or rejected, never accepted and never a crash', async () => {
  const attacks = ['bits-flipped', 'bytes-cut', 'bytes-added', 'bytes-at-random']
  const report = await runAttacks(model, { trials: 50, honest: 0, seed: 'bytes', attacks })
  for (const row of report.attacks) expect(row).toMatchObject({ trials: 50, caught: 50, accepted: 0, undecided: 0 })
}, 120000)

test('speculative decoding that repairs every token is honest, and accepted', async () => {
  const report = await runAttacks(model, { trials: 5, honest: 0, seed: 'lossless', attacks: ['lossless-draft'] })
  expect(report.allowed).toMatchObject([{ attack: 'lossless-draft', trials: 5, accepted: 5, caught: 0 }])
}, 120000)

test('attacks on few vectors are caught as often as the plan looks at them', async () => {
  const attacks = ['sparse-tenth', 'sparse-half', 'final-norm', 'predictable']
  const { chance } = await runAttacks(model, { trials: 40, honest: 0, seed: 'chance', attacks })
  for (const { attack, trials, caught, expected = Number.NaN } of chance) {
    // Five standard deviations, and what eight beacons a trial leave open of the expectation itself.
    const deviation = Math.sqrt((expected * (1 - expected) + 0.05) * trials * (1 + 1 / 8))
    expect({ attack, isNear: Math.abs(caught - expected * trials) < 5 * deviation }).toEqual({ attack, isNear: true })
  }
  expect(chance.find(({ attack }) => attack === 'sparse-tenth')?.caught).toBeLessThan(40)
}, 240000)

const caughtOf = (report: AttackReport, name: string) => {
  return report.attacks.find(({ attack }) => attack === name)?.caught
}

test('a verifier that replays no tokens lets other tokens through, and nothing else', async () => {
  const verifier: Verifier = (proof, demands) => verify(model, proof, { ...demands, replay: 'none' })
  const attacks = ['second-best', 'seed', 'prefix-injected', 'model-int8', 'all-zeros', 'path-changed', 'old-proof']
  const report = await runAttacks(model, { trials: 3, honest: 5, seed: 'weak', attacks, verifier })
  for (const name of attacks.slice(0, 3)) expect(caughtOf(report, name)).toBe(0)
  for (const name of attacks.slice(3)) expect(caughtOf(report, name)).toBe(3)
  expect(report.allCaught).toBe(false)
}, 120000)

test('a verifier that looks at structure only lets every computed lie through', async () => {
  const verifier: Verifier = async (proof, demands) => {
    const verdict = await verify(model, proof, { ...demands, maxFlops: 0 })
    return verdict.status === 'inconclusive' ? { ...verdict, status: 'accepted' } : verdict
  }
  const computed = ['model-int8', 'all-noise', 'bit-k', 'second-best', 'sketch-unit', 'sketch-other-prompt']
  const attacks = [...computed, 'old-proof', 'prompt-token', 'stopped-early']
  const report = await runAttacks(model, { trials: 3, honest: 5, seed: 'weaker', attacks, verifier })
  for (const name of computed) expect(caughtOf(report, name)).toBe(0)
  for (const name of attacks.slice(computed.length)) expect(caughtOf(report, name)).toBe(3)
}, 120000)

test('a verifier that knows no request lets an old proof and another prompt through', async () => {
  const verifier: Verifier = (proof, { replay, chunkSize }) => verify(model, proof, { replay, chunkSize })
  const attacks = ['old-proof', 'prompt-token', 'limit-lowered', 'seed-stated', 'replayed', 'beacon-own', 'model-tuned']
  const report = await runAttacks(model, { trials: 3, honest: 5, seed: 'fresh', attacks, verifier })
  for (const name of attacks.slice(0, 6)) expect(caughtOf(report, name)).toBe(0)
  expect(caughtOf(report, 'model-tuned')).toBe(3)
}, 120000)

test('a verifier that rejects everything, and one that breaks, do not pass', async () => {
  const attacks = ['all-zeros']
  const rejecting: Verifier = async (proof, demands) => ({
    ...(await verify(model, proof, demands)),
    status: 'rejected',
  })
  const strict = await runAttacks(model, { trials: 2, honest: 4, attacks, verifier: rejecting })
  expect(strict).toMatchObject({ honest: { rejected: 4 }, allCaught: false })
  const breaking: Verifier = async () => {
    throw new TypeError('undefined is not a function')
  }
  const broken = await runAttacks(model, { trials: 2, honest: 0, attacks, verifier: breaking })
  expect(broken.attacks).toMatchObject([{ trials: 2, caught: 0, undecided: 2, by: { crash: 2 } }])
  expect(broken.allCaught).toBe(false)
}, 60000)

test('equal seeds give equal reports, other seeds others', async () => {
  const run = (seed: string) => runAttacks(model, { trials: 2, honest: 2, seed, attacks: ['model-lora', 'bit-v'] })
  const first = await run('01')
  expect(await run('01')).toEqual(first)
  expect(await run('02')).not.toEqual(first)
}, 60000)

test('an attack does the same in a run of all attacks as alone', async () => {
  const run = (attacks: string[]) => runAttacks(model, { trials: 2, honest: 0, seed: 'alone', attacks })
  const [alone] = (await run(['one-noise'])).attacks
  const together = (await run(['all-zeros', 'one-noise', 'bit-k'])).attacks
  expect(together.find(({ attack }) => attack === 'one-noise')).toEqual(alone)
}, 60000)

describe('attacks of the user', () => {
  const lastToken: Attack = {
    name: 'last-token',
    reference: '',
    about: 'another last token, which no vector depends on',
    async forge(trial) {
      const { tokens, cells } = await trial.honest()
      const changed = tokens.map((token, i) => (i === tokens.length - 1 ? (token + 1) % 1024 : token))
      return { proof: await trial.proof({ tokens: changed, cells }) }
    },
  }
  const harmless: Attack = { ...lastToken, name: 'never', forge: async () => null }
  const nothing: Attack = {
    ...lastToken,
    name: 'nothing',
    forge: async (trial) => ({ proof: await trial.honestProof() }),
  }
  const run = (attacks: (string | Attack)[]) => runAttacks(model, { trials: 3, honest: 2, seed: 'own', attacks })

  test('one that is caught stands beside the chosen ones of the kit', async () => {
    const { attacks, chance, allCaught } = await run([lastToken, 'bit-k', ATTACKS[0], 'sparse-one'])
    expect(attacks).toMatchObject([
      { attack: ATTACKS[0].name, trials: 3, caught: 3 },
      { attack: 'bit-k', trials: 3, caught: 3 },
      { attack: 'last-token', reference: '', about: lastToken.about, trials: 3, caught: 3, accepted: 0, harmless: 0 },
    ])
    const codes = Object.keys(attacks[2].by)
    expect(codes.filter((code) => !['token_mismatch', 'termination_mismatch'].includes(code))).toEqual([])
    expect(chance).toMatchObject([{ attack: 'sparse-one', trials: 3 }])
    expect(allCaught).toBe(true)
  }, 60000)

  test('one that is not caught, and one that never comes about, count', async () => {
    const accepted = await run([nothing])
    expect(accepted.attacks).toMatchObject([{ attack: 'nothing', trials: 3, caught: 0, accepted: 3 }])
    expect(accepted).toMatchObject({ allCaught: false, verdicts: [], chance: [], allowed: [], modes: [] })
    const none = await run([harmless])
    expect(none.attacks).toMatchObject([{ attack: 'never', trials: 0, harmless: 150 }])
    expect(none.allCaught).toBe(false)
  }, 60000)

  test('only those that fit are tried', async () => {
    const lengths: number[] = []
    const long: Attack = {
      ...lastToken,
      fits: ({ header }) => (header.stop?.maxNewTokens ?? 0) > 20,
      forge(trial, random) {
        lengths.push(trial.header.stop?.maxNewTokens ?? 0)
        return lastToken.forge(trial, random)
      },
    }
    expect((await run([long])).attacks).toMatchObject([{ trials: 3, caught: 3 }])
    expect(lengths.every((length) => length > 20)).toBe(true)
  }, 60000)

  test.each<[string, unknown, string]>([
    ['an unknown name', ['nonsense'], 'options.attacks[0]'],
    ['no attack', ['bit-k', { name: 'x' }], 'options.attacks[1]'],
    ['null', [null], 'options.attacks[0]'],
    ['no name', [{ ...lastToken, name: undefined }], 'options.attacks[0]'],
    ['fits that is no function', [{ ...lastToken, fits: true }], 'options.attacks[0].fits'],
    ["a name of the kit's", [{ ...lastToken, name: 'bit-k' }], 'options.attacks[0].name'],
    ['a name twice', [lastToken, { ...nothing, name: 'last-token' }], 'options.attacks[1].name'],
    ['no list', 'bit-k', 'options.attacks'],
  ])('%s is refused', async (_, attacks, where) => {
    const running = runAttacks(model, { attacks: attacks as string[] })
    await expect(running).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', where })
  })
})

test('names are unique', async () => {
  const names = [...ATTACKS, ...CHANCE_ATTACKS, ...ALLOWED_ATTACKS].map(({ name }) => name)
  expect(new Set(names).size).toBe(names.length)
  await expect(runAttacks(model, { trials: 0 })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' })
})

test('a run that is aborted rejects with the reason', async () => {
  const controller = new AbortController()
  const reason = new Error('enough')
  const running = runAttacks(model, { trials: 1000, signal: controller.signal })
  setTimeout(() => controller.abort(reason), 300)
  await expect(running).rejects.toBe(reason)
})
