import { readFileSync, statSync } from 'node:fs'
import { isIP } from 'node:net'
import type { Clock } from '#lib/clock.ts'
import type { Log } from '#lib/log.ts'

const LOOK_MS = 2000
const NAMESERVERS_MAX = 3

/** The addresses in the `nameserver` lines of a resolv.conf, at most as many as the C library uses. */
export const parseResolvConf = (text: string): readonly string[] =>
  [...text.matchAll(/^nameserver[ \t]+(\S+)/gm)]
    .map(([, address = '']) => address)
    .filter((it) => isIP(it))
    .slice(0, NAMESERVERS_MAX)

/**
 * The host's own resolvers, read again when the file changed. It is looked at when somebody asks, by its time and size and
 * not by a watch: it is often a link to a file that others replace.
 */
export function hostNameservers(path: string, clock: Clock, log: Log): () => readonly string[] {
  let addresses: readonly string[] = []
  let seen = ''
  let lookedAt = -Infinity
  return () => {
    const now = clock.now()
    if (Math.abs(now - lookedAt) < LOOK_MS) return addresses
    lookedAt = now
    try {
      const { mtimeMs, size, ino } = statSync(path)
      const state = `${mtimeMs} ${size} ${ino}`
      if (state === seen) return addresses
      addresses = parseResolvConf(readFileSync(path, 'utf8'))
      seen = state
      log.info("read the host's resolvers", { path, addresses })
    } catch (error) {
      if (seen !== 'unreadable') log.warn("cannot read the host's resolvers", { path, error })
      seen = 'unreadable'
      addresses = []
    }
    return addresses
  }
}
