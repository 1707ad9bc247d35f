// The command line on the bundled model, from a prompt to a checked verdict, and the demo.

import { generateKeyPairSync } from 'node:crypto'
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { main } from '../../lib/cli'
import { statedProfile } from '../../lib/commands/calibrate'
import { MAX_EVIDENCE_BYTES, MAX_JSON_BYTES } from '../../lib/limits'
import type { SignedProfile } from '../../lib/profile-signature'
import { decodeProof, encodeProof } from '../../lib/proof'
import { zerosUnderLaxLimits } from './hand-made-profile'

const MODEL = join(__dirname, '../../models/tiny-stories')
const dir = mkdtempSync(join(tmpdir(), 'poc-cli-model-'))
const file = (name: string) => join(dir, name)

afterAll(() => rmSync(dir, { recursive: true }))

async function poc(...argv: string[]) {
  let stdout = ''
  const write = (text: string) => {
    stdout += text
  }
  const exitCode = await main(argv, { stdout: { write }, stderr: { write } })
  return { exitCode, stdout }
}

async function pocJson(...argv: string[]) {
  const { exitCode, stdout } = await poc(...argv, '--json')
  return { exitCode, json: JSON.parse(stdout) }
}

/** A copy of a proof file with one bit of its last V vector flipped. */
function flipped(from: string, to: string): string {
  const proof = decodeProof(readFileSync(from))
  const v = proof.samples[proof.samples.length - 1].v.slice()
  v[0] ^= 1
  proof.samples[proof.samples.length - 1].v = v
  writeFileSync(to, encodeProof(proof))
  return to
}

test('a proof goes from the generator to the verifier to the user', async () => {
  const proof = file('honest.poc')
  const stated = ['--token-sampler', 'every:4', '--nonce', 'abcd', '--kv-dtype', 'bf16', '--model', MODEL]
  const generated = await pocJson('generate', ...stated, '--prompt', 'Tom', '--max-new-tokens', '20', '--out', proof)
  expect(generated.exitCode).toBe(0)
  const { tokens, promptLength, text, finishReason } = generated.json
  expect(tokens).toHaveLength(promptLength + 20)
  expect(tokens).toEqual([...decodeProof(readFileSync(proof)).tokens])
  expect({ finishReason, text: text.length > 20 }).toEqual({ finishReason: 'length', text: true })

  const proven = file('proven.poc')
  const { stop } = decodeProof(readFileSync(proof)).header
  const ended = ['--max-new-tokens', '20', '--stop-tokens', String(stop?.stopTokens), '--temperature', '0']
  const given = ['--tokens', tokens.join(), '--prompt-length', String(promptLength), ...ended]
  expect((await poc('prove', ...stated, ...given, '--out', proven)).exitCode).toBe(0)
  expect(readFileSync(proven)).toEqual(readFileSync(proof))

  const accepted = await pocJson('verify', '--model', MODEL, '--nonce', 'abcd', proof)
  expect(accepted).toMatchObject({ exitCode: 0, json: { status: 'accepted', mismatched: [], unchecked: [] } })
  writeFileSync(file('verdict.json'), JSON.stringify(accepted.json))
  expect((await poc('check', proof, file('verdict.json'), '--nonce', 'abcd')).exitCode).toBe(0)

  const lazy = await pocJson('verify', '--model', MODEL, '--replay', 'none', proof)
  writeFileSync(file('lazy.json'), JSON.stringify(lazy.json))
  expect((await poc('check', proof, file('lazy.json'))).exitCode).toBe(1)
  expect((await poc('check', proof, file('lazy.json'), '--replay', 'none')).exitCode).toBe(0)
  writeFileSync(file('request.json'), JSON.stringify({ tokenSampler: 'all' }))
  expect((await poc('check', proof, file('verdict.json'), '--request', file('request.json'))).exitCode).toBe(1)
  writeFileSync(file('list.json'), '[]')
  expect((await poc('check', proof, file('verdict.json'), '--request', file('list.json'))).exitCode).toBe(64)

  expect((await poc('verify', '--model', MODEL, '--nonce', 'abce', proof)).exitCode).toBe(1)
  const forged = flipped(proof, file('forged.poc'))
  const rejected = await pocJson('verify', '--model', MODEL, forged)
  expect(rejected).toMatchObject({ exitCode: 1, json: { status: 'rejected', firstMismatch: { part: 'v' } } })
  writeFileSync(file('rejected.json'), JSON.stringify(rejected.json))
  expect((await poc('check', forged, file('rejected.json'))).exitCode).toBe(0)
  expect((await poc('check', proof, file('rejected.json'))).exitCode).toBe(1)
})

