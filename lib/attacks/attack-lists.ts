// All attacks, in the lists that a report has.
import type { Attack } from './attack'
import { BYTE_ATTACKS } from './of-bytes'
import { HEADER_ATTACKS } from './of-headers'
import { MODEL_ATTACKS, SUFFIX_ATTACKS } from './of-models'
import { OPENING_ATTACKS, PREDICTABLE, RECOMMITTED } from './of-openings'
import { LOSSLESS, TOKEN_ATTACKS } from './of-tokens'
import { SKETCH_ATTACKS } from './of-sketches'
import { SPARSE_ATTACKS, VECTOR_ATTACKS } from './of-vectors'
import { HIDDEN_VERDICT_ATTACKS, VERDICT_ATTACKS } from './of-verdicts'
import { type Policy, RECOMMENDED } from './user-request'

/** Caught in every trial under the recommended policy. */
export const ATTACKS: readonly Attack[] = [
  ...MODEL_ATTACKS,
  ...TOKEN_ATTACKS,
  ...VECTOR_ATTACKS,
  ...SKETCH_ATTACKS,
  ...OPENING_ATTACKS,
  RECOMMITTED,
  ...HEADER_ATTACKS,
  ...BYTE_ATTACKS,
]

/** Caught with a probability that the samplers give: honest vectors in most places. */
export const CHANCE_ATTACKS: readonly Attack[] = [...SUFFIX_ATTACKS, PREDICTABLE, ...SPARSE_ATTACKS]

/** What no check of a single proof can or should catch. */
export const ALLOWED_ATTACKS: readonly Attack[] = [LOSSLESS]

/** All forged proofs of the kit. */
export const KIT: readonly Attack[] = [...ATTACKS, ...CHANCE_ATTACKS, ...ALLOWED_ATTACKS]

/** The measurement beside the attacks, as it is chosen by name. */
export const TOKENS_NEEDED = 'tokens-needed'

/** Everything that can be chosen. */
export const ATTACK_NAMES: readonly string[] = [
  ...KIT.map(({ name }) => name),
  ...[...VERDICT_ATTACKS, ...HIDDEN_VERDICT_ATTACKS].map(({ name }) => name),
  TOKENS_NEEDED,
]

/** Weaker policies, to show what each part of the recommended one is for. */
export const WEAKER_POLICIES: readonly Policy[] = [
  { name: 'context, kv, no replay', challenge: 'context', depth: 'kv', replay: 'none' },
  { name: 'context, full, replay', challenge: 'context', depth: 'full', replay: 'all' },
  { name: 'beacon, kv, no replay', challenge: 'beacon', depth: 'kv', replay: 'none' },
  { name: 'beacon, random:2', challenge: 'beacon', depth: 'random:2' },
  RECOMMENDED,
]

const COMPARED = [
  'model-int8',
  'prefill-int8',
  'seed',
  'second-best',
  'suffix-last',
  'predictable',
  'sparse-half',
  'one-noise',
]

/** The attacks that policies are compared by. */
export const COMPARED_ATTACKS: readonly Attack[] = [...ATTACKS, ...CHANCE_ATTACKS].filter(({ name }) =>
  COMPARED.includes(name),
)
