import { createServer } from 'node:net'
import { dirname } from 'node:path'
import { statSync } from 'node:fs'
import { CloudError } from '#lib/errors.ts'
import { run } from './command.ts'
import type { Listen } from './options.ts'
import { canRead, type User } from './users.ts'

const TOOL_SECONDS_MAX = 10

/** The program that listens on a port, for a message; undefined when it cannot be told. */
async function holderOf(port: number): Promise<string | undefined> {
  const said = await run(['ss', '-Hltnp', `sport = :${port}`], TOOL_SECONDS_MAX).catch(() => '')
  const [, name, pid] = /\("([^"]+)",pid=(\d+)/.exec(said) ?? []
  return name && `${name}, process ${pid}`
}

/** Refused `unavailable` when nothing can listen there, saying what to do. */
export async function checkPort(it: Listen): Promise<void> {
  const code = await new Promise<string | undefined>((resolve) => {
    const server = createServer()
    server.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
    server.listen({ host: it.host, port: it.port, exclusive: true }, () =>
      server.close(() => resolve(undefined)),
    )
  })
  if (code === undefined) return
  const place = `${it.host}:${it.port}`
  if (code === 'EADDRINUSE') {
    const holder = await holderOf(it.port)
    const by = holder ? ` by ${holder}` : ''
    throw new CloudError(
      'unavailable',
      `${place} is taken${by}; end that or choose another address with --listen HOST:PORT`,
    )
  }
  if (code === 'EADDRNOTAVAIL' || code === 'ENOTFOUND') {
    throw new CloudError(
      'unavailable',
      `this machine has no address ${it.host}; choose another with --listen HOST:PORT`,
    )
  }
  throw new CloudError(
    'unavailable',
    `nothing can listen on ${place} (${code}); choose another with --listen HOST:PORT`,
  )
}

/** Refused `unavailable` when a path to the data is a file, before anything is made. */
export function checkData(path: string): void {
  for (let at = path; ; at = dirname(at)) {
    const found = statSync(at, { throwIfNoEntry: false })
    if (found && !found.isDirectory()) {
      throw new CloudError('unavailable', `${at} is not a folder; choose another place with --data DIR`)
    }
    if (found || at === dirname(at)) return
  }
}

/** Refused `unavailable` when an account cannot get to its own folder because one above is closed to it. */
export async function checkReach(user: User, path: string): Promise<void> {
  if (await canRead(user, path)) return
  throw new CloudError(
    'unavailable',
    `the account ${user.name} cannot pass to ${path}; open the folders above it (chmod o+x) or choose another with --data DIR`,
  )
}
