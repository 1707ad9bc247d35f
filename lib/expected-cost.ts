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

/** The odds of one position, sampled and replayed with these probabilities, as a run. */
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
      const mixed = (given: typeof any) => sampled * (given.right + share * (given.wrong - given.right))
      const [mayBeAny, mayBeBefore, mayBeUpTo] = [any, before, upTo].map((given) => 1 - sampled + mixed(given))
      const replay = replayed * mayBeUpTo // a sample of the virtual layer
      const isVirtual = layer === numLayers
      return onePosition({
        nothing: (1 - replayed) * mayBeBefore,
        sample: (1 - replayed) * (mayBeUpTo - mayBeBefore) + (isVirtual ? replay : 0),
        deeper: isVirtual ? 0 : mayBeAny - mayBeUpTo + replay,
      })
    }
    const low = runOf(sequence, position, 0, split)
    const high = runOf(sequence, position, split, sequence.numPositions)
    const { missed, some } = joined(low, high)
    if (missed === 0) return { computed: 0, flops: 0 }
    const flops = config === null ? 0 : stepFlops(layer, numLayers, low, high, config)
    return { computed: some / missed, flops: flops / missed }
  })
}

function wrongShares({ numPositions, ...sampling }: SequenceOdds, { count, choice }: WrongSamples) {
  const { certain, free } = positionClasses(sampling, numPositions)
  if (choice === 'random') return { certain: count / numPositions, free: count / numPositions }
  if (choice === 'informed') return { certain: 0, free: 0 } // its draw tells nothing about the positions
  const forced = Math.max(0, count - free)
  return { certain: forced / certain, free: free === 0 ? 0 : (count - forced) / free }
}

/** Positions up to the sliding window are in `low`: one at p there sees p + 1 keys, each further one a window. */
function stepFlops(layer: number, numLayers: number, low: Run, high: Run, config: ModelConfig): number {
  const { keysAndValues, rest, pair } = layerFlops(config)
  const { keys, beyond } = joined(low, high)
  const kv = layer === numLayers ? 0 : Number(keysAndValues) * (keys + beyond) // the virtual layer has none
  if (layer === 0) return kv
  const ofKeys = ((low.keysSquared + low.keys) / 2) * high.noneDeeper
  const ofKeysBeyond = low.missed * (high.someDeeper * Number(causalPairs(low.length, config)) + high.keys * low.length)
  const ofSamples = low.beyondPlaces * high.noneDeeper + low.missed * high.beyond * low.length
  return kv + Number(rest) * (keys + beyond) + Number(pair) * (ofKeys + ofKeysBeyond + ofSamples)
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
