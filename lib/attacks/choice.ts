// Which attacks a run is about: names of the kit's, and attacks of its user.
import { wrongValue } from '../errors'
import type { Attack } from './attack'
import { ATTACK_NAMES, KIT } from './attack-lists'

export interface Choice {
  isChosen(named: { name: string }): boolean
  /** Attacks that are none of the kit's. */
  own: Attack[]
}

/**
 * @param attacks - Undefined: all of the kit's.
 * @throws {PocError} INVALID_ARGUMENT: an unknown name, no attack, or two of one name
 */
export function choiceOf(attacks: readonly (string | Attack)[] | undefined): Choice {
  if (attacks === undefined) return { isChosen: () => true, own: [] }
  if (!Array.isArray(attacks)) throw wrongValue('INVALID_ARGUMENT', 'options.attacks', 'an array', attacks)
  const names = new Set<string>()
  const own: Attack[] = []
  for (const [i, attack] of attacks.entries()) {
    const where = `options.attacks[${i}]`
    if (typeof attack === 'string' || KIT.includes(attack)) names.add(knownName(attack, where))
    else own.push(checkedAttack(attack, own, where))
  }
  return { isChosen: ({ name }) => names.has(name), own }
}

function knownName(attack: string | Attack, where: string): string {
  const name = typeof attack === 'string' ? attack : attack.name
  if (ATTACK_NAMES.includes(name)) return name
  throw wrongValue('INVALID_ARGUMENT', where, 'one of ATTACK_NAMES, or an attack', name)
}

function checkedAttack(attack: Attack, others: readonly Attack[], where: string): Attack {
  const { name, forge, fits } = (attack ?? {}) as Partial<Attack>
  if (typeof name !== 'string' || typeof forge !== 'function') {
    throw wrongValue('INVALID_ARGUMENT', where, 'an attack with a name and a function forge', attack)
  }
  if (fits !== undefined && typeof fits !== 'function') {
    throw wrongValue('INVALID_ARGUMENT', `${where}.fits`, 'a function', fits)
  }
  if (!ATTACK_NAMES.includes(name) && others.every((other) => other.name !== name)) return attack
  throw wrongValue('INVALID_ARGUMENT', `${where}.name`, 'a name that no other attack has', name)
}
