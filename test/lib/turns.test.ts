// Long proofs leave others their turns, and come to the same result as without.
import { drawChallenge } from '../../lib/challenge'
import { Model } from '../../lib/model'
import { createPlan, planning } from '../../lib/plan'
import type { Proof } from '../../lib/proof'
import { proofHeader } from '../../lib/prove'
import { drawingReplay, replayPositions } from '../../lib/replay'
import { atOnce, inTurns, POSITIONS_A_TURN } from '../../lib/turns'
import { verify } from '../../lib/verify'
import { verifyAll } from '../../lib/verify-all'
import { makeModel } from '../models/make'

const NUM_TURNS = 5
const NUM_TOKENS = NUM_TURNS * POSITIONS_A_TURN + 100

let model: Model
beforeAll(async () => {
  model = await Model.load(makeModel({ config: { max_position_embeddings: NUM_TOKENS } }).dir, { threads: 1 })
})
afterAll(() => model.close())

const tokens = () => Uint32Array.from({ length: NUM_TOKENS }, (_, i) => (i * 7) % 96)

/** Fits together; its samples are nobody's. */
function longProof(challenge: 'context' | 'beacon'): Proof {
  const header = proofHeader(model, 1, { form: 'digest', challenge, temperature: 0 })
  const [root, beacon] = challenge === 'beacon' ? ['ab'.repeat(32), 'cd'] : ['', '']
  const ids = tokens()
  const plan = beacon ? drawChallenge({ header, tokens: ids, root }, beacon).plan : createPlan(header, ids)
  const contextDigest = Buffer.from(plan.contextDigest).toString('hex')
  const samplesDigest = '11'.repeat(32)
  return { header, tokens: ids, contextDigest, samples: [], samplesDigest, root, beacon, path: new Uint8Array(0) }
}

/** The turns that others had until the work was done. */
async function turnsDuring(work: Promise<unknown>): Promise<number> {
  let turns = 0
  let isOver = false
  const take = () => {
    turns++
    if (!isOver) setImmediate(take)
  }
  setImmediate(take)
  await work
  isOver = true
  return turns
}

test.each(['context', 'beacon'] as const)('%s: a long proof is looked at in turns', async (challenge) => {
  const proof = longProof(challenge)
  const refused = { status: 'rejected', reasons: [{ code: 'nonce_mismatch' }] }
  const verifying = verify(model, proof, { nonce: 'aa' })
  proof.tokens.fill(0) // does not count any more
  expect(await turnsDuring(verifying)).toBeGreaterThanOrEqual(NUM_TURNS)
  expect(await verifying).toMatchObject(refused)
  proof.tokens = tokens()
  const all = verifyAll(model, [proof, proof], { nonce: 'aa' })
  expect(await turnsDuring(all)).toBeGreaterThanOrEqual(2 * NUM_TURNS)
  expect(await all).toMatchObject([refused, refused])
})

test('in turns or at once, plans and replayed positions are the same', async () => {
  const proof = longProof('context')
  const plan = createPlan(proof.header, proof.tokens)
  expect(await inTurns(planning(proof.header, proof.tokens, {}))).toEqual(plan)
  const demands = { replay: '1/3', replaySeed: '0a' }
  const drawn = replayPositions(proof, null, demands)
  expect(drawn?.length).toBeGreaterThan(NUM_TOKENS / 4)
  expect(await inTurns(drawingReplay(proof, null, demands))).toEqual(drawn)
})

test('an error in a later turn reaches the caller', async () => {
  function* failing(): Generator<void, never, void> {
    yield
    throw new RangeError('too far')
  }
  expect(() => atOnce(failing())).toThrow(RangeError)
  await expect(inTurns(failing())).rejects.toThrow('too far')
})
