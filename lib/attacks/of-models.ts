// Another model does the work, and the proof states the real one's digest.
import { type Attack, generates } from './attack'
import { claimOf, claimWithChance } from './claim'
import type { ModelName } from './model-pool'

const wholly = (name: string, model: ModelName, reference: string, about: string): Attack => ({
  name,
  reference,
  about,
  forge: async (trial) => claimOf(trial, await trial.by(model)),
})

/** False vectors wherever a challenge can look. */
export const MODEL_ATTACKS: readonly Attack[] = [
  wholly('model-int8', 'int8', 'A1, A7', 'the int8 copy (or the cheap model that was given) generates and commits'),
  wholly('model-half', 'half', 'A7', 'weights of half the width: bf16 for f32, 3 bits of mantissa for 16 bits'),
  wholly('model-tuned', 'tuned', 'A1', 'one tensor of the first block is changed by a hundredth'),
  wholly('model-lora', 'lora', 'A17', 'a low-rank product is added to the q and v projections'),
  wholly('model-pruned', 'pruned', 'A1', 'the first block is left out'),
  {
    ...wholly('head-int8', 'head', 'A6', 'only the output head is cheaper: every vector is right, some token is not'),
    fits: generates(16), // shorter answers are the honest ones as a rule
    forge: async (trial) => ((await trial.agrees('head')) ? null : await claimOf(trial, await trial.by('head'))),
  },
]

const partly = (name: string, model: ModelName, reference: string, about: string): Attack => ({
  name,
  reference,
  about,
  forge: async (trial, random) => claimWithChance(trial, await trial.by(model), random),
})

/** False vectors in deep layers only, and mostly the right tokens: found where a challenge looks there. */
export const SUFFIX_ATTACKS: readonly Attack[] = [
  partly('suffix-half', 'suffix', 'A6', 'int8 in the second half of the blocks'),
  partly(
    'suffix-last',
    'lastBlock',
    'A6',
    'int8 in the last block, behind its K and V: only the virtual layer is false',
  ),
  partly('final-norm', 'norm', 'A6', 'another final norm: only the virtual layer is false'),
]
