import { readFileSync } from 'node:fs'
import { isIPv4 } from 'node:net'
import type { DockerApi } from './docker.ts'
import { wayOutName } from './bridge-plan.ts'
import type { Networks } from './networks.ts'

/** The host's resolvers; the second is what systemd's own resolver, on loopback, asks. */
const RESOLV_CONFS = ['/etc/resolv.conf', '/run/systemd/resolve/resolv.conf'] as const
/** Nobody answers there: names outside are unknown at once. */
const NOBODY = '127.0.0.1'

/** Resolvers of the host that a container can ask, which those on loopback are not. */
export function reachableNameservers(texts: readonly string[]): string[] {
  for (const text of texts) {
    const found = [...text.matchAll(/^\s*nameserver\s+(\S+)/gm)].map(([, address = '']) => address)
    const usable = found.filter((it) => isIPv4(it) && !it.startsWith('127.'))
    if (usable.length) return usable
  }
  return []
}

const readText = (path: string): string => {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

/**
 * How containers join bridges of Docker's. `prepare` makes a VPC's networks, and tells `then` the ids of the attachments
 * that have a way out, before there can be another plan; it does nothing when no plan is held.
 */
export function bridgeNetworks(
  api: DockerApi,
  instance: string,
  prepare: (vpc: string, then?: (withWayOut: ReadonlySet<string>) => Promise<unknown>) => Promise<void>,
): Networks {
  return {
    using: (_, work) => work(),
    alone: (_, work) => work(),
    ensure: ({ vpc }) => prepare(vpc),
    joining({ plan }, wish) {
      const outside = wish.dns.nameservers?.length
        ? wish.dns.nameservers
        : reachableNameservers(RESOLV_CONFS.map(readText))
      const open = plan.egress !== undefined && outside.length > 0
      return {
        endpoint: {
          IPAMConfig: { IPv4Address: plan.address },
          Aliases: [...(wish.names ?? [])],
        },
        // Named, Docker asks them from inside the container, who reaches them or not as its network is.
        resolver: { nameservers: open ? outside : [NOBODY] },
        ipv6: false,
      }
    },
    join: ({ vpc, plan }, runtimeId) =>
      prepare(vpc, async (withWayOut) => {
        if (withWayOut.has(plan.id)) await api.connectNetwork(wayOutName(instance, vpc), runtimeId)
      }),
    // They are the network driver's, and stay as long as their VPC.
    remove: () => Promise.resolve(),
    isStuck: () => false,
    list: () => Promise.resolve([]),
    doubt: () => {},
  }
}
