/** Fields of a log line; constant message, everything that varies in fields, never a secret. */
export type LogFields = Readonly<Record<string, unknown>>

export type Log = {
  debug(message: string, fields?: LogFields): void
  info(message: string, fields?: LogFields): void
  warn(message: string, fields?: LogFields): void
  error(message: string, fields?: LogFields): void
  /** The same log with fields added to every line. */
  with(fields: LogFields): Log
}

const LEVELS = ['debug', 'info', 'warn', 'error'] as const
export type LogLevel = (typeof LEVELS)[number]

const plain = (value: unknown): unknown =>
  value instanceof Error ? { message: value.message, stack: value.stack, cause: plain(value.cause) } : value

/** JSON lines to `write` (standard error by default), with time, level, message and fields. */
export function jsonLog(
  level: LogLevel = 'info',
  write: (line: string) => void = (line) => process.stderr.write(line),
  fields: LogFields = {},
): Log {
  const emit = (at: LogLevel, message: string, more: LogFields = {}): void => {
    if (LEVELS.indexOf(at) < LEVELS.indexOf(level)) return
    const line: Record<string, unknown> = { time: new Date().toISOString(), level: at, message }
    for (const [key, value] of Object.entries({ ...fields, ...more })) line[key] = plain(value)
    write(`${JSON.stringify(line)}\n`)
  }
  return {
    debug: (message, more) => emit('debug', message, more),
    info: (message, more) => emit('info', message, more),
    warn: (message, more) => emit('warn', message, more),
    error: (message, more) => emit('error', message, more),
    with: (more) => jsonLog(level, write, { ...fields, ...more }),
  }
}

/** A log that says nothing, for tests. */
export const silentLog: Log = jsonLog('error', () => {})
