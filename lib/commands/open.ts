// poc challenge and poc open: what a beacon asks of a claim, and the proof that answers it.

import type { Command } from 'commander'
import { drawChallenge } from '../challenge'
import { openClaim } from '../commitment'
import { addJsonFlag, addModelFlags, hex, type ModelFlags } from './flags'
import { readClaim } from './input'
import { checkWritable } from './output'
import { print, type Session, withProgress } from './session'
import { grouped, listing, short, table } from './table'
import { withModel } from './with-model'
import { describeWritten, writeProof } from './write-proof'

export function addChallenge(program: Command, session: Session): void {
  const command = program
    .command('challenge')
    .description('show which samples a beacon draws from a claim; needs no model')
    .argument('<claim>', 'what poc generate --commit wrote')
    .requiredOption('--beacon <hex>', 'a value that nobody knew when the claim was published', hex)
  addJsonFlag(command).action(async (file: string, { beacon }: { beacon: string }) => {
    const claim = await readClaim(file)
    const { plan, root } = drawChallenge(claim, beacon)
    const layers = [...plan.layers].map(([layer, positions]) => ({ layer, positions: [...positions] }))
    const { deepestLayer, numSamples, numPositions } = plan
    const json = { root, beacon, numSamples, numPositions, deepestLayer, layers }
    const rows = layers.map(({ layer, positions }) => [String(layer), String(positions.length)])
    const entries: [string, string][] = [
      ['root', short(root)],
      ['samples', `${grouped(numSamples)} over ${grouped(numPositions)} positions`],
    ]
    print(session, json, `${listing(entries)}\n\n${table([['layer', 'samples'], ...rows], [0, 1])}`)
  })
}

interface Flags extends ModelFlags {
  beacon: string
  out: string
}

export function addOpen(program: Command, session: Session): void {
  const command = program
    .command('open')
    .description('make the proof that a beacon asks for from a claim')
    .argument('<claim>', 'what poc generate --commit wrote')
  addJsonFlag(addModelFlags(command))
    .requiredOption('--beacon <hex>', 'a value that nobody knew when the claim was published', hex)
    .requiredOption('--out <file>', 'where the proof goes')
    .action((file: string, flags: Flags) => runOpen(session, file, flags))
}

async function runOpen(session: Session, file: string, flags: Flags): Promise<void> {
  await checkWritable(flags.out)
  const claim = await readClaim(file)
  const { signal } = session
  await withModel(session, flags, async (model) => {
    const opened = await withProgress(session, 'opening', (onProgress) =>
      openClaim(model, claim, flags.beacon, { signal, onProgress }),
    )
    const proof = await writeProof(flags.out, opened)
    print(session, { proof }, listing(describeWritten(proof)))
  })
}
