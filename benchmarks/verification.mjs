// What does a verification cost beside the generation it checks, and what does early termination save?
// Generation and verification alternate in one process; times are medians, ratios are taken round by round.
import { encodeProof, generate, Model, verify } from '../dist/index.mjs'

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1]
const timed = async (work) => {
  const from = process.hrtime.bigint()
  const result = await work()
  return [Number(process.hrtime.bigint() - from) / 1e6, result]
}

/** @returns times in ms, ratios and shares for one model and length. */
export async function measure(path, prompt, maxNewTokens, rounds = 9) {
  const [loadMs, model] = await timed(() => Model.load(path))
  const rows = []
  let proof
  for (let round = -1; round < rounds; round++) {
    const [generateMs, output] = await timed(() => generate(model, prompt, { maxNewTokens, ignoreEos: true }))
    proof = output.proof
    const [verifyMs, verdict] = await timed(() => verify(model, proof))
    const forged = { ...proof, samples: proof.samples.map((s) => ({ ...s, k: s.k.slice() })) }
    forged.samples[0].k[0] ^= 1
    const [rejectMs, rejected] = await timed(() => verify(model, forged))
    if (verdict.status !== 'accepted' || rejected.status !== 'rejected') throw new Error('wrong verdict')
    if (round >= 0)
      rows.push({ generateMs, verifyMs, rejectMs, share: verdict.computed.share, stopShare: rejected.computed.share })
  }
  const of = (f) => median(rows.map(f))
  await model.close()
  return {
    tokens: proof.tokens.length,
    samples: proof.samples.length,
    proofBytes: encodeProof(proof).length,
    loadMs,
    generateMs: of((r) => r.generateMs),
    verifyMs: of((r) => r.verifyMs),
    generateOverVerify: of((r) => r.generateMs / r.verifyMs),
    shareOfFullPrefill: rows[0].share,
    rejectedAtFirstSampleShare: rows[0].stopShare,
    rejectOverVerify: of((r) => r.rejectMs / r.verifyMs),
  }
}
