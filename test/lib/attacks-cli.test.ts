// poc attack: tables for people, one line of JSON for programs, and an exit code.
import path from 'node:path'
import { main } from '../../lib/cli'

const tiny = path.join(__dirname, '../../models/tiny-stories')

async function poc(...args: string[]) {
  const written = { stdout: '', stderr: '' }
  const writer = (name: 'stdout' | 'stderr') => ({
    write: (text: string) => {
      written[name] += text
    },
  })
  const exitCode = await main(['attack', ...args], { stdout: writer('stdout'), stderr: writer('stderr') })
  return { exitCode, ...written }
}

const few = ['--model', tiny, '--trials', '1', '--only', 'all-zeros,second-best,sparse-half,lossless-draft,index-twice']

test('JSON: rows of every list, each with the same fields', async () => {
  const { exitCode, stdout } = await poc(...few, '--honest', '3', '--seed', '0A', '--json')
  expect(exitCode).toBe(0)
  const report = JSON.parse(stdout)
  expect(report).toMatchObject({
    model: expect.stringMatching(/^[0-9a-f]{64}$/),
    policy: { challenge: 'beacon', depth: 'full', replay: 'all' },
    seed: '0a',
    honest: { trials: 3, accepted: 3, rejected: 0, by: {} },
    tokensNeeded: [],
    allCaught: true,
  })
  const namesOf = (rows: { attack: string }[]) => rows.map(({ attack }) => attack)
  expect(namesOf(report.attacks)).toEqual(['second-best', 'all-zeros'])
  expect(namesOf(report.verdicts)).toEqual(['index-twice'])
  expect(namesOf(report.chance)).toEqual(['sparse-half'])
  expect(namesOf(report.allowed)).toEqual(['lossless-draft'])
  expect(report.modes).toHaveLength(5 * 2)
  const row = { trials: 1, caught: 1, accepted: 0, undecided: 0, by: { token_mismatch: 1 }, layers: 7 }
  expect(report.attacks[0]).toMatchObject(row)
  for (const name of ['share', 'bytes', 'harmless']) expect(typeof report.attacks[0][name]).toBe('number')
  expect(report.chance[0].expected).toBeGreaterThan(0)
}, 60000)

test('text: tables, what honest proofs came to, and the headline', async () => {
  const { exitCode, stdout } = await poc(...few, '--honest', '2')
  expect(exitCode).toBe(0)
  expect(stdout).toMatch(/attack +trials +caught +layers +of a prefill +bytes +by/)
  expect(stdout).toMatch(/second-best +1 +1 +7\.0 +\d+\.\d % +[\d,]+ +token_mismatch/)
  expect(stdout).toContain('honest proofs: 0 of 2 rejected\nall forgeries were caught')
}, 60000)

test('a model given as the cheap one takes the place of the int8 copy', async () => {
  // The same model: what it computes is honest, so there is nothing to catch and no trial comes about.
  const args = ['--model', tiny, '--cheap-model', tiny, '--trials', '1', '--honest', '0', '--json']
  const { exitCode, stdout } = await poc(...args, '--only', 'model-int8')
  expect(exitCode).toBe(1)
  expect(JSON.parse(stdout).attacks).toMatchObject([{ attack: 'model-int8', trials: 0, caught: 0, harmless: 50 }])
}, 60000)

test.each([
  [['--trials', '0'], 'integer'],
  [['--only', 'nonsense'], 'no attack nonsense'],
  [['--seed', 'x'], 'hex'],
])('%p is a usage error', async (args, expected) => {
  const { exitCode, stderr } = await poc('--model', tiny, ...args)
  expect(exitCode).toBe(64)
  expect(stderr).toContain(expected)
})
