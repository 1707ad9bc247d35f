// The kit on models of other shapes: biases, norms of heads, shards, an untied head, a single layer, a short context.
import { ATTACKS, runAttacks, VERDICT_ATTACKS } from '../../lib/attacks'
import { Model } from '../../lib/model'
import { makeModel, type MakeOptions } from '../models/make'

test.each<[string, MakeOptions]>([
  ['qwen3, f16, shards', { architecture: 'qwen3', dtype: 'F16', shards: 2 }],
  ['qwen2, f32, a tied head', { architecture: 'qwen2', dtype: 'F32', config: { tie_word_embeddings: true } }],
  ['mistral, a short context', { architecture: 'mistral', dtype: 'BF16', config: { max_position_embeddings: 24 } }],
  ['llama, one layer', { architecture: 'llama', config: { num_hidden_layers: 1 } }],
])(
  '%s',
  async (_, options) => {
    const { dir } = makeModel(options)
    const model = await Model.load(dir)
    try {
      const attacks = [...ATTACKS, ...VERDICT_ATTACKS].map(({ name }) => name)
      const report = await runAttacks(model, { trials: 1, honest: 10, seed: 'shapes', attacks })
      const missed = [...report.attacks, ...report.verdicts].filter(({ caught, trials }) => caught < trials)
      expect(missed).toEqual([])
      expect(report.honest).toMatchObject({ accepted: 10, rejected: 0 })
    } finally {
      await model.close()
    }
  },
  120000,
)
