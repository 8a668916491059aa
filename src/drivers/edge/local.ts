import type { Clock } from '#lib/clock.ts'
import type { Log } from '#lib/log.ts'
import { auditedBy, type Repair } from '#cloud/observe/finding.driver.ts'
import type { EdgeDriver } from '#cloud/edge/edge.driver.ts'
import { createDns, type Listen } from './dns.ts'
import { hostNameservers } from './nameservers.ts'
import { openTable } from './table.ts'
import { parseZone } from './zone.ts'

/** Tells the host's own resolvers. */
const RESOLV_CONF = '/etc/resolv.conf'

export type LocalEdge = EdgeDriver & {
  /** Where the resolver listens; undefined while it cannot. */
  resolver(): Listen | undefined
  close(): Promise<void>
}

/**
 * The edge in this process: serves the tables kept in `directory` from the start on. `listen` may be an address that the
 * host does not have yet; without it nobody is answered, where names are Docker's affair.
 */
export async function localEdge(options: {
  readonly directory: string
  readonly listen?: Listen | undefined
  readonly clock: Clock
  readonly log: Log
  readonly resolvConf?: string
}): Promise<LocalEdge> {
  const { directory, listen, clock, log } = options
  const table = await openTable({ directory, log })
  const nameservers = hostNameservers(options.resolvConf ?? RESOLV_CONF, clock, log)
  const dns = listen && createDns({ listen, table, hostNameservers: nameservers, clock, log })
  const look = async (): Promise<readonly Repair[]> => {
    const repairs = await table.look()
    if (!listen || dns?.bound()) return repairs
    const detail = `resolver does not listen at ${listen.address} port ${listen.port}; it tries again each second`
    return [...repairs, { finding: { what: 'missing', thing: 'socket', detail, mend: 'driver' } }]
  }
  return {
    apply: async (zone) => await table.apply(parseZone(zone)),
    remove: async (vpc) => await table.remove(vpc),
    list: async () => await Promise.resolve(table.list()),
    ...auditedBy(look, (finding, error) =>
      log.warn('what was found cannot be mended', { ...finding, error }),
    ),
    resolver: () => dns?.bound(),
    close: async () => await dns?.close(),
  }
}
