// What the proofs of a policy cost on average, layer by layer: the expectation of planCost() over all contexts.
import type { ModelConfig } from './config'
import { layerFlops } from './cost'
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

/** The step of one layer, of a proof with nothing wrong and of an attack's. */
export interface LayerSteps {
  honest: LayerStep
  attacked: LayerStep
}

/** Positions up to the sliding window, those after it, and all. */
type Runs = Record<'low' | 'high' | 'all', Run>

/** One layer, for one depth. */
interface LayerCase {
  layer: number
  isVirtual: boolean
  odds: LayerOdds
}

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
): LayerSteps[] {
  const numLayers = wrong.layers.length - 1
  const unit = config && unitFlops(config)
  const firstWrong = wrong.count === 0 ? numLayers : wrong.layers.indexOf(true)
  const step = (layer: number, runs: Runs): LayerStep => {
    const { some, missed } = runs.all
    if (missed === 0) return { computed: 0, flops: 0 }
    const flops = unit === null ? 0 : stepFlops(layer, numLayers, runs, unit)
    return { computed: some / missed, flops: flops / missed }
  }
  const steps: LayerSteps[] = []
  let honest = runsOf({ layer: 0, isVirtual: false, odds }, sequence, null, config)
  let attacked = honest
  for (let layer = 0; layer <= numLayers; layer++) {
    const isVirtual = layer === numLayers
    // Behind the depth no sample is left: a layer is needed where tokens are replayed, each as much as the next.
    if (layer > 0 && (layer <= odds.numLayers || isVirtual)) {
      honest = runsOf({ layer, isVirtual, odds }, sequence, null, config)
      const isSame = layer <= firstWrong || firstWrong < 0
      if (isSame) attacked = honest
      else if (attacked.all.missed > 0) attacked = runsOf({ layer, isVirtual, odds }, sequence, wrong, config)
    }
    const ofHonest = step(layer, honest)
    steps.push({ honest: ofHonest, attacked: attacked === honest ? ofHonest : step(layer, attacked) })
  }
  return steps
}

/** All positions; `wrong`: null for a proof with nothing wrong. */
function runsOf(
  { layer, isVirtual, odds }: LayerCase,
  sequence: SequenceOdds,
  wrong: WrongSamples | null,
  config: ModelConfig | null,
): Runs {
  const { numPositions } = sequence
  const right = { any: 1, before: odds.missed([], 0, layer), upTo: odds.missed([], 0, layer + 1) }
  const picked = (below?: number) => odds.missed(wrong?.layers ?? [], wrong?.noticed ?? 0, below, layer)
  const noticed = wrong ? { any: picked(), before: picked(layer), upTo: picked(layer + 1) } : right
  const shares = wrong ? wrongShares(sequence, wrong) : { certain: 0, free: 0 }
  const mixed = (share: number) => ({
    any: right.any + share * (noticed.any - right.any),
    before: right.before + share * (noticed.before - right.before),
    upTo: right.upTo + share * (noticed.upTo - right.upTo),
  })
  const [certain, free] = [mixed(shares.certain), mixed(shares.free)]
  const position: Position = (sampled, replayed) => {
    const { any, before, upTo } = sampled === 1 ? certain : free
    const idle = 1 - sampled
    const replay = replayed * (idle + sampled * upTo) // a sample of the virtual layer
    return onePosition({
      nothing: (1 - replayed) * (idle + sampled * before),
      sample: (1 - replayed) * sampled * (upTo - before) + (isVirtual ? replay : 0),
      deeper: isVirtual ? 0 : sampled * (any - upTo) + replay,
    })
  }
  const split = Math.min(config?.slidingWindow ?? numPositions, numPositions)
  const low = runOf(sequence, position, 0, split)
  const high = runOf(sequence, position, split, numPositions)
  return { low, high, all: joined(low, high) }
}

function wrongShares({ numPositions, ...sampling }: SequenceOdds, { count, choice }: WrongSamples) {
  const { certain, free } = positionClasses(sampling, numPositions)
  if (choice === 'random') return { certain: count / numPositions, free: count / numPositions }
  if (choice === 'informed') return { certain: 0, free: 0 } // its draw tells nothing about the positions
  const forced = Math.max(0, count - free)
  return { certain: forced / certain, free: free === 0 ? 0 : (count - forced) / free }
}

/** {@link layerFlops} as numbers. */
function unitFlops(config: ModelConfig) {
  const { keysAndValues, rest, pair } = layerFlops(config)
  return { keysAndValues: Number(keysAndValues), rest: Number(rest), pair: Number(pair) }
}

/** Positions up to the sliding window are in `low`: one at p there sees p + 1 keys, each further one a window. */
function stepFlops(layer: number, numLayers: number, runs: Runs, unit: ReturnType<typeof unitFlops>): number {
  const { low, high, all } = runs
  const positions = all.keys + all.beyond
  const kv = layer === numLayers ? 0 : unit.keysAndValues * positions // the virtual layer has none
  if (layer === 0) return kv
  const triangle = (low.length * (low.length + 1)) / 2
  const ofKeys = ((low.keysSquared + low.keys) / 2) * high.noneDeeper
  const ofKeysBeyond = low.missed * (high.someDeeper * triangle + high.keys * low.length)
  const ofSamples = low.beyondPlaces * high.noneDeeper + low.missed * high.beyond * low.length
  return kv + unit.rest * positions + unit.pair * (ofKeys + ofKeysBeyond + ofSamples)
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
