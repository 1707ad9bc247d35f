// What one run of the command line shares: where it writes, what stops it, and how it ends.

import { SingleBar } from 'cli-progress'
import { EXIT_DONE } from './exit'

/** A stream, as far as the command line needs one. */
export interface Writer {
  write(text: string): unknown
  isTTY?: boolean
}

/** What a caller of `main` provides. */
export interface Io {
  stdout: Writer
  stderr: Writer
  signal?: AbortSignal
}

export interface Session {
  readonly stdout: Writer
  readonly stderr: Writer
  readonly signal: AbortSignal
  /** One JSON value on stdout instead of text, for results and for errors. */
  readonly json: boolean
  exitCode: number
}

export function createSession(argv: readonly string[], io: Io): Session {
  const { stdout, stderr, signal = new AbortController().signal } = io
  // Looked up before the arguments are parsed, so that usage errors come out as JSON too.
  return { stdout, stderr, signal, json: argv.includes('--json'), exitCode: EXIT_DONE }
}

/** Prints a result: one line of JSON, or text for people. */
export function print(session: Session, json: unknown, text: string): void {
  session.stdout.write(`${session.json ? JSON.stringify(json) : text}\n`)
}

/** Runs something that reports its progress, with a bar on a terminal and nothing elsewhere. */
export async function withProgress<T>(
  session: Session,
  label: string,
  run: (onProgress: (fraction: number) => void) => Promise<T>,
): Promise<T> {
  if (!session.stderr.isTTY || session.json) return await run(() => {})
  const bar = new SingleBar({
    format: `${label.padEnd(10)} {bar} {percentage} %`,
    barsize: 30,
    hideCursor: true,
    clearOnComplete: true,
    gracefulExit: false, // SIGINT is ours: it aborts, and the bar is taken down below
    stream: session.stderr as NodeJS.WriteStream,
  })
  bar.start(1, 0)
  try {
    return await run((fraction) => bar.update(fraction))
  } finally {
    bar.stop()
  }
}
