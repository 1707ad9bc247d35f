// poc calibrate without another engine: what this one's own honest variations do to K and V. It makes no profile.

import { type Calibration, calibrate, type RowSource } from '../calibrate'
import { KV_DTYPE_BYTES, type KvDtype } from '../kv'
import type { Model } from '../model'
import { modelRows } from '../row-sources'
import type { CalibrateFlags } from './calibrate'
import { countExact, textsOf, withLines } from './calibrate-texts'
import { cheatSources } from './cheat-sources'
import { describeOwn } from './describe-calibration'
import { print, type Session } from './session'

/** A generator's cache, and that of the verifier that recomputes it. */
export interface OwnVariation extends Omit<Calibration, 'profile'> {
  generatorKvDtype: KvDtype
  verifierKvDtype: KvDtype
  /** Least and greatest of all layers, K and V; null where too few proofs have samples. */
  typicalError: { least: number; greatest: number } | null
}

/** Chunk sizes of one dtype: `equal` of `tried` texts had the same bits. */
export interface ExactChunks {
  kvDtype: KvDtype
  equal: number
  tried: number
}

/** Measures --kv-dtype against each other dtype of the cache, in both directions, and says why nothing else was. */
export async function calibrateOwn(
  session: Session,
  flags: CalibrateFlags,
  model: Model,
  leftOut: string,
): Promise<void> {
  session.stderr.write(`left out: ${leftOut}\n`)
  const { kvDtype, form, projections } = flags
  const { signal } = session
  const cheats = await cheatSources(model, { ...flags, signal })
  try {
    const texts = await textsOf(model, flags, session)
    const dtypes = Object.keys(KV_DTYPE_BYTES) as KvDtype[]
    const exact: ExactChunks[] = []
    for (const dtype of dtypes) exact.push({ kvDtype: dtype, ...(await countExact(model, texts, dtype, session)) })
    const pairs = dtypes
      .filter((dtype) => dtype !== kvDtype)
      .flatMap((dtype): [KvDtype, KvDtype][] => [
        [dtype, kvDtype],
        [kvDtype, dtype],
      ])
    const variations: OwnVariation[] = []
    for (const [kept, recomputed] of pairs) {
      const honest = [withoutTokens(modelRows(`this engine, K and V kept in ${kept}`, model, kept, signal))]
      const compared = { honest, cheats: cheats.sourcesFor(kept, recomputed).map(withoutTokens), kvDtype: recomputed }
      const options = { generator: model.numerics, form, projections, ...compared, signal }
      const found = await withLines(session, `comparing ${kept} with ${recomputed}`, (onProgress) =>
        calibrate(model, texts, { ...options, onProgress }),
      )
      variations.push(variationOf(found, kept, recomputed))
    }
    const told = { leftOut: [leftOut], exact, variations, left: cheats.left }
    const json = { modelDigest: model.digest, form, kvDtype, ...told, profile: null }
    print(session, json, describeOwn(told))
  } finally {
    await cheats.close()
  }
}

/** Tokens are chosen by logits, which are f32 in all of these. */
function withoutTokens({ name, rows }: RowSource): RowSource {
  return { name, rows }
}

function variationOf({ profile, ...evidence }: Calibration, kept: KvDtype, recomputed: KvDtype): OwnVariation {
  const errors = (profile?.layers ?? []).flatMap(({ k, v }) => [k, v].flatMap((part) => part?.typicalError ?? []))
  const typicalError = errors.length > 0 ? { least: Math.min(...errors), greatest: Math.max(...errors) } : null
  return { generatorKvDtype: kept, verifierKvDtype: recomputed, typicalError, ...evidence }
}
