// What a pass over a proof computes: the samples of its plan, and where its sampler is to choose again.
import { type Claim, planningOf } from './challenge'
import type { Samplers } from './custom-sampler'
import type { Plan } from './plan'
import { canReplay, drawingReplay, type ReplayDemands } from './replay'
import type { ToleranceProfile } from './tolerance'
import type { Turns } from './turns'

/** What is compared and what is computed. */
export interface PassPlan {
  /** The proof's samples. */
  plan: Plan
  /** The same, and the virtual layer where tokens are replayed. */
  whole: Plan
  /** After which positions the sampler is to choose again; null for none. */
  replayed: Uint32Array | null
}

/** Plans the pass over a proof, of which only what everybody may see is needed. */
export function* planPass(
  proof: Claim & { beacon: string },
  demands: Samplers & ReplayDemands & { profile?: ToleranceProfile },
): Turns<PassPlan> {
  const { plan, seed } = yield* planningOf(proof, demands)
  const isReplayed = demands.probabilityTest || canReplay(proof.header, demands.profile)
  const replayed = isReplayed ? yield* drawingReplay(proof, seed, demands) : null
  const whole = replayed ? withVirtual(plan, proof.header.numLayers, replayed) : plan
  return { plan, whole, replayed }
}

/** A plan, and positions of the virtual layer beside its own. */
function withVirtual(plan: Plan, numLayers: number, positions: Uint32Array): Plan {
  const own = plan.layers.get(numLayers) ?? new Uint32Array(0)
  const all = new Uint32Array(own.length + positions.length)
  all.set(own)
  all.set(positions, own.length)
  const virtual = all.sort().filter((position, i) => i === 0 || position !== all[i - 1])
  const added = virtual.length - own.length
  const layers = new Map([...plan.layers, [numLayers, virtual] as const])
  return { ...plan, layers, deepestLayer: numLayers, numSamples: plan.numSamples + added }
}
