// The command line without the native addon: usage, exit codes, and the commands that need no model.

import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { info } from '../../lib/addon'
import { encodeClaim } from '../../lib/claim'
import { main } from '../../lib/cli'
import { EXIT_OF_ERROR } from '../../lib/commands/exit'
import { PocError } from '../../lib/errors'
import { DEFAULT_MAX_PROOF_BYTES } from '../../lib/limits'
import { createMatcher } from '../../lib/matcher'
import { Model } from '../../lib/model'
import { encodeProof, proofDigest } from '../../lib/proof'
import type { VerdictCheck } from '../../lib/check'
import type { Verdict } from '../../lib/verdict'
import { verify } from '../../lib/verify'
import { verifyAll } from '../../lib/verify-all'
import vectors from '../vectors/payoffs.json'
import { handMadeProof, layerOf } from './hand-made-proof'

jest.mock('../../lib/addon', () => ({ info: jest.fn() }))
jest.mock('../../lib/model', () => ({ Model: { load: jest.fn() } }))
jest.mock('../../lib/verify', () => ({ verify: jest.fn() }))
jest.mock('../../lib/verify-all', () => ({ verifyAll: jest.fn() }))

const { proof, plan } = handMadeProof()
const verdict = acceptedVerdict()
const dir = mkdtempSync(join(tmpdir(), 'poc-cli-'))
const proofFile = given('good.poc', encodeProof(proof))
const verdictFile = given('verdict.json', JSON.stringify(verdict))
const missing = join(dir, 'missing')

afterAll(() => rmSync(dir, { recursive: true }))
beforeEach(() => jest.resetAllMocks())

function given(name: string, content: string | Uint8Array): string {
  const file = join(dir, name)
  writeFileSync(file, content)
  return file
}

function acceptedVerdict(): Verdict {
  const matcher = createMatcher(plan, proof.samples)
  for (const layer of plan.layers.keys()) matcher.push(layerOf(plan, layer))
  const { layersComputed: _, ...indices } = matcher.result() // replay goes on to the logits
  return {
    version: 1,
    status: 'accepted',
    reasons: [{ code: 'all_samples_match', message: 'all samples match' }],
    proofDigest: proofDigest(proof),
    modelDigest: proof.header.modelDigest,
    numerics: 'ieee32',
    profile: null,
    replay: {
      positions: proof.tokens.length - proof.header.promptLength,
      mismatched: 0,
      first: null,
      meanScoreGap: 0,
      surprise: null,
    },
    ...indices,
    computed: { layers: proof.header.numLayers + 1, positions: plan.numPositions, share: 0.9 },
  }
}

async function poc(...argv: string[]) {
  return await pocWith({}, ...argv)
}

async function pocWith(options: { signal?: AbortSignal }, ...argv: string[]) {
  const written = { stdout: '', stderr: '' }
  const writer = (name: keyof typeof written) => ({
    write: (text: string) => {
      written[name] += text
    },
  })
  const exitCode = await main(argv, { stdout: writer('stdout'), stderr: writer('stderr'), ...options })
  return { exitCode, ...written }
}

async function pocJson(...argv: string[]) {
  const { exitCode, stdout, stderr } = await poc(...argv, '--json')
  expect(stderr).toBe('')
  expect(stdout.endsWith('\n')).toBe(true)
  return { exitCode, json: JSON.parse(stdout) }
}

const COMMANDS = 'generate prove challenge open verify inspect check audit calibrate settle info attack demo'.split(' ')

describe('help and version', () => {
  test('poc --help lists the commands', async () => {
    const { exitCode, stdout } = await poc('--help')
    expect(exitCode).toBe(0)
    expect([...stdout.matchAll(/^ {2}([a-z]+) /gm)].map(([, name]) => name)).toEqual([...COMMANDS, 'help'])
  })
  test.each(COMMANDS)('poc %s --help', async (name) => {
    const { exitCode, stdout, stderr } = await poc(name, '--help')
    expect(exitCode).toBe(0)
    expect(stdout).toContain(`Usage: poc ${name}`)
    expect(stdout).toContain('--json')
    expect(stderr).toBe('')
  })
  test('poc --version', async () => {
    const { version } = JSON.parse(await readFile(join(__dirname, '../../package.json'), 'utf8'))
    expect(await poc('--version')).toEqual({ exitCode: 0, stdout: `${version}\n`, stderr: '' })
  })
})

