// A calibration as people read it.

import type { Calibration } from '../calibrate'
import type { CheatEvidence } from '../tolerance'
import type { Circumstances } from './calibrate'
import type { ExactChunks, OwnVariation } from './calibrate-own'
import { listing, percent, table } from './table'

interface Written {
  sampleBytes: number
  bytesPerToken: number
  /** Null: there is a profile, but no --out; false or null profile: refused. */
  file: string | null
}

export function describeCalibration(found: Calibration, circumstances: Circumstances, written: Written): string {
  const { honest, forgeries, profile } = found
  const { exact, engine, left } = circumstances
  const confidence = percent(honest.confidence)
  const rejected = `${honest.rejectedSequences} of ${honest.heldOutSequences} held-out sequences`
  const entries: [string, string][] = [
    ['engine', engine],
    ['honest', honest.variants.join('; ')],
    ['limits', `set on ${honest.fittedSequences} sequences, judged on ${honest.heldOutSequences} others`],
    ['rejected', `${rejected}; at most ${percent(honest.maxFalseRejection)} with ${confidence} confidence`],
    ['strain', `honest proofs up to ${scale(honest.strain.max)} of their limits`],
    ['chunks', `other chunk sizes of this engine gave the same bits in ${exact.equal} of ${exact.tried}`],
    ['size', `${written.sampleBytes} bytes a sample, ${written.bytesPerToken.toFixed(2)} a token`],
  ]
  const forged = forgeries.map(({ name, sequences, passedSequences, minStrain }) => {
    return [name, `${passedSequences} of ${sequences}`, scale(minStrain)]
  })
  return [
    listing(entries),
    cheatTable(found),
    table([['trivial forgery', 'passed', 'strain from'], ...forged], [1, 2]),
    ...tokenTables(found),
    ...left.map((reason) => `not tried: ${reason}`),
    profile ? outcome(written.file) : 'refused: a profile that a trivial forgery passes is none',
  ].join('\n\n')
}

function cheatTable({ cheats, honest }: Pick<Calibration, 'cheats' | 'honest'>): string {
  const head = ['cheat', 'told apart', 'detected', 'at least', 'strain from', 'to', 'tokens needed', 'samples needed']
  const rows = cheats.map((cheat) => [
    cheat.name,
    separation(cheat, honest.strain.max),
    `${cheat.detectedSequences} of ${cheat.sequences}`,
    percent(cheat.minDetection),
    scale(cheat.strain.min),
    scale(cheat.strain.max),
    cheat.positionsNeeded === null ? 'more' : `${cheat.positionsNeeded + 1}`,
    cheat.samplesNeeded === null ? 'more' : `${cheat.samplesNeeded}`,
  ])
  return table([head, ...rows], [2, 3, 4, 5, 6, 7])
}

/** Variations of this engine alone. */
export function describeOwn(told: {
  leftOut: string[]
  exact: ExactChunks[]
  variations: OwnVariation[]
  left: string[]
}): string {
  const exact = told.exact.map(({ kvDtype, equal, tried }): [string, string] => {
    return [`chunks, ${kvDtype}`, `other chunk sizes gave the same bits in ${equal} of ${tried}`]
  })
  const blocks = told.variations.flatMap((one) => {
    const { generatorKvDtype, verifierKvDtype, typicalError, honest } = one
    const range = typicalError ? [typicalError.least, typicalError.greatest].map((e) => e.toExponential(1)) : ['none']
    const rejected = `${honest.rejectedSequences} of ${honest.heldOutSequences} held-out sequences`
    const entries: [string, string][] = [
      ['K and V', `kept in ${generatorKvDtype}, recomputed in ${verifierKvDtype}`],
      ['typical error', range.join(' to ')],
      ['rejected', `${rejected}; at most ${percent(honest.maxFalseRejection)}`],
    ]
    return [listing(entries), cheatTable(one)]
  })
  return [
    listing([...told.leftOut.map((reason): [string, string] => ['left out', reason]), ...exact]),
    ...blocks,
    ...told.left.map((reason) => `not tried: ${reason}`),
    'no profile: limits are of another engine, and none was run. Proofs of this one are compared bit for bit',
  ].join('\n\n')
}

// Greedy tokens: a cheat's own are seldom far from what the real model would choose, and this says how far.
function tokenTables({ tokenGap }: Calibration): string[] {
  if (!tokenGap) return []
  const { maxMeanGap, rejectedSequences, heldOutSequences, greatestHonestGap } = tokenGap
  const honest = ['honest', `${rejectedSequences} of ${heldOutSequences}`, '', '', greatestHonestGap.toExponential(1)]
  const rows = tokenGap.cheats.map(({ name, detectedSequences, sequences, leastGap, medianGap }) => {
    return [name, `${detectedSequences} of ${sequences}`, leastGap.toExponential(1), medianGap.toExponential(1), '']
  })
  const head = [`greedy tokens, mean gap over ${maxMeanGap.toExponential(1)}`, 'over it', 'least', 'median', 'greatest']
  return [table([head, honest, ...rows], [1, 2, 3, 4])]
}

function outcome(file: string | null): string {
  return file ? `profile written to ${file}` : 'profile not written: no --out'
}

/** By the verdicts, and by whether any limit could do better: the strains of honest proofs and of the cheat's. */
function separation({ detectedSequences, sequences, strain }: CheatEvidence, honestMax: number): string {
  if (detectedSequences === sequences) return 'yes'
  if (strain.min > honestMax) return 'by lower limits'
  return detectedSequences === 0 ? 'no' : 'in part'
}

function scale(strain: number): string {
  return strain >= 1000 ? strain.toExponential(1) : strain.toFixed(2)
}
