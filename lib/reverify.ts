// Verifying again what a verdict rests on, where that is more than proof, model and demands: what its verifier had
// accepted before, and how far it got.
import { checkRun } from './arguments'
import { examining } from './examination'
import type { Model } from './model'
import { openPass } from './pass'
import { copyProof, type Proof } from './proof'
import type { SeenBindings } from './registry'
import { inTurns } from './turns'
import type { ReasonCode, Verdict } from './verdict'
import { type VerifyOptions, verify } from './verify'

/**
 * The reasons of a verdict that nobody can check who was not there: that a proof was accepted before, which takes that
 * verifier's registry, and that the verification was aborted.
 */
export function unverifiableReasons({ reasons }: Verdict, seen: SeenBindings | undefined): ReasonCode[] {
  const codes = reasons.map(({ code }) => code)
  return codes.filter((code) => code === 'aborted' || (code === 'replayed' && seen === undefined))
}

/**
 * The verdict of a verifier that comes upon what the one before says it came upon: the binding accepted before, if
 * `options` has no registry to ask; aborted behind as many layers.
 *
 * @throws {PocError} As {@link verify}; aborted itself, it rejects with the signal's reason.
 */
export async function reverify(
  model: Model,
  proof: Proof,
  stated: Verdict,
  { seen, ...options }: VerifyOptions,
): Promise<Verdict> {
  const has = (code: ReasonCode) => stated.reasons.some((reason) => reason.code === code)
  const told = has('replayed') ? { ...options, seen: seenAsStated(stated, seen) } : options
  const again = has('aborted')
    ? await abortedBehind(model, proof, stated.computed.layers, told)
    : await verify(model, proof, told)
  options.signal?.throwIfAborted()
  return again
}

/** A registry that nothing is added to. Where layers were computed, another verifier was the first to accept. */
function seenAsStated({ computed }: Verdict, seen: SeenBindings | undefined): SeenBindings {
  let asked = 0
  const isSeen = () => computed.layers === 0 || asked++ > 0
  return { has: (id) => isSeen() && (seen?.has(id) ?? true), add() {} }
}

/** The verdict of a verifier that had compared the first `layers` layers and replayed no token. */
async function abortedBehind(model: Model, proof: Proof, layers: number, options: VerifyOptions): Promise<Verdict> {
  checkRun(model, options)
  const ours = copyProof(proof)
  const examination = await inTurns(examining(model, ours, options))
  if (examination.verdict) return examination.verdict
  if (layers === 0) return examination.conclude()
  const part = { tokens: ours.tokens, plan: examination.plan, parent: null, shared: 0 }
  const pass = openPass(model, [part], { ...options, kvDtype: ours.header.kvDtype })
  for await (const [layer] of pass.layers()) {
    await examination.push(layer, null, 0)
    if (examination.decided || layer.layer + 1 >= layers) break
  }
  return examination.conclude()
}