test('a claim is opened for a beacon, verified, and its evidence audited by anybody', async () => {
  const claim = file('story.claim')
  const opened = file('opened.poc')
  const generate = [
    'generate',
    '--model',
    MODEL,
    '--prompt',
    'Tom',
    '--max-new-tokens',
    '12',
    '--commit',
    '--out',
    claim,
  ]
  const { claim: written } = (await pocJson(...generate)).json
  const challenge = (await pocJson('challenge', claim, '--beacon', 'BEAC01')).json
  expect(challenge).toMatchObject({ root: written.root, beacon: 'beac01' })
  const open = await pocJson('open', claim, '--model', MODEL, '--beacon', 'beac01', '--out', opened)
  expect(open).toMatchObject({ exitCode: 0, json: { proof: { samples: challenge.numSamples } } })
  expect((await pocJson('inspect', opened)).json.structure).toEqual({ context: true, plan: true, opening: true })

  const evidence = file('evidence.json')
  const verify = ['verify', '--model', MODEL, '--evidence', evidence, opened, '--beacon']
  expect(await pocJson(...verify, 'beac02')).toMatchObject({
    exitCode: 1,
    json: { reasons: [{ code: 'beacon_mismatch' }] },
  })
  expect(await pocJson(...verify, 'beac01')).toMatchObject({
    exitCode: 0,
    json: { status: 'accepted', replay: { positions: 12, mismatched: 0 } },
  })
  expect(await pocJson('audit', evidence)).toMatchObject({ exitCode: 0, json: { valid: true, verified: false } })
  expect(await pocJson('audit', evidence, '--model', MODEL)).toMatchObject({ exitCode: 0, json: { verified: true } })
  const told = async () => (await poc('audit', evidence)).stdout
  expect(await told()).toMatch(/^valid[^\n]*\nasked for\n {2}beacon {2}beac01\n$/)
  const changed = JSON.parse(readFileSync(evidence, 'utf8'))
  appendFileSync(evidence, ' '.repeat(MAX_JSON_BYTES)) // more than any other JSON file may have
  expect((await poc('audit', evidence)).exitCode).toBe(0)
  const replayed = { ...changed.verdict, status: 'rejected', reasons: [{ code: 'replayed', message: 'seen' }] }
  writeFileSync(evidence, JSON.stringify({ ...changed, verdict: replayed }))
  const onItsWord = { valid: true, verified: false, unverifiable: ['replayed'] }
  expect(await pocJson('audit', evidence)).toMatchObject({ exitCode: 2, json: onItsWord })
  writeFileSync(evidence, JSON.stringify({ ...changed, demands: {} }))
  expect(await told()).toMatch(/^valid[^\n]*\nasked for: nothing\n$/)
  changed.verdict.status = 'rejected'
  writeFileSync(evidence, JSON.stringify(changed))
  expect((await poc('audit', evidence)).exitCode).toBe(1)
  expect(await pocJson('audit', opened)).toMatchObject({
    exitCode: 65,
    json: { error: { code: 'EVIDENCE_MALFORMED' } },
  })
})

test('a verdict under a tolerance profile is verified for whoever trusts the key that signed it', async () => {
  const honest = file('plain.poc')
  const generate = ['generate', '--model', MODEL, '--prompt', 'Tom', '--max-new-tokens', '8', '--out', honest]
  expect((await poc(...generate)).exitCode).toBe(0)
  const { header, tokens } = decodeProof(readFileSync(honest))
  const { proof, profile } = zerosUnderLaxLimits(header, tokens)
  writeFileSync(file('zeros.poc'), encodeProof(proof))
  const pem = generateKeyPairSync('ed25519').privateKey.export({ format: 'pem', type: 'pkcs8' }) as string
  const [bare, signed] = [statedProfile(profile, undefined), statedProfile(profile, pem) as SignedProfile]
  const { publicKey } = signed
  const evidence = file('under-profile.json')
  const audit = ['audit', evidence, '--model', MODEL]
  const untrusted = { exitCode: 2, json: { valid: true, verified: false, unverifiable: ['profile_untrusted'] } }
  for (const [given, ...keys] of [[bare], [signed], [signed, '--profile-key', publicKey]] as const) {
    writeFileSync(file('profile.json'), JSON.stringify(given))
    const flags = ['--profile', file('profile.json'), ...keys]
    const verified = await poc('verify', '--model', MODEL, file('zeros.poc'), '--evidence', evidence, ...flags)
    expect(verified.exitCode).toBe(0)
    expect(await pocJson(...audit)).toMatchObject(untrusted)
    expect(await pocJson(...audit, '--profile-key', '00'.repeat(32))).toMatchObject(untrusted)
    const trusting = await pocJson(...audit, '--profile-key', '00'.repeat(32), '--profile-key', publicKey.toUpperCase())
    expect(trusting).toMatchObject(given === bare ? untrusted : { exitCode: 0, json: { verified: true } })
  }
  expect((await poc(...audit)).stdout).toMatch(/^valid: .*profile_untrusted/)
  expect(await pocJson(...audit, '--profile-key', 'ab')).toMatchObject({
    exitCode: 64,
    json: { error: { code: 'INVALID_ARGUMENT' } },
  })
})

