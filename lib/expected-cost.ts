// What the proofs of a policy cost on average, layer by layer: the expectation of planCost() over all contexts.
import type { ModelConfig } from './config'
import { causalPairs, layerFlops } from './cost'
import { type PositionSampling, positionClasses, type WrongSamples } from './detection'
import type { LayerOdds } from './layer-odds'
import { EMPTY_RUN, joined, onePosition, repeated, type Run } from './sampling-runs'

/** Which positions are sampled and which are replayed. */
export interface SequenceOdds extends PositionSampling {
  /** Positions that have KV. */
  numPositions: number
  promptLength: number
  /** The probability that a generated token's choice is replayed. */
  replay: number
}

/** One layer's part of the expected cost. */
export interface LayerStep {
  /** The probability that the layer is computed, in full or in part. */
  computed: number
  /** From the samples of the layer before to those of this one; 0 without a config. */
  flops: number
}

/** The odds of one position, `sampled` or `replayed` with these probabilities, as a run. */
type Position = (sampled: number, replayed: number) => Run

/**
 * The steps of layers 0 to `numLayers`, the virtual one, for one depth, each given that no wrong sample was noticed
 * before. The output head of replayed tokens is not in them.
 *
 * For that condition alone, positions are taken to be wrong independently of each other: exact where none or all
 * are wrong, otherwise nearly so.
 */
export function expectedSteps(
  sequence: SequenceOdds,
  odds: LayerOdds,
  wrong: WrongSamples,
  config: ModelConfig | null,
): LayerStep[] {
  const numLayers = wrong.layers.length - 1
  const wrongShare = wrongShares(sequence, wrong)
  const split = Math.min(config?.slidingWindow ?? sequence.numPositions, sequence.numPositions)
  return wrong.layers.map((_, layer) => {
    const wrongBefore = wrong.layers.map((isWrong, i) => isWrong && i < layer)
    const picked = (below?: number) => {
      const right = odds.missed([], 0, below)
      return { right, wrong: odds.missed(wrongBefore, wrong.noticed, below) }
    }
    const [any, before, upTo] = [picked(), picked(layer), picked(layer + 1)]
    const position: Position = (sampled, replayed) => {
      const share = sampled === 1 ? wrongShare.certain : wrongShare.free
      const mixed = (given: typeof any) => given.right + share * (given.wrong - given.right)
      return onePosition({ sampled, any: mixed(any), before: mixed(before), upTo: mixed(upTo), replayed })
    }
    const low = runOf(sequence, position, 0, split)
    const high = runOf(sequence, position, split, sequence.numPositions)
    const all = joined(low, high)
    if (all.missed === 0) return { computed: 0, flops: 0 }
    const flops = config === null ? 0 : stepFlops(layer, numLayers, { low, high, all }, config)
    return { computed: all.some / all.missed, flops: flops / all.missed }
  })
}

function wrongShares({ numPositions, ...sampling }: SequenceOdds, { count, choice }: WrongSamples) {
  const { certain, free } = positionClasses(sampling, numPositions)
  if (choice === 'random') return { certain: count / numPositions, free: count / numPositions }
  if (choice === 'informed') return { certain: 0, free: 0 } // its draw tells nothing about the positions
  const forced = Math.max(0, count - free)
  return { certain: forced / certain, free: free === 0 ? 0 : (count - forced) / free }
}

/** Positions up to the sliding window are in `low`: n of them have n (n + 1) / 2 pairs, each further one a window. */
function stepFlops(layer: number, numLayers: number, runs: Record<'low' | 'high' | 'all', Run>, config: ModelConfig) {
  const { low, high, all } = runs
  const { keysAndValues, rest, pair } = layerFlops(config)
  // Of the deepest layer, K and V of its samples only; the virtual layer has none.
  const withKv = layer === numLayers ? 0 : all.last - all.deepestLast + all.deepestSamples
  if (layer === 0) return Number(keysAndValues) * withKv
  const inWindow = ((low.lastSquared + low.last) / 2) * high.none
  const beyond = low.missed * (high.some * Number(causalPairs(low.length, config)) + high.last * low.length)
  return Number(keysAndValues) * withKv + Number(rest) * all.last + Number(pair) * (inWindow + beyond)
}

/** Positions `from .. to - 1`. */
function runOf(sequence: SequenceOdds, position: Position, from: number, to: number): Run {
  const { numPositions, promptLength, replay } = sequence
  const end = Math.min(to, numPositions - 1)
  const firstReplayed = promptLength - 1 // it chooses the first token after the prompt
  const turn = Math.min(Math.max(firstReplayed, from), end)
  const run = joined(stretch(sequence, position, from, turn, 0), stretch(sequence, position, turn, end, replay))
  const hasLast = from < to && to === numPositions
  return hasLast ? joined(run, position(1, firstReplayed < numPositions ? replay : 0)) : run
}

/** The same without the last position, whose sample is certain, and with one rate of replays. */
function stretch({ step, chance }: PositionSampling, position: Position, from: number, to: number, replayed: number) {
  if (from >= to) return EMPTY_RUN
  const idle = position(0, replayed)
  const ending = position(chance, replayed)
  const aligned = Math.min(to, Math.ceil(from / step) * step)
  const endsStep = aligned > from && aligned % step === 0
  const head = joined(repeated(idle, aligned - from - Number(endsStep)), endsStep ? ending : EMPTY_RUN)
  const wholeStep = joined(repeated(idle, step - 1), ending)
  const body = joined(head, repeated(wholeStep, Math.floor((to - aligned) / step)))
  return joined(body, repeated(idle, (to - aligned) % step))
}
