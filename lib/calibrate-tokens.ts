// The tokens' part of a calibration: greedy choices of other engines and of cheats, by this engine's logits.

import type { RowSource } from './calibrate'
import { rejection } from './fit-limits'
import type { KvDtype } from './kv'
import type { Model } from './model'
import { meanTokenGap } from './token-gap'
import type { TokenGapEvidence } from './tolerance'

/** Tokens of a prompt: enough that prompts differ. */
const PROMPT_TOKENS = 16
/** A limit is not below this: few sequences may have no near ties, which proves nothing. */
const LEAST_GAP = 1e-6

/** Gaps of each source, for the sources that choose tokens. */
export class TokenGaps {
  private readonly fitted: number[] = []
  private readonly heldOut: number[] = []
  private readonly cheats = new Map<string, number[]>()

  constructor(
    private readonly model: Model,
    private readonly kvDtype: KvDtype,
    private readonly signal?: AbortSignal,
  ) {}

  /** Continues the beginning of a text to its length by every source. */
  async measure(
    text: Uint32Array,
    half: 'fit' | 'heldOut',
    honest: readonly RowSource[],
    cheats: readonly RowSource[],
  ) {
    if (text.length <= PROMPT_TOKENS) return
    const gaps: number[] = []
    for (const source of honest) {
      const gap = await this.gapOf(source, text)
      if (gap !== null) gaps.push(gap)
    }
    if (gaps.length === 0) return
    const worst = Math.max(...gaps)
    if (half === 'fit') {
      this.fitted.push(worst)
      return
    }
    this.heldOut.push(worst)
    for (const source of cheats) {
      const gap = await this.gapOf(source, text)
      if (gap !== null) this.cheats.set(source.name, [...(this.cheats.get(source.name) ?? []), gap])
    }
  }

  private async gapOf(source: RowSource, text: Uint32Array): Promise<number | null> {
    if (!source.greedy) return null
    const tokens = await source.greedy(text.subarray(0, PROMPT_TOKENS), text.length - PROMPT_TOKENS)
    if (tokens.length <= PROMPT_TOKENS) return null
    return await meanTokenGap(this.model, tokens, PROMPT_TOKENS, this.kvDtype, this.signal)
  }

  /** The limit, and what it rests on; null where no source chooses tokens. */
  conclude(headroom: number): TokenGapEvidence | null {
    if (this.fitted.length === 0 || this.heldOut.length === 0) return null
    const maxMeanGap = Math.max(LEAST_GAP, ...this.fitted) * headroom
    const { over, maxShare } = rejection(this.heldOut.map((gap) => gap / maxMeanGap))
    return {
      maxMeanGap,
      fittedSequences: this.fitted.length,
      heldOutSequences: this.heldOut.length,
      rejectedSequences: over,
      maxFalseRejection: maxShare,
      greatestHonestGap: Math.max(...this.heldOut),
      cheats: [...this.cheats].map(([name, gaps]) => {
        const found = rejection(gaps.map((gap) => gap / maxMeanGap))
        const sorted = gaps.sort((a, b) => a - b)
        const [leastGap, medianGap] = [sorted[0], sorted[sorted.length >> 1]]
        return {
          name,
          sequences: gaps.length,
          detectedSequences: found.over,
          minDetection: found.minShare,
          leastGap,
          medianGap,
        }
      }),
    }
  }
}