test('a bundle over what the format allows is not read', async () => {
  writeFileSync(file('huge.json'), '')
  truncateSync(file('huge.json'), MAX_EVIDENCE_BYTES + 1)
  expect(await pocJson('audit', file('huge.json'))).toMatchObject({
    exitCode: 65,
    json: { error: { code: 'EVIDENCE_MALFORMED' } },
  })
})

test('what the model cannot run is bad data', async () => {
  const generate = ['generate', '--model', MODEL, '--out', file('none.poc'), '--max-new-tokens']
  expect((await pocJson(...generate, '1', '--prompt-ids', '')).json.error.code).toBe('EMPTY_PROMPT')
  expect(await pocJson(...generate, '1', '--prompt-ids', '1024')).toMatchObject({
    exitCode: 65,
    json: { error: { code: 'TOKEN_OUT_OF_RANGE' } },
  })
  expect(await pocJson(...generate, '600', '--prompt-ids', '1')).toMatchObject({
    exitCode: 65,
    json: { error: { code: 'CONTEXT_OVERFLOW' } },
  })
  expect(readdirSync(dir)).not.toContain('none.poc')
})

test('poc info shows a CPU backend', async () => {
  const { exitCode, json } = await pocJson('info')
  expect(exitCode).toBe(0)
  expect(json.cpu.simd).toContain('plain')
  expect(json.backends).toContainEqual(expect.objectContaining({ name: 'cpu', available: true }))
})

describe('the demo', () => {
  const temporary = () => readdirSync(tmpdir()).filter((name) => name.startsWith('poc-demo-'))

  test('accepts the honest proof, rejects the others, and settles each', async () => {
    const before = temporary()
    const { exitCode, json } = await pocJson('demo')
    expect(exitCode).toBe(0)
    expect(json.text).toContain('Once upon a time')
    const [honest, cheaper, prefilled, token, repaired, bit] = json.cases.map(
      (one: { verdict: unknown }) => one.verdict,
    )
    expect(honest).toMatchObject({ status: 'accepted', computed: { layers: 7 } })
    // Every projection was rounded, so the first layer that is sampled differs, at each of its positions.
    expect(cheaper).toMatchObject({ status: 'rejected', reasons: [{ code: 'sample_mismatch' }], matched: [] })
    expect(cheaper.unchecked.length).toBeGreaterThan(0)
    expect(cheaper.computed.share).toBeLessThan(honest.computed.share / 2)
    // Its vectors are honest: only the sampler tells.
    expect(prefilled).toMatchObject({ status: 'rejected', reasons: [{ code: 'token_mismatch' }], mismatched: [] })
    expect(token).toMatchObject({ status: 'rejected', computed: { layers: 0, share: 0 } })
    expect(repaired).toMatchObject({ status: 'rejected', reasons: [{ code: 'sample_mismatch' }] })
    expect(bit).toMatchObject({ status: 'rejected', firstMismatch: { part: 'v' }, mismatched: [expect.anything()] })
    expect(json.payoffs.map((one: { settlement: { case: string } }) => one.settlement.case)).toEqual([
      'no_challenge',
      'generator_confirmed',
      ...Array(5).fill('verifier_confirmed'),
      'generator_confirmed',
    ])
    expect(temporary()).toEqual(before)
  })

  test('fits on a terminal', async () => {
    const { stdout } = await poc('demo')
    for (const line of stdout.split('\n')) expect(line.length).toBeLessThanOrEqual(100)
    expect(stdout).toContain('cheaper model')
  })
})

test('a proof that names a sampler of somebody’s own is bad data here', async () => {
  const proof = file('custom.poc')
  const tokens = ['--tokens', '0,540,539', '--prompt-length', '1']
  expect((await poc('prove', '--model', MODEL, ...tokens, '--out', proof)).exitCode).toBe(0)
  const { header, ...rest } = decodeProof(readFileSync(proof))
  writeFileSync(proof, encodeProof({ ...rest, header: { ...header, tokenSampler: 'mine:1' } }))
  const { exitCode, json } = await pocJson('verify', '--model', MODEL, proof)
  expect(exitCode).toBe(65)
  expect(json.error).toMatchObject({ code: 'PROOF_MALFORMED', received: '"mine:1"' })
})
