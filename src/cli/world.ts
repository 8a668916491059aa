import type { ReadStream, WriteStream } from 'node:tty'
import type { Clock } from '#lib/clock.ts'

/** What the CLI gets of the process that it runs in. */
export type World = {
  readonly env: Readonly<Record<string, string | undefined>>
  /** The user's home directory. */
  readonly home: string
  /** The file in which `./arcus up` keeps the first administrator's credentials. */
  readonly adminFile: string
  readonly stdin: ReadStream
  readonly stdout: WriteStream
  readonly stderr: WriteStream
  readonly clock: Clock
  /** Aborts at the first interrupt. */
  readonly signal: AbortSignal
}
