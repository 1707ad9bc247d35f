// poc info: what this installation can do, and why not more.

import type { Command } from 'commander'
import { type Info, info } from '../addon'
import type { CudaDevice } from '../native'
import { PocError } from '../errors'
import { EXIT_OF_ERROR } from './exit'
import { addJsonFlag } from './flags'
import { print, type Session } from './session'
import { listing } from './table'

export function addInfo(program: Command, session: Session, version: string): void {
  const command = program.command('info').description('show version, CPU features and backends')
  addJsonFlag(command).action(() => {
    const host = { version, node: process.version, platform: `${process.platform}-${process.arch}` }
    try {
      const native = info()
      print(session, { ...native, ...host }, describe(host, native))
    } catch (error) {
      // Saying why the addon is absent is this command's job, so it prints what it knows before it fails.
      if (!(error instanceof PocError)) throw error
      session.exitCode = EXIT_OF_ERROR[error.code]
      const backends: Info['backends'] = [{ name: 'cpu', available: false, reason: reasonOf(error) }]
      print(session, { ...host, napi: null, cpu: null, backends }, describe(host, { backends }))
    }
  })
}

function describe(
  host: { version: string; node: string; platform: string },
  { napi, cpu, backends }: Partial<Info> & Pick<Info, 'backends'>,
): string {
  const entries: [string, string][] = [
    ['proof-of-cache', host.version],
    ['node', `${host.node}, ${host.platform}${napi ? `, Node-API ${napi}` : ''}`],
  ]
  if (cpu) {
    entries.push(
      ['CPU features', cpu.features.join(' ')],
      ['kernels', `${cpu.simd.join(', ')}; in use: ${cpu.best}`],
      ['threads', String(cpu.threads)],
    )
  }
  for (const { name, available, reason, devices = [] } of backends) {
    entries.push([`backend ${name}`, `${available ? 'available' : 'absent'}: ${reason}`])
    devices.forEach((device, i) => {
      entries.push([`device ${i}`, describeDevice(device)])
    })
  }
  return listing(entries)
}

function describeDevice({ name, computeCapability, multiprocessors, memoryBytes }: CudaDevice): string {
  const memory = `${(memoryBytes / 2 ** 30).toFixed(1)} GiB`
  return `${name}, compute capability ${computeCapability}, ${multiprocessors} multiprocessors, ${memory}`
}

function reasonOf(error: PocError): string {
  const { cause } = error
  return cause instanceof Error ? `${error.message} (${cause.message.split('\n')[0]})` : error.message
}
