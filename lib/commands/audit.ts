// poc audit: an evidence bundle checked again, offline; with a model, verified again.

import type { Command } from 'commander'
import { type Audit, auditEvidence, type EvidenceDemands, parseEvidence } from '../evidence'
import { EXIT_DONE, EXIT_INCONCLUSIVE, EXIT_INVALID } from './exit'
import { MAX_EVIDENCE_BYTES } from '../limits'
import { addJsonFlag, addModelFlags, hex, type ModelFlags } from './flags'
import { checkBuiltIn, readJsonFile } from './input'
import { print, type Session, withProgress } from './session'
import { listing } from './table'
import { withModel } from './with-model'

interface Flags extends Partial<ModelFlags> {
  profileKey: string[]
}

export function addAudit(program: Command, session: Session): void {
  const command = program
    .command('audit')
    .description(
      'check an evidence bundle again, with --model by verifying again (exit code 0 or 1; 2 for a verdict that holds ' +
        "but rests on somebody's word)",
    )
    .argument('<file>', 'what poc verify --evidence wrote')
    .option(
      '--profile-key <hex>',
      'a public key whose tolerance profiles you trust; may be given several times',
      (key: string, keys: string[]) => [...keys, hex(key)],
      [],
    )
  addJsonFlag(addModelFlags(command, { isOptional: true })).action((file: string, flags: Flags) =>
    runAudit(session, file, flags),
  )
}

async function runAudit(session: Session, file: string, flags: Flags): Promise<void> {
  const json = await readJsonFile(file, 'EVIDENCE_MALFORMED', MAX_EVIDENCE_BYTES)
  const { decoded, verdict, demands } = parseEvidence(json)
  checkBuiltIn(file, decoded.header)
  const { signal } = session
  const profileKeys = flags.profileKey
  let audit = await auditEvidence(json, undefined, { profileKeys })
  const { model } = flags
  if (model !== undefined) {
    await withModel(session, { ...flags, model }, async (loaded) => {
      audit = await withProgress(session, 'verifying', (onProgress) =>
        auditEvidence(json, loaded, { profileKeys, signal, onProgress }),
      )
    })
  }
  const { valid, unverifiable } = audit
  session.exitCode = !valid ? EXIT_INVALID : unverifiable.length > 0 ? EXIT_INCONCLUSIVE : EXIT_DONE
  const but = unverifiable.map(wordsFor).join('')
  const how = (model === undefined ? 'checked without a model' : 'verified again') + but
  const headline = audit.valid
    ? `valid: the verdict '${verdict.status}' holds, ${how}`
    : `not valid: ${audit.problems.length} problems with the verdict '${verdict.status}', ${how}`
  const problems = audit.problems.map(({ code, message }) => [code, message] as const)
  const lines = [headline, ...(problems.length > 0 ? [listing(problems)] : []), ...wordsForDemands(demands)]
  print(session, audit, lines.join('\n'))
}

/** A verdict is worth what was asked for, which whoever wrote the bundle chose. */
function wordsForDemands({ request, ...others }: EvidenceDemands): string[] {
  const { prompt, ...fields } = request ?? {}
  const all = { ...others, ...fields, ...(prompt && { prompt: `${prompt.length} tokens` }) }
  const asked = Object.entries(all).map(([name, value]) => [name, shown(value)] as const)
  return asked.length > 0 ? ['asked for', listing(asked)] : ['asked for: nothing']
}

function shown(value: unknown): string {
  const text = typeof value === 'string' && /^[\x20-\x7e]+$/.test(value) ? value : JSON.stringify(value)
  return text.length > 70 ? `${text.slice(0, 67)}...` : text
}

function wordsFor(code: Audit['unverifiable'][number]): string {
  if (code !== 'profile_untrusted') return `, but its verifier's word alone is '${code}'`
  return `, but under a tolerance profile that no --profile-key has signed (${code})`
}