describe('usage errors are 64', () => {
  const generate = ['generate', '--model', missing, '--max-new-tokens', '4', '--out', join(dir, 'out')]
  const prompted = [...generate, '--prompt-ids', '1,2']
  const prove = ['prove', '--model', missing, '--out', join(dir, 'out'), '--prompt-length', '1']
  test.each<[string, string[], RegExp]>([
    ['no command', [], /Usage: poc/],
    ['an unknown command', ['certify'], /unknown command 'certify'/],
    ['an unknown flag', ['inspect', proofFile, '--deep'], /unknown option '--deep'/],
    ['an argument too many', ['inspect', proofFile, proofFile], /too many arguments/],
    ['an argument too few', ['check', proofFile], /missing required argument 'verdict'/],
    ['verify without a model', ['verify', proofFile], /--model <dir>' not specified/],
    ['no prompt', generate, /either --prompt or --prompt-ids/],
    ['two prompts', [...prompted, '--prompt', 'x'], /either --prompt or --prompt-ids/],
    ['no tokens to generate', [...prompted, '--max-new-tokens', '0'], /integer from 1/],
    ['half a token', [...prompted, '--max-new-tokens', '1.5'], /integer from 1/],
    ['a negative temperature', [...prompted, '--temperature', '-1'], /at least 0/],
    ['a temperature beyond numbers', [...prompted, '--temperature', '1e999'], /at least 0/],
    ['top-p of 0', [...prompted, '--top-p', '0'], /\(0, 1\]/],
    ['a seed that is no hex', [...prompted, '--seed', 'abc'], /hex digits/],
    ['a nonce over 64 bytes', [...prompted, '--nonce', '00'.repeat(65)], /at most 64 bytes/],
    ['an unknown token sampler', [...prompted, '--token-sampler', 'some'], /bernoulli:n\/d/],
    ['an unknown layer sampler', [...prompted, '--layer-sampler', 'stratified:0'], /stratified:count/],
    ['an unknown KV dtype', [...prompted, '--kv-dtype', 'f64'], /f32, f16, bf16/],
    ['no threads', [...prompted, '--threads', '0'], /integer from 1 to 1024/],
    ['ids that are none', [...generate, '--prompt-ids', '1,x,3'], /id 1 must be a token id, received "x"/],
    ['an id over 32 bits', [...prove, '--tokens', '4294967296'], /token id/],
    ['ids with a gap', [...prove, '--tokens', '1,,2'], /token id/],
    ['an output folder that is not there', [...prompted, '--out', join(missing, 'out')], /--out must be/],
    ['an output that is a folder', [...prompted, '--out', dir], /--out must be/],
  ])('%s', async (_, argv, message) => {
    const plain = await poc(...argv)
    expect(plain).toMatchObject({ exitCode: 64, stdout: '' })
    expect(plain.stderr).toMatch(message)
    if (argv.length === 0) return
    const { exitCode, json } = await pocJson(...argv)
    expect(exitCode).toBe(64)
    expect(json.error).toMatchObject({ code: 'INVALID_ARGUMENT', message: expect.stringMatching(message) })
  })

  test('ids are read from a file, between commas, spaces and newlines', async () => {
    const ids = given('ids.txt', '1, 2\n3\t4 ,5\n')
    // Getting as far as the model shows that the ids were taken.
    jest.mocked(Model.load).mockRejectedValue(new PocError('FILE_NOT_FOUND', 'no model'))
    expect((await poc(...prove, '--tokens', `@${ids}`)).exitCode).toBe(66)
    expect((await poc(...prove, '--tokens', `@${missing}`)).exitCode).toBe(66)
    expect(Model.load).toHaveBeenCalledTimes(1)
  })

  test('an empty prompt is bad data', async () => {
    expect((await pocJson(...generate, '--prompt', '')).json.error.code).toBe('EMPTY_PROMPT')
  })
})

describe('inspect', () => {
  test('shows what a proof holds', async () => {
    const { exitCode, stdout } = await poc('inspect', proofFile)
    expect(exitCode).toBe(0)
    expect(stdout).toContain('3 tokens')
    expect(stdout).toContain('context digest and samples follow from header and tokens')
  })
  test('--json carries header, tokens and indices', async () => {
    const { exitCode, json } = await pocJson('inspect', proofFile)
    expect(exitCode).toBe(0)
    expect(json).toMatchObject({
      digest: proofDigest(proof),
      bytes: encodeProof(proof).length,
      header: proof.header,
      tokens: [...proof.tokens],
      samples: verdict.matched,
      structure: { context: true, plan: true },
    })
  })
  test('names what is not as header and tokens give it', async () => {
    const wrong = { ...proof, contextDigest: '00'.repeat(32), samples: proof.samples.slice(1) }
    const file = given('wrong.poc', encodeProof(wrong))
    expect((await pocJson('inspect', file)).json.structure).toEqual({ context: false, plan: false, opening: true })
    expect((await poc('inspect', file)).stdout).toMatch(/WRONG.*context digest and the samples/)
  })
  test('leaves the structure open where samplers are not built in', async () => {
    const custom = { ...proof, header: { ...proof.header, tokenSampler: 'mine' } }
    const { json } = await pocJson('inspect', given('custom.poc', encodeProof(custom)))
    expect(json.structure).toEqual({ context: null, plan: null, opening: null })
  })

  test('says of a claim what it is, and how to get a proof of it', async () => {
    const header = { ...proof.header, challenge: 'beacon' as const }
    const { tokens, contextDigest } = proof
    const file = given('story.claim', encodeClaim({ header, tokens, contextDigest, root: '07'.repeat(32) }))
    const { exitCode, stderr } = await poc('inspect', file)
    expect(exitCode).toBe(65)
    expect(stderr).toMatch(/story\.claim must be a proof, received a claim.*poc open.*\(PROOF_MALFORMED\)\n$/)
  })

  const bytes = encodeProof(proof)
  const tooLarge = given('large.poc', '')
  truncateSync(tooLarge, DEFAULT_MAX_PROOF_BYTES + 1)
  test.each<[string, string, number, string]>([
    ['not there', missing, 66, 'FILE_NOT_FOUND'],
    ['a folder', dir, 66, 'FILE_NOT_FOUND'],
    ['under a file', join(proofFile, 'x'), 66, 'FILE_NOT_FOUND'],
    ['empty', given('empty.poc', ''), 65, 'PROOF_MALFORMED'],
    ['cut short', given('cut.poc', bytes.subarray(0, bytes.length >> 1)), 65, 'PROOF_MALFORMED'],
    ['something else', verdictFile, 65, 'PROOF_MALFORMED'],
    ['too large', tooLarge, 65, 'PROOF_TOO_LARGE'],
  ])('a proof that is %s', async (_, file, exitCode, code) => {
    const { stderr, ...plain } = await poc('inspect', file)
    expect(plain).toEqual({ exitCode, stdout: '' })
    expect(stderr).toMatch(new RegExp(`^error: .*\\(${code}\\)\n$`))
    expect(await pocJson('inspect', file)).toMatchObject({ exitCode, json: { error: { code } } })
  })
})

describe('check', () => {
  test('a verdict that holds', async () => {
    expect(await pocJson('check', proofFile, verdictFile)).toEqual({ exitCode: 0, json: { valid: true, problems: [] } })
    expect((await poc('check', proofFile, verdictFile)).stdout).toMatch(/^valid/)
  })
  test('a verdict that does not', async () => {
    const file = given('short.json', JSON.stringify({ ...verdict, matched: verdict.matched.slice(1) }))
    const { exitCode, json } = await pocJson('check', proofFile, file)
    expect(exitCode).toBe(1)
    expect(json).toMatchObject({ valid: false, problems: [{ code: 'index_missing' }] })
    expect((await poc('check', proofFile, file)).stdout).toMatch(/^not valid[\s\S]*index_missing/)
  })
  test('the nonce that was given out', async () => {
    expect((await poc('check', proofFile, verdictFile, '--nonce', '00FF')).exitCode).toBe(0)
    expect((await poc('check', proofFile, verdictFile, '--nonce', '01')).exitCode).toBe(1)
  })
  const request = (asked: object) => given('request.json', JSON.stringify(asked))
  test.each<[string, () => string[], string]>([
    ['another beacon', () => ['--beacon', '01'], 'accepted_despite_structure'],
    ['another root', () => ['--root', '00'.repeat(32)], 'accepted_despite_structure'],
    ['another request', () => ['--request', request({ promptLength: 4 })], 'accepted_despite_structure'],
    ['tokens that were not to be replayed', () => ['--replay', 'none'], 'replay'],
    ['a share of them', () => ['--replay', '1/8', '--replay-seed', '0a'], 'replay'],
  ])('%s', async (_, flags, code) => {
    const { exitCode, json } = await pocJson('check', proofFile, verdictFile, ...flags())
    expect(exitCode).toBe(1)
    expect(json.problems).toMatchObject([{ code }])
  })
  test('tokens that were not replayed, asked for or not', async () => {
    const computed = { ...verdict.computed, layers: plan.deepestLayer + 1 }
    const lazy = given('lazy.json', JSON.stringify({ ...verdict, replay: null, computed }))
    const { problems } = (await pocJson('check', proofFile, lazy)).json as VerdictCheck
    expect(problems.map(({ code }) => code)).toContain('replay')
    expect((await poc('check', proofFile, lazy, '--replay', 'all')).exitCode).toBe(1)
    expect((await poc('check', proofFile, lazy, '--replay', 'none')).exitCode).toBe(0)
  })
  test('what was asked for', async () => {
    const flags = ['--replay', 'all', '--request', request({ promptLength: 3 })]
    expect((await poc('check', proofFile, verdictFile, ...flags)).exitCode).toBe(0)
  })
  test.each<[string, string, number, string]>([
    ['not there', missing, 66, 'FILE_NOT_FOUND'],
    ['no JSON', proofFile, 65, 'VERDICT_MALFORMED'],
    ['other JSON', given('other.json', '{"status":"accepted"}'), 65, 'VERDICT_MALFORMED'],
  ])('a verdict file that is %s', async (_, file, exitCode, code) => {
    expect(await pocJson('check', proofFile, file)).toMatchObject({ exitCode, json: { error: { code } } })
  })
})

describe('settle', () => {
  const [{ terms, history }] = vectors.vectors
  test.each(vectors.vectors)('$name', async ({ terms, history, settlement }) => {
    const files = [given('terms.json', JSON.stringify(terms)), given('history.json', JSON.stringify(history))]
    const { exitCode, json } = await pocJson('settle', ...files)
    expect(exitCode).toBe(0)
    expect(json.settlement).toMatchObject(settlement)
    const { stdout } = await poc('settle', ...files)
    for (const { party, amount } of settlement.payouts) {
      expect(stdout).toMatch(new RegExp(`^${party} .* ${BigInt(amount).toLocaleString('en-US')} `, 'm'))
    }
  })
  test('a dispute that goes on is not settled yet', async () => {
    const files = [given('terms.json', JSON.stringify(terms)), given('begun.json', JSON.stringify(history.slice(0, 1)))]
    expect(await pocJson('settle', ...files)).toMatchObject({
      exitCode: 2,
      json: { phase: 'deposits', settlement: null },
    })
    expect((await poc('settle', ...files)).stdout).toMatch(/^not settled/)
  })
  test.each<[string, unknown, unknown, string]>([
    ['terms that break a rule', { ...terms, maxStages: 0 }, history, 'TERMS_INVALID'],
    ['terms that are no object', [], history, 'TERMS_INVALID'],
    ['an event that is none', terms, [{ type: 'party' }], 'DISPUTE_INVALID'],
    ['an event out of order', terms, history.slice(1).reverse(), 'DISPUTE_INVALID'],
  ])('%s', async (_, terms, history, code) => {
    const files = [given('terms.json', JSON.stringify(terms)), given('history.json', JSON.stringify(history))]
    expect(await pocJson('settle', ...files)).toMatchObject({ exitCode: 65, json: { error: { code } } })
  })
})

describe('verify', () => {
  const close = jest.fn()
  const argv = ['verify', '--model', 'some-model', '--threads', '3', proofFile]
  beforeEach(() => {
    const model = { path: 'some-model', config: { numLayers: 6 }, close }
    jest.mocked(Model.load).mockResolvedValue(model as unknown as Model)
  })

  test.each<[Verdict['status'], number]>([
    ['accepted', 0],
    ['rejected', 1],
    ['inconclusive', 2],
  ])('%s is %d, and the model is closed', async (status, exitCode) => {
    jest.mocked(verify).mockResolvedValue({ ...verdict, status })
    expect(await pocJson(...argv)).toEqual({ exitCode, json: { ...verdict, status } })
    expect(close).toHaveBeenCalledTimes(1)
    expect(Model.load).toHaveBeenCalledWith('some-model', expect.objectContaining({ threads: 3 }))
    const { stdout } = await poc(...argv)
    expect(stdout.startsWith(`${status}: `)).toBe(true)
    expect(stdout).toContain('7 of 7 layers, 90.0 % of a full prefill')
  })
  test.each<[Verdict['status'][], number]>([
    [['accepted', 'accepted'], 0],
    [['accepted', 'rejected', 'inconclusive'], 1],
    [['accepted', 'inconclusive'], 2],
  ])('of several, %j, the worst is %d', async (statuses, exitCode) => {
    const verdicts = statuses.map((status) => ({ ...verdict, status }))
    jest.mocked(verifyAll).mockResolvedValue(verdicts)
    const files = statuses.map(() => proofFile)
    const several = [...argv.slice(0, -1), '--nonce', 'ABCD', ...files]
    const printed = await poc(...several, '--json')
    expect(printed.exitCode).toBe(exitCode)
    expect(
      printed.stdout
        .split('\n')
        .slice(0, -1)
        .map((line) => JSON.parse(line)),
    ).toEqual(verdicts)
    const proofs = statuses.map(() => proof)
    expect(verifyAll).toHaveBeenCalledWith(expect.anything(), proofs, expect.objectContaining({ nonce: 'abcd' }))
    const { stdout } = await poc(...several)
    for (const status of statuses) expect(stdout).toContain(`${proofFile}: ${status}: `)
    expect(verify).not.toHaveBeenCalled()
  })
  test('one that is refused is named, and takes nothing from the others', async () => {
    const cause = new PocError('TOKEN_OUT_OF_RANGE', 'too high', { where: 'tokens[1]' })
    const refusal = new PocError('TOKEN_OUT_OF_RANGE', 'proofs[1]: too high', { where: 'proofs[1]: tokens[1]', cause })
    jest.mocked(verifyAll).mockResolvedValue([verdict, refusal])
    const printed = await poc(...argv, proofFile, '--json')
    expect(printed.exitCode).toBe(65)
    const error = { code: 'TOKEN_OUT_OF_RANGE', message: 'too high', where: 'tokens[1]' }
    expect(printed.stdout).toBe(`${JSON.stringify(verdict)}\n${JSON.stringify({ error })}\n`)
    const { stdout } = await poc(...argv, proofFile)
    expect(stdout).toContain(`${proofFile}: not judged: too high (TOKEN_OUT_OF_RANGE)`)
  })
  test('of several, one that is no proof is named and the others are judged', async () => {
    jest.mocked(verifyAll).mockResolvedValue([verdict])
    const printed = await poc(...argv, verdictFile, '--json')
    expect(printed.exitCode).toBe(65)
    const [judged, refused] = printed.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
    expect(judged).toEqual(JSON.parse(JSON.stringify(verdict)))
    expect(refused).toMatchObject({ error: { code: 'PROOF_MALFORMED' } })
    expect(verifyAll).toHaveBeenCalledWith(expect.anything(), [proof], expect.anything())
  })
  test('the first mismatch is shown', async () => {
    const firstMismatch = { layer: 4, position: 17, part: 'v' as const }
    jest.mocked(verify).mockResolvedValue({ ...verdict, status: 'rejected', firstMismatch })
    expect((await poc(...argv)).stdout).toMatch(/layer 4, position 17/)
  })
  test('the nonce is handed on', async () => {
    jest.mocked(verify).mockResolvedValue(verdict)
    await poc(...argv, '--nonce', 'ABCD')
    expect(verify).toHaveBeenCalledWith(expect.anything(), proof, expect.objectContaining({ nonce: 'abcd' }))
  })
  test('an error of the library has its exit code, and the model is closed', async () => {
    jest.mocked(verify).mockRejectedValue(new PocError('TOKEN_OUT_OF_RANGE', 'too high', { where: 'tokens[1]' }))
    const error = { code: 'TOKEN_OUT_OF_RANGE', message: 'too high', where: 'tokens[1]' }
    expect(await pocJson(...argv)).toEqual({ exitCode: 65, json: { error } })
    expect(close).toHaveBeenCalledTimes(1)
  })
  test('interrupted while the model loads, it is inconclusive', async () => {
    const reason = new Error('stop')
    jest.mocked(Model.load).mockRejectedValue(reason)
    const { exitCode, stderr } = await pocWith({ signal: AbortSignal.abort(reason) }, ...argv)
    expect({ exitCode, stderr }).toEqual({ exitCode: 2, stderr: 'error: interrupted (ABORTED)\n' })
  })
})

test('other commands that are interrupted end with 130 and leave nothing behind', async () => {
  const reason = new Error('stop')
  jest.mocked(Model.load).mockRejectedValue(reason)
  const out = join(dir, 'interrupted.poc')
  const argv = ['prove', '--model', dir, '--tokens', '1,2', '--prompt-length', '1', '--out', out]
  expect((await pocWith({ signal: AbortSignal.abort(reason) }, ...argv)).exitCode).toBe(130)
  expect((await readdir(dir)).filter((name) => name.startsWith('interrupted'))).toEqual([])
})

describe('info', () => {
  const cuda = { name: 'cuda' as const, available: false, reason: 'no driver' }
  test('shows CPU features and why a backend is absent', async () => {
    const cpu = { features: ['avx2'], simd: ['avx2', 'plain'], best: 'avx2', threads: 4 }
    jest.mocked(info).mockReturnValue({ version: '0', napi: 8, cpu, backends: [cuda] } as never)
    const { exitCode, json } = await pocJson('info')
    expect(exitCode).toBe(0)
    expect(json).toMatchObject({ node: process.version, cpu, backends: [cuda] })
    expect((await poc('info')).stdout).toMatch(/avx2, plain; in use: avx2[\s\S]*cuda +absent: no driver/)
  })
  test('says why there is no addon, and fails', async () => {
    jest.mocked(info).mockImplementation(() => {
      throw new PocError('ADDON_UNAVAILABLE', 'build it', { cause: new Error('no file') })
    })
    const { exitCode, json } = await pocJson('info')
    expect(exitCode).toBe(70)
    expect(json.backends).toEqual([{ name: 'cpu', available: false, reason: 'build it (no file)' }])
  })
})

test('every error code has one of the documented exit codes', () => {
  for (const exitCode of Object.values(EXIT_OF_ERROR)) expect([64, 65, 66, 70, 130]).toContain(exitCode)
})

test('an unexpected error is internal and comes with its stack', async () => {
  jest.mocked(Model.load).mockRejectedValue(new RangeError('odd'))
  const { exitCode, stderr } = await poc('verify', '--model', 'm', proofFile)
  expect(exitCode).toBe(70)
  expect(stderr).toMatch(/^error: unexpected: odd \(INTERNAL\)\nRangeError: odd\n +at /)
})
