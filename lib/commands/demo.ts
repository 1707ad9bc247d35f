// poc demo, also `npm start`: the main job on the bundled model, from a prompt to the payoffs.

import { join } from 'node:path'
import type { Command } from 'commander'
import { generate } from '../generate'
import type { Model } from '../model'
import { settlementToJson } from '../payoff'
import { encodeProof, type Proof } from '../proof'
import { formatRatio, termsToJson } from '../terms'
import { loadTokenizer, type Tokenizer } from '../tokenizer'
import { DEMO_OPTIONS, type DemoCase, demoCases } from './demo-cases'
import { DEMO_TERMS, type DemoPayoff, demoPayoffs } from './demo-payoffs'
import { addJsonFlag } from './flags'
import type { Session } from './session'
import { signed } from './settle'
import { grouped, listing, percent, short, table } from './table'
import { withModel } from './with-model'

const MODEL_DIR = join(__dirname, '..', '..', 'models', 'tiny-stories')
const PROMPT = 'Once upon a time'
const WIDTH = 80

export function addDemo(program: Command, session: Session): void {
  const command = program.command('demo').description('show the main job on the bundled model')
  addJsonFlag(command).action(() =>
    withModel(session, { model: MODEL_DIR }, async (model) => {
      // A model made for this demo: it has a tokenizer.
      await runDemo(session, model, (await loadTokenizer(MODEL_DIR)) as Tokenizer)
    }),
  )
}

async function runDemo(session: Session, model: Model, tokenizer: Tokenizer): Promise<void> {
  const { signal } = session
  const say = (text: string) => session.json || session.stdout.write(`${text}\n\n`)
  say(describeModel(model))
  const prompt = tokenizer.encode(PROMPT)
  const { proof } = await generate(model, prompt, { ...DEMO_OPTIONS, signal })
  const textOf = (made: Proof) => tokenizer.decode(made.tokens, { skipSpecialTokens: true })
  const bytes = encodeProof(proof).length
  say(describeProof(proof, bytes, textOf(proof)))
  const cases = await demoCases(model, proof, signal)
  say(describeCases(cases, model.config.numLayers))
  say(describeCheaperText(cases, textOf))
  const payoffs = demoPayoffs(cases)
  say(describePayoffs(payoffs).trimEnd())
  if (session.json)
    session.stdout.write(`${JSON.stringify(toJson(model, proof, bytes, textOf(proof), cases, payoffs))}\n`)
}

function toJson(model: Model, proof: Proof, bytes: number, text: string, cases: DemoCase[], payoffs: DemoPayoff[]) {
  return {
    modelDigest: model.digest,
    prompt: PROMPT,
    text,
    proof: { bytes, samples: proof.samples.length },
    cases: cases.map(({ name, verdicts }) => ({ name, verdict: verdicts[0] })),
    terms: termsToJson(DEMO_TERMS),
    payoffs: payoffs.map(({ name, settlement }) => ({ name, settlement: settlementToJson(settlement) })),
  }
}

function describeModel({ config, digest, numerics }: Model): string {
  const shape = `${config.numLayers} layers, hidden size ${config.hiddenSize}, vocabulary ${grouped(config.vocabSize)}`
  const entries: [string, string][] = [
    ['model', `tiny-stories (${config.architecture}): ${shape}`],
    ['digest', `${short(digest)}, numerics ${numerics}`],
  ]
  return `Proof of Cache: did the model that was paid for compute this text?\n\n${listing(entries)}`
}

function describeProof(proof: Proof, bytes: number, text: string): string {
  const numNew = proof.tokens.length - proof.header.promptLength
  const { tokenSampler, layerSampler } = proof.header
  const entries: [string, string][] = [
    ['prompt', PROMPT],
    ['generated', `${numNew} tokens, temperature ${DEMO_OPTIONS.temperature}, seed ${DEMO_OPTIONS.seed}`],
    ['proof', `${grouped(bytes)} bytes: tokens and ${proof.samples.length} samples of K and V`],
    ['samplers', `${tokenSampler} of the positions, ${layerSampler} of the layers of each`],
  ]
  return `1. The generator runs the model and captures a proof on the way\n\n${listing(entries)}\n\n${wrapped(text)}`
}

function describeCases(cases: readonly DemoCase[], numLayers: number): string {
  const rows = cases.map(({ name, verdicts: [verdict] }) => {
    const { status, firstMismatch, computed, reasons } = verdict
    const atEnd = computed.layers > numLayers ? 'at the end' : `at layer ${computed.layers - 1}`
    const stopped = computed.layers === 0 ? 'before layer 0' : atEnd
    const reason = firstMismatch
      ? `${firstMismatch.part.toUpperCase()} differs at position ${firstMismatch.position}`
      : reasons.map(({ code }) => code).join(', ')
    return [name, status, stopped, percent(computed.share), reason]
  })
  const head = ['case', 'verdict', 'stopped', 'of a prefill', 'reason']
  const title = '2. A verifier recomputes samples, layer by layer, then replays the tokens'
  return `${title} (layers 0 to ${numLayers - 1})\n\n${table([head, ...rows], [3])}`
}

function describeCheaperText([honest, cheaper]: readonly DemoCase[], textOf: (proof: Proof) => string): string {
  const [a, b] = [honest.proof.tokens, cheaper.proof.tokens]
  const at = a.findIndex((token, i) => token !== b[i])
  if (at < 0) return 'The cheaper model wrote the very same text: only its KV vectors gave it away.'
  const same = at - honest.proof.header.promptLength
  return `The cheaper model's text is the same for ${same} tokens, then:\n\n${wrapped(textOf(cheaper.proof))}`
}

function describePayoffs(payoffs: readonly DemoPayoff[]): string {
  const { alpha, beta, generationCost, verificationCost } = DEMO_TERMS
  const rows = payoffs.map(({ name, settlement }) => {
    const netOf = (party: string) => {
      const found = settlement.payouts.find((payout) => payout.party === party)
      return found ? signed(found.net) : '-'
    }
    return [name, settlement.case, ...['user', 'generator', 'V1', 'V2'].map(netOf)]
  })
  const head = ['case', 'settlement', 'user', 'generator', 'V1', 'V2']
  const ratios = `alpha ${formatRatio(alpha)}, beta ${formatRatio(beta)}`
  const terms = `Cg ${grouped(generationCost)}, Cv ${grouped(verificationCost)}, ${ratios}`
  return `3. The stakepool settles; net of deposits, with ${terms}\n\n${table([head, ...rows], [2, 3, 4, 5])}`
}

function wrapped(text: string): string {
  const lines: string[] = ['']
  for (const word of text.trim().split(/\s+/)) {
    const line = lines[lines.length - 1]
    if (line.length + 1 + word.length > WIDTH - 4) lines.push(word)
    else lines[lines.length - 1] = line ? `${line} ${word}` : word
  }
  return lines.map((line) => `    ${line}`).join('\n')
}
