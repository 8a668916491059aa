import { contains, overlaps, parseCidr, parseIpv4 } from '#lib/cidr.ts'
import { HOST_NEEDS, installOf } from '#lib/needs.ts'
import { HOST_PROBES, type Probed, probeHost } from '#drivers/linux/missing.ts'
import { clashes, hostRoutes } from '#setup/ranges.ts'
import { type Check, type Finding, limited, missing, ok, unseen } from './check.ts'
import { type Host, isRoot } from './host.ts'

const PROBE_MS_MAX = 20_000
const FLOWS_MIN = 65_536

/** The host's ranges as they are configured, and how its own things are called. */
export type Ranges = { readonly fabric: string; readonly externalPool: string; readonly prefix: string }

const VERSION_WORDS: Readonly<Record<string, readonly string[]>> = {
  ip: ['ip', '-V'],
  nft: ['nft', '--version'],
  conntrack: ['conntrack', '--version'],
}

const toolChecks = (host: Host): readonly Check[] =>
  HOST_NEEDS.map((need) => ({
    id: need.command,
    features: ['setpriv', 'useradd'].includes(need.command) ? ['cloud'] : ['vpcs', 'pods'],
    required: true,
    async probe() {
      if (!host.has(need.command))
        return missing(
          `\`${need.command}\` is not installed`,
          `${installOf(need)} (\`up\` does it by itself)`,
        )
      const words = VERSION_WORDS[need.command]
      const said = words && (await host.run(...words).catch(() => ''))
      return ok(said?.trim().split('\n')[0] || 'installed')
    },
  }))

const probesOf = (host: Host): readonly Check[] => {
  let tried: Promise<string | readonly Probed[]> | undefined
  const result = (): Promise<string | readonly Probed[]> =>
    (tried ??= probeHost(`arcus-doctor-${process.pid}`, AbortSignal.timeout(PROBE_MS_MAX)))
  const lacksTools = (): boolean => ['ip', 'nft', 'nsenter', 'conntrack'].some((it) => !host.has(it))
  return HOST_PROBES.map((probe) => ({
    id: probe.id,
    features: ['vpcs', 'pods', 'external'],
    required: true,
    async probe() {
      if (!isRoot(host)) return unseen('what the kernel can do')
      if (lacksTools())
        return { state: 'unknown', seen: 'cannot be tried before the programs above are there' }
      const probed = await result()
      if (typeof probed === 'string')
        return missing(
          `no network namespace can be made (${probed})`,
          'run it on the host itself, or in a container with CAP_SYS_ADMIN and CAP_NET_ADMIN',
        )
      const reason = probed.find((it) => it.probe.id === probe.id)?.reason
      return reason === undefined ? ok(probe.does) : missing(probe.lacks(reason), probe.mend)
    },
  }))
}

function forwarding(host: Host): Finding {
  const on = host.read('/proc/sys/net/ipv4/ip_forward')?.trim()
  if (on === '1') return ok('the host forwards packets')
  if (on === undefined) return missing('the host has no setting for forwarding', 'boot another kernel')
  return ok('the host does not forward packets yet; Arcus switches it on')
}

function bridgeFilter(host: Host): Finding {
  const on = host.read('/proc/sys/net/bridge/bridge-nf-call-iptables')?.trim()
  if (on === undefined) return ok('br_netfilter is not loaded, which VPCs do not need')
  return ok(
    `br_netfilter is loaded (${on === '1' ? 'on' : 'off'}); VPCs have no bridges, so it is of no account`,
  )
}

function flows(host: Host): Finding {
  const max = Number(host.read('/proc/sys/net/netfilter/nf_conntrack_max') ?? FLOWS_MIN)
  if (max >= FLOWS_MIN) return ok(`the host follows up to ${max.toLocaleString('en-US')} flows`)
  return limited(
    `the host follows ${max.toLocaleString('en-US')} flows at most, for all VPCs together`,
    `sysctl -w net.netfilter.nf_conntrack_max=${FLOWS_MIN * 4}`,
  )
}

type Address = { readonly link: string; readonly address: string; readonly label: string }

async function addressesOf(host: Host): Promise<readonly Address[]> {
  const links = JSON.parse(await host.run('ip', '-json', '-4', 'addr', 'show')) as {
    ifname: string
    addr_info?: { local?: string; label?: string }[]
  }[]
  return links.flatMap((it) =>
    (it.addr_info ?? []).flatMap(({ local, label = '' }) =>
      local === undefined ? [] : [{ link: it.ifname, address: local, label }],
    ),
  )
}

/** A range that is to be ours: no route of the host's own to it, no address of the host's own in it. */
async function isFree(host: Host, ranges: Ranges, range: string, option: string): Promise<Finding> {
  const choose = `choose another with ${option} CIDR`
  const network = parseCidr(range)
  if (!network) return missing(`${range} is no IPv4 network`, choose)
  const routes = clashes([range], hostRoutes())
  if (routes.length) return missing(`${range}: the host has a route to ${routes.join(', ')}`, choose)
  const foreign = (await addressesOf(host)).filter(
    (it) =>
      contains(network, parseIpv4(it.address) ?? -1) &&
      it.label !== `lo:${ranges.prefix}` &&
      !it.link.startsWith(`${ranges.prefix}-u`),
  )
  if (foreign.length)
    return missing(
      `${range}: the host has ${foreign.map((it) => `${it.address} on ${it.link}`).join(', ')}`,
      choose,
    )
  return ok(`${range} is free`)
}

/** From where external addresses can be reached, by the host's routes. */
async function reach(host: Host, pool: string, isBuiltIn: boolean): Promise<Finding> {
  const network = parseCidr(pool)
  const routes = JSON.parse(await host.run('ip', '-json', '-4', 'route', 'show')) as {
    dst: string
    dev?: string
    gateway?: string
  }[]
  const near = routes.find((it) => {
    const connected = it.gateway === undefined && it.dst.includes('/') ? parseCidr(it.dst) : undefined
    return network && connected && overlaps(connected, network)
  })
  if (near) return ok(`${pool} can be reached from ${near.dst} on ${near.dev}, where the host answers for it`)
  if (!isBuiltIn)
    return limited(
      `${pool} can be reached from this host, from VPCs, and from where a router leads it to this host`,
      `let your router lead ${pool} to this host`,
    )
  return limited(
    `${pool} can be reached from this host and from VPCs alone: no network routes it`,
    'give it addresses that your network routes here: --external-pool CIDR, or POST /circloud/provider-config',
  )
}

/** Programs, kernel, settings and ranges that VPCs stand on. */
export const networkChecks = (host: Host, ranges: Ranges, builtInPool: string): readonly Check[] => [
  ...toolChecks(host),
  ...probesOf(host),
  { id: 'forwarding', features: ['vpcs', 'external'], required: true, probe: () => forwarding(host) },
  { id: 'bridge-filter', features: ['vpcs'], required: false, probe: () => bridgeFilter(host) },
  { id: 'flows', features: ['vpcs', 'external'], required: false, probe: () => flows(host) },
  {
    id: 'fabric',
    features: ['vpcs', 'pods', 'names'],
    required: true,
    probe: () => isFree(host, ranges, ranges.fabric, '--fabric'),
  },
  {
    id: 'external-pool',
    features: ['external'],
    required: true,
    probe: () => isFree(host, ranges, ranges.externalPool, '--external-pool'),
  },
  {
    id: 'external-reach',
    features: ['external'],
    required: false,
    probe: () => reach(host, ranges.externalPool, ranges.externalPool === builtInPool),
  },
]
