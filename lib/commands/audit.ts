// poc audit: an evidence bundle checked again, offline; with a model, verified again.

import type { Command } from 'commander'
import { auditEvidence, type EvidenceDemands, parseEvidence } from '../evidence'
import { EXIT_DONE, EXIT_INCONCLUSIVE, EXIT_INVALID } from './exit'
import { addJsonFlag, addModelFlags, type ModelFlags } from './flags'
import { checkBuiltIn, readJsonFile } from './input'
import { print, type Session, withProgress } from './session'
import { listing } from './table'
import { withModel } from './with-model'

export function addAudit(program: Command, session: Session): void {
  const command = program
    .command('audit')
    .description(
      'check an evidence bundle again, with --model by verifying again (exit code 0 or 1; 2 for a verdict that holds ' +
        "but rests on its verifier's word)",
    )
    .argument('<file>', 'what poc verify --evidence wrote')
  addJsonFlag(addModelFlags(command, { isOptional: true })).action((file: string, flags: Partial<ModelFlags>) =>
    runAudit(session, file, flags),
  )
}

async function runAudit(session: Session, file: string, flags: Partial<ModelFlags>): Promise<void> {
  const json = await readJsonFile(file, 'EVIDENCE_MALFORMED')
  const { decoded, verdict, demands } = parseEvidence(json)
  checkBuiltIn(file, decoded.header)
  const { signal } = session
  let audit = await auditEvidence(json)
  const { model } = flags
  if (model !== undefined) {
    await withModel(session, { ...flags, model }, async (loaded) => {
      audit = await withProgress(session, 'verifying', (onProgress) =>
        auditEvidence(json, loaded, { signal, onProgress }),
      )
    })
  }
  const { valid, unverifiable } = audit
  session.exitCode = !valid ? EXIT_INVALID : unverifiable.length > 0 ? EXIT_INCONCLUSIVE : EXIT_DONE
  const but = unverifiable.map((code) => `, but its verifier's word alone is '${code}'`).join('')
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
