#!/usr/bin/env node
// The command line: arguments to one of commands/, errors to exit codes.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Command, CommanderError } from 'commander'
import { addAudit } from './commands/audit'
import { addAttack } from './commands/attack'
import { addCalibrate } from './commands/calibrate'
import { addCheck } from './commands/check'
import { addDemo } from './commands/demo'
import { EXIT_DONE, EXIT_INCONCLUSIVE, EXIT_INTERNAL, EXIT_OF_ERROR, EXIT_USAGE } from './commands/exit'
import { addGenerate } from './commands/generate'
import { addInfo } from './commands/info'
import { addInspect } from './commands/inspect'
import { addChallenge, addOpen } from './commands/open'
import { addProve } from './commands/prove'
import { createSession, type Io, type Session } from './commands/session'
import { addSettle } from './commands/settle'
import { addVerify } from './commands/verify'
import { PocError } from './errors'

/**
 * Runs `poc` once, in this process.
 *
 * @param argv - The arguments after the program's name.
 * @returns The exit code; it never rejects.
 */
export async function main(argv: readonly string[], io: Io): Promise<number> {
  const session = createSession(argv, io)
  try {
    await createProgram(session).parseAsync(argv, { from: 'user' })
    return session.exitCode
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return EXIT_DONE // --help, --version
    return reportError(session, error)
  }
}

function createProgram(session: Session): Command {
  const { version } = JSON.parse(readFileSync(join(__dirname, '..', 'package.json'), 'utf8'))
  const program = new Command('poc')
    .description('Check that the language model you paid for produced the output you got.')
    .version(version)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => session.stdout.write(text),
      writeErr: (text) => session.json || session.stderr.write(text),
    })
    .showHelpAfterError('(--help shows what it takes)')
  addGenerate(program, session)
  addProve(program, session)
  addChallenge(program, session)
  addOpen(program, session)
  addVerify(program, session)
  addInspect(program, session)
  addCheck(program, session)
  addAudit(program, session)
  addCalibrate(program, session)
  addSettle(program, session)
  addInfo(program, session, version)
  addAttack(program, session)
  addDemo(program, session)
  return program
}

function reportError(session: Session, thrown: unknown): number {
  if (thrown instanceof CommanderError) {
    const message = thrown.message.replace(/^error: /, '')
    const isHelp = thrown.code === 'commander.help' // no command given: commander has printed the help
    const error = { code: 'INVALID_ARGUMENT', message: isHelp ? 'no command given' : message }
    if (session.json) session.stdout.write(`${JSON.stringify({ error })}\n`)
    return EXIT_USAGE
  }
  const error = typed(session, thrown)
  const { code, message, where, expected, received } = error
  if (session.json) {
    session.stdout.write(`${JSON.stringify({ error: { code, message, where, expected, received } })}\n`)
  } else {
    session.stderr.write(`error: ${message} (${code})\n`)
    if (code === 'INTERNAL') session.stderr.write(`${(error.cause as Error)?.stack ?? error.stack}\n`)
  }
  // A command that is interrupted before it has an answer may have set the code for that.
  return code === 'ABORTED' && session.exitCode === EXIT_INCONCLUSIVE ? EXIT_INCONCLUSIVE : EXIT_OF_ERROR[code]
}

function typed(session: Session, thrown: unknown): PocError {
  if (session.signal.aborted && thrown === session.signal.reason) {
    return new PocError('ABORTED', 'interrupted', { cause: thrown })
  }
  if (thrown instanceof PocError) return thrown
  return new PocError('INTERNAL', `unexpected: ${thrown instanceof Error ? thrown.message : thrown}`, { cause: thrown })
}

// The first signal asks the command to stop and clean up, the second does not wait for it.
function abortOnSignals(): AbortSignal {
  const controller = new AbortController()
  for (const [signal, exitCode] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    process.on(signal, () => {
      if (controller.signal.aborted) process.exit(exitCode)
      controller.abort(new PocError('ABORTED', 'interrupted'))
    })
  }
  return controller.signal
}

function runAsProgram(): void {
  // Node's own exit code for a crash is 1, which here would say that a proof was rejected.
  process.on('uncaughtException', (error) => {
    process.exitCode = EXIT_INTERNAL
    process.stderr.write(`${error.stack}\n`, () => process.exit(EXIT_INTERNAL))
  })
  for (const stream of [process.stdout, process.stderr]) {
    // A reader that has seen enough, as in `poc inspect FILE | head`, is no error and changes no exit code.
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error
    })
  }
  const { stdout, stderr } = process
  void main(process.argv.slice(2), { stdout, stderr, signal: abortOnSignals() }).then((exitCode) => {
    process.exitCode = exitCode
  })
}

if (require.main === module) runAsProgram()
