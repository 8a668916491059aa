import { readFileSync, statSync } from 'node:fs'
import { freemem, totalmem } from 'node:os'
import type { Clock } from '#lib/clock.ts'
import { commandExists, run } from '#setup/command.ts'

const TOOL_SECONDS_MAX = 10

/** What checks may ask of the machine they run on; tests give another one. */
export type Host = {
  readonly uid: number
  readonly platform: string
  readonly arch: string
  readonly node: string
  readonly clock: Clock
  /** A clock that nobody sets, in milliseconds. */
  readonly steadyMs: () => number
  /** Bytes. */
  readonly memory: { readonly total: number; readonly free: number }
  /** The text of a file, undefined when it is not there; throws when it may not be read. */
  read(path: string): string | undefined
  exists(path: string): boolean
  has(command: string): boolean
  /** What a command prints; throws with its last words. */
  run(...argv: string[]): Promise<string>
}

export const isRoot = (host: Host): boolean => host.uid === 0

export const isDenied = (error: unknown): boolean =>
  ['EACCES', 'EPERM'].includes((error as NodeJS.ErrnoException | undefined)?.code ?? '')

function available(): number {
  const [, kib] = /^MemAvailable: +(\d+) kB/m.exec(readFileSync('/proc/meminfo', 'utf8')) ?? []
  return kib === undefined ? freemem() : Number(kib) * 1024
}

/** The machine that this process runs on. */
export const thisHost = (clock: Clock): Host => ({
  uid: process.getuid?.() ?? -1,
  platform: process.platform,
  arch: process.arch,
  node: process.version,
  clock,
  steadyMs: () => performance.now(),
  get memory() {
    return { total: totalmem(), free: available() }
  },
  read(path) {
    try {
      return readFileSync(path, 'utf8')
    } catch (error) {
      if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined
      throw error
    }
  },
  exists: (path) => statSync(path, { throwIfNoEntry: false }) !== undefined,
  has: commandExists,
  run: async (...argv) => await run(argv, TOOL_SECONDS_MAX),
})
