import { readFileSync } from 'node:fs'
import { run, succeeds } from './command.ts'

const TOOL_SECONDS_MAX = 20

/** An account that a process runs as. */
export type User = { readonly name: string; readonly uid: number; readonly gid: number }

export const CLOUD_USER = 'arcus'
export const EDGE_USER = 'arcus-edge'

/** Numbers for `serve`, which makes no accounts: from the range that systemd, too, gives to services for a while. */
const BORROWED: Readonly<Record<string, number>> = { [CLOUD_USER]: 64_180, [EDGE_USER]: 64_181 }

export function findUser(name: string): User | undefined {
  for (const line of readFileSync('/etc/passwd', 'utf8').split('\n')) {
    const [found, , uid, gid] = line.split(':')
    if (found === name) return { name, uid: Number(uid), gid: Number(gid) }
  }
  return undefined
}

/** The account of this name, or numbers that belong to nobody. */
export function userOrNumbers(name: string): User {
  const number = BORROWED[name] ?? 65_534
  return findUser(name) ?? { name, uid: number, gid: number }
}

/** Makes the system account if it is missing: no password, no shell, no home. */
export async function ensureUser(name: string): Promise<User> {
  const found = findUser(name)
  if (found) return found
  const account = ['--system', '--user-group', '--no-create-home', '--home-dir', '/nonexistent']
  await run(
    ['useradd', ...account, '--shell', '/usr/sbin/nologin', '--comment', 'Arcus', name],
    TOOL_SECONDS_MAX,
  )
  const made = findUser(name)
  if (!made) throw new Error(`useradd made no account ${name}`)
  return made
}

export async function removeUser(name: string): Promise<void> {
  if (findUser(name)) await run(['userdel', name], TOOL_SECONDS_MAX)
}

/** The command line that runs `argv` as this account with these capabilities and no others, for ever. */
export function asUser(
  user: Pick<User, 'uid' | 'gid'>,
  capabilities: readonly string[],
  argv: readonly string[],
): string[] {
  const sets = ['-all', ...capabilities.map((it) => `+${it}`)].join(',')
  return [
    'setpriv',
    `--reuid=${user.uid}`,
    `--regid=${user.gid}`,
    '--clear-groups',
    `--inh-caps=${sets}`,
    `--ambient-caps=${sets}`,
    `--bounding-set=${sets}`,
    '--no-new-privs',
    ...argv,
  ]
}

/** Whether this account can pass to the path and read it. */
export const canRead = (user: User, path: string): Promise<boolean> =>
  succeeds(asUser(user, [], ['test', '-r', path]), TOOL_SECONDS_MAX)
