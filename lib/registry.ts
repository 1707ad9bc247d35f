// Freshness: which proofs were seen before, and whether the turns of a conversation follow one another.
import { bindingDigest, type ProofHeader } from './binding'
import { wrongValue } from './errors'
import { fieldsOf } from './header'
import { hexFrom, hexOf } from './hex'
import { integerIn, MAX_TOKENS } from './limits'

/** What a verifier asks and tells about proofs that it has accepted: it answers at once, as no promise does. */
export interface SeenBindings {
  has(id: string): boolean
  add(id: string): void
}

/** {@link SeenBindings} in memory; its JSON is the list of its ids, oldest first. */
export interface BindingRegistry extends SeenBindings {
  readonly size: number
  toJSON(): string[]
}

/** The parts of a claim or a proof that a conversation's chain is made of. */
export interface ChainTurn {
  header: { promptLength: number; previousRoot: string }
  /** Prompt, which holds the turns before, then generated tokens. */
  tokens: ArrayLike<number>
  /** Hex, 32 bytes. */
  root: string
}

/** Stable codes of what is wrong with a chain of turns. */
export type ChainProblemCode =
  | 'root_missing' // a turn without a commitment, which the next one cannot name
  | 'previous_root' // not the root of the turn before, or one at the first turn
  | 'root_repeated' // the root of an earlier turn once more
  | 'tokens' // does not begin with the tokens of the turn before
  | 'prompt_length' // what an earlier turn generated is said to be generated again

export interface ChainProblem {
  code: ChainProblemCode
  /** Index of the turn. */
  turn: number
  message: string
}

export interface ChainOptions {
  /** The root of the turn before the first one here, hex; `''` (the default) where the conversation starts. */
  previousRoot?: string
  /** Whether tokens only ever grow; false where a template writes earlier turns anew. Default true. */
  continued?: boolean
}

/**
 * Whether a proof was accepted before.
 *
 * @throws {PocError} INVALID_ARGUMENT where the answer is none: a promise would say so of every proof.
 */
export function wasSeen(seen: SeenBindings | undefined, id: string): boolean {
  const answer: unknown = seen?.has(id) ?? false
  if (typeof answer === 'boolean') return answer
  throw wrongValue('INVALID_ARGUMENT', 'options.seen.has()', 'true or false, at once', answer)
}

const DEFAULT_MAX_ENTRIES = 2 ** 20
const MAX_ENTRIES = 2 ** 24

/**
 * What a request and the answer to it are known by: the binding. Where the request had no nonce, the root beside it if
 * there is one, since equal requests may be made twice; with a nonce a second answer is a replay, whatever its root.
 *
 * The binding holds no tokens, so without nonce and root one header stands for one answer: requests then need nonces or
 * seeds that differ.
 * @returns 64 or 128 hex digits.
 * @throws {PocError} INVALID_ARGUMENT
 */
export function bindingId(header: ProofHeader, root = ''): string {
  const checked = root === '' ? '' : hexOf(root, 32, 32, 'root', 'INVALID_ARGUMENT')
  return hexFrom(bindingDigest(header)) + (header.nonce === '' ? checked : '')
}

/**
 * A registry in memory. When it is full the oldest entry goes: what must never be replayed needs a nonce, or a registry
 * that does not forget.
 *
 * @param entries - Ids, oldest first, such as an earlier registry's JSON.
 * @throws {PocError} INVALID_ARGUMENT: an id of a wrong form, here or in `add`
 */
export function createBindingRegistry(
  entries: Iterable<string> = [],
  maxEntries: number = DEFAULT_MAX_ENTRIES,
): BindingRegistry {
  integerIn(maxEntries, 1, MAX_ENTRIES, 'maxEntries', 'INVALID_ARGUMENT')
  if (typeof entries !== 'object' || entries === null || !(Symbol.iterator in entries)) {
    throw wrongValue('INVALID_ARGUMENT', 'entries', 'an array of ids', entries)
  }
  const ids = new Set<string>() // in the order of insertion
  const add = (id: string) => {
    checkId(id)
    ids.add(id) // one that is there already stays where it is
    for (const oldest of ids) {
      if (ids.size <= maxEntries) break
      ids.delete(oldest)
    }
  }
  for (const id of entries) add(id)
  return {
    has: (id) => ids.has(id),
    add,
    get size() {
      return ids.size
    },
    toJSON: () => [...ids],
  }
}

/**
 * Checks that turns follow one another: each names the root of the one before and goes on where it ended.
 *
 * @param turns - In their order; claims and committed proofs both are turns.
 * @returns All that is wrong, in order; empty for a chain.
 * @throws {PocError} INVALID_ARGUMENT
 */
export function checkChain(turns: readonly ChainTurn[], options: ChainOptions = {}): ChainProblem[] {
  const { previousRoot = '', continued = true } = options
  if (!Array.isArray(turns)) throw wrongValue('INVALID_ARGUMENT', 'turns', 'an array', turns)
  const problems: ChainProblem[] = []
  const roots = new Set<string>(previousRoot === '' ? [] : [previousRoot])
  for (const [turn, { header, tokens, root }] of turns.map(checkTurn).entries()) {
    const report = (code: ChainProblemCode, message: string) => problems.push({ code, turn, message })
    const before: ChainTurn | undefined = turns[turn - 1]
    const expected = before ? before.root : previousRoot
    if (root === '') report('root_missing', 'it has no root')
    else if (roots.has(root)) report('root_repeated', `its root ${root} is that of an earlier turn`)
    roots.add(root)
    if (header.previousRoot !== expected) {
      report('previous_root', `it names '${header.previousRoot}' as the root before it, not '${expected}'`)
    }
    if (!before || !continued) continue
    const length = before.tokens.length
    const differs = firstDifference(before.tokens, tokens)
    if (differs < length) report('tokens', `it departs from the turn before at token ${differs} of ${length}`)
    if (header.promptLength < length) {
      report('prompt_length', `a prompt of ${header.promptLength} ends within the ${length} tokens before`)
    }
  }
  return problems
}

function checkTurn(turn: ChainTurn, index: number): ChainTurn {
  const where = `turns[${index}]`
  const { header, tokens, root } = fieldsOf(turn, where, 'INVALID_ARGUMENT')
  const { promptLength, previousRoot } = fieldsOf(header, `${where}.header`, 'INVALID_ARGUMENT')
  if (!Array.isArray(tokens) && !(tokens instanceof Uint32Array)) {
    throw wrongValue('INVALID_ARGUMENT', `${where}.tokens`, 'an array of token ids', tokens)
  }
  return {
    header: {
      promptLength: integerIn(promptLength, 1, MAX_TOKENS, `${where}.header.promptLength`, 'INVALID_ARGUMENT'),
      previousRoot: hexOf(previousRoot, 0, 32, `${where}.header.previousRoot`, 'INVALID_ARGUMENT'),
    },
    tokens,
    root: hexOf(root, 0, 32, `${where}.root`, 'INVALID_ARGUMENT'),
  }
}

function firstDifference(before: ArrayLike<number>, tokens: ArrayLike<number>): number {
  let i = 0
  while (i < before.length && i < tokens.length && before[i] === tokens[i]) i++
  return i
}

function checkId(id: unknown): void {
  if (typeof id === 'string' && /^[0-9a-f]{64}(?:[0-9a-f]{64})?$/.test(id)) return
  throw wrongValue('INVALID_ARGUMENT', 'id', '64 or 128 lowercase hex digits', id)
}
