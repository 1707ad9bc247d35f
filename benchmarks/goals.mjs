// Every row of the table: what it asks, where it is answered, what would be worth shipping and what would be strong.
// Rows without a floor are there to be known.
const higher = (id, file, asks, unit, floor, goal) => ({ id, file, asks, unit, floor, goal, lower: false })
const lower = (id, file, asks, unit, floor, goal) => ({ id, file, asks, unit, floor, goal, lower: true })

export const ROWS = [
  higher('matmul-f32', 'matmul', 'f32 product of 512 x 5632 x 2048, rate over OpenBLAS', 'x', 0.95, 1.08),
  higher('matmul-bf16-peak', 'matmul', 'the same with bf16 weights, share of the fp32 peak', 'of peak', 0.88, 0.95),
  higher('prefill-f32', 'prefill-f32', 'full prefill, f32, rate over node-llama-cpp', 'x', 2.4, 3.0),
  higher('prefill-bf16', 'prefill-bf16', 'full prefill, bf16, rate over node-llama-cpp', 'x', 1.25, 1.55),
  higher('threads', 'threads', 'full prefill of 512, two threads over one', 'x', 1.85, 1.97),
  higher('decode', 'decode', 'weights read by decoding over read bandwidth', 'of bandwidth', 0.8, 0.9),
  lower(
    'verify-share',
    'verification',
    'verify 512 tokens, default plan, over a full prefill',
    'of a prefill',
    0.95,
    0.85,
  ),
  lower(
    'verify-replayed',
    'verification',
    'the same of a committed answer to 256 tokens, its 256 replayed',
    'of a prefill',
    null,
    null,
  ),
  lower('early-exit', 'verification', 'reject other weights, samples from layer 1', '/L of a prefill', 2.2, 1.5),
  higher('shared-prefix', 'together', '16 proofs with one prefix, apart over together', 'x', 1.3, 1.6),
  lower('overhead', 'overhead', 'verify, time around the ops over the ops', '%', 5, 2),
  lower('commit', 'commit', 'leaf digests of all layers and positions, and their tree, over their pass', '%', 3, 1),
  lower('replay', 'commit', 'the seeded sampler at every position, over a full prefill', 'of a prefill', null, null),
  higher('packed', 'together', '16 proofs of 32 tokens, nothing shared, apart over together', 'x', null, null),
  lower('saved-tail', 'savings', 'samples alone in the deepest layer: time share over FLOPs share', 'x', null, null),
  lower('saved-cone', 'savings', 'positions that no sample depends on left out: the same', 'x', null, null),
  lower('saved-stop', 'savings', 'stopped at the first sampled layer: the same', 'x', null, null),
  lower('streamed', 'streaming', 'verify under a weight budget over all in memory', 'x', null, null),
  lower('streamed-memory', 'streaming', 'memory of that pass over the budget', 'x', null, null),
  higher('load', 'load', 'Model.load, files in the page cache', 'GB/s', null, null),
]
