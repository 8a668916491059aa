import { HOST_NEEDS, installOf } from '#lib/needs.ts'
import { CommandFailed, run } from '#lib/command.ts'
import { ipIn, runIn } from './run.ts'

// Everything the rules use that a kernel or an old nftables may lack.
const PROBE_RULES = `table inet probe {
  set flows { type iface_index; flags dynamic; size 16; }
  set clashes { type ifname . ipv4_addr; flags interval; elements = { "probe" . 10.0.0.0/16 }; }
  chain pick {
    dnat ip to numgen inc mod 2 map { 0 : 10.0.0.1, 1 : 10.0.0.2 }
  }
  map ports { type inet_proto . inet_service : ipv4_addr; }
  map vips { type ipv4_addr . inet_proto . inet_service : verdict; elements = { 10.0.0.3 . tcp . 80 : goto pick }; }
  chain raw {
    type filter hook prerouting priority raw; policy accept;
    fib saddr . iif oif missing drop
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    ct state new add @flows { iif ct count over 3 } drop
    ct status & dnat == 0 reject with icmpx admin-prohibited
  }
  chain nat {
    type nat hook prerouting priority dstnat; policy accept;
    ip daddr . meta l4proto . th dport vmap @vips
    ip6 daddr fd00::1 tcp dport 80 dnat ip6 to fd00::2
    ip daddr 10.0.0.4 meta l4proto udp ct mark set 1 dnat ip to numgen inc mod 2 map { 0 : 10.0.0.1, 1 : 10.0.0.2 } : 80
  }
  chain own {
    type nat hook output priority -95; policy accept;
    ip daddr != 10.0.0.0/16 fib daddr type local dnat ip to meta l4proto . th dport map @ports
  }
  chain translate {
    type nat hook postrouting priority srcnat; policy accept;
    ct status dnat fib saddr type != local oifname . ip saddr != @clashes accept
    oifname . ip saddr @clashes masquerade
  }
}
`

/** One thing of the host that VPCs need, found out by doing it in a namespace of its own. */
export type HostProbe = {
  readonly id: string
  /** What works when it does, for a person. */
  readonly does: string
  /** The sentence when it does not, with the first line of what was said. */
  readonly lacks: (reason: string) => string
  /** The command that mends it, or what else does. */
  readonly mend: string
  readonly attempt: (namespace: string, signal: AbortSignal) => Promise<unknown>
}

const KERNEL = 'boot a kernel of Debian 12, Ubuntu 24.04 or later'

const inside = (...argv: string[]) =>
  ((namespace, signal) => run([...ipIn(namespace), ...argv], { signal })) satisfies HostProbe['attempt']

/** Each is tried in the same fresh namespace, which goes afterwards. */
export const HOST_PROBES: readonly HostProbe[] = [
  {
    id: 'rules',
    does: 'nftables loads every kind of rule that VPCs use (maps, fib, counted flows, translation)',
    lacks: (reason) => `The kernel or nftables lacks what the rules of a VPC need: ${reason}`,
    mend: `${KERNEL}, with nftables 1.0.6 or later`,
    attempt: (namespace, signal) => runIn(namespace, ['nft', '-f', '-'], { signal, input: PROBE_RULES }),
  },
  {
    id: 'links',
    does: 'links of the type veth can be made',
    lacks: (reason) => `Links of the type veth cannot be made: ${reason}`,
    mend: `modprobe veth, or ${KERNEL}`,
    attempt: inside('link', 'add', 'probe0', 'type', 'veth', 'peer', 'name', 'probe1'),
  },
  {
    id: 'policy-routing',
    does: 'routes can be chosen by the source',
    lacks: (reason) => `The kernel cannot choose routes by the source: ${reason}`,
    mend: KERNEL,
    attempt: inside('rule', 'add', 'from', '10.0.0.0/24', 'lookup', '4242'),
  },
  {
    id: 'ipv6',
    does: 'the kernel has IPv6',
    lacks: (reason) => `The kernel has no IPv6, which VPCs use inside: ${reason}`,
    mend: 'boot without ipv6.disable=1',
    attempt: inside('route', 'add', 'unreachable', 'fd00::/48'),
  },
  {
    id: 'single-flows',
    does: 'conntrack ends single flows',
    lacks: (reason) => `\`conntrack\` cannot read a list of flows (1.4.7 and later can): ${reason}`,
    mend: 'apt-get install -y conntrack (1.4.7 or later, as in Debian 12 and Ubuntu 24.04)',
    attempt: (namespace, signal) => runIn(namespace, ['conntrack', '-R', '/dev/null'], { signal }),
  },
]

const PROGRAMS = ['ip', 'nft', 'nsenter', 'conntrack']

async function reasonOf(attempt: () => Promise<unknown>): Promise<string | undefined> {
  try {
    await attempt()
    return undefined
  } catch (error) {
    if (error instanceof CommandFailed)
      return error.missing ? 'missing' : error.stderr.trim().split('\n')[0] || 'it failed'
    throw error
  }
}

/** A probe and what it failed with; undefined when it worked. */
export type Probed = { readonly probe: HostProbe; readonly reason: string | undefined }

/**
 * Tries every probe in a namespace of this name, which is made for it and removed. A string says why there can be no
 * namespace at all.
 */
export async function probeHost(namespace: string, signal: AbortSignal): Promise<string | readonly Probed[]> {
  await reasonOf(() => run(['ip', 'netns', 'del', namespace], { signal }))
  const none = await reasonOf(() => run(['ip', 'netns', 'add', namespace], { signal }))
  if (none) return none
  const probed: Probed[] = []
  try {
    for (const probe of HOST_PROBES)
      probed.push({ probe, reason: await reasonOf(() => probe.attempt(namespace, signal)) })
  } finally {
    await reasonOf(() => run(['ip', 'netns', 'del', namespace]))
  }
  return probed
}

/** Sentences naming what this host lacks to be the router of VPCs, found by trying; empty when nothing. */
export async function missingOnHost(prefix: string, signal: AbortSignal): Promise<string[]> {
  const lacking: string[] = []
  for (const program of HOST_NEEDS.filter((it) => PROGRAMS.includes(it.command)))
    if (await reasonOf(() => run([program.command, '--version'], { signal }).catch(onlyMissing)))
      lacking.push(`\`${program.command}\` is not installed: install it with \`${installOf(program)}\`.`)
  if (lacking.length) return lacking
  const probed = await probeHost(`${prefix}-probe`, signal)
  if (typeof probed === 'string')
    return [
      `Network namespaces cannot be made (${probed}): run as root, with CAP_SYS_ADMIN and CAP_NET_ADMIN.`,
    ]
  return probed.flatMap(({ probe, reason }) => (reason === undefined ? [] : [probe.lacks(reason)]))
}

/** A program that does not know the option is there all the same. */
function onlyMissing(error: unknown): void {
  if (error instanceof CommandFailed && !error.missing) return
  throw error
}
