import { CommandFailed, run, runIn } from './run.ts'

// Everything the rules use that a kernel or an old nftables may lack.
const PROBE_RULES = `table inet probe {
  set flows { type iface_index; flags dynamic; size 16; }
  set clashes { type ifname . ipv4_addr; flags interval; elements = { "probe" . 10.0.0.0/16 }; }
  chain pick {
    dnat ip to numgen inc mod 2 map { 0 : 10.0.0.1, 1 : 10.0.0.2 }
  }
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
  }
  chain translate {
    type nat hook postrouting priority srcnat; policy accept;
    oifname . ip saddr @clashes masquerade
  }
}
`

type Probe = {
  readonly command: readonly string[]
  readonly input?: string
  readonly says: (reason: string) => string
}

const install = (program: string, pkg: string): string =>
  `\`${program}\` is not installed: install it with \`apt-get install ${pkg}\`.`

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

const PROGRAMS: readonly Probe[] = [
  { command: ['ip', '-V'], says: () => install('ip', 'iproute2') },
  { command: ['nft', '-v'], says: () => install('nft', 'nftables') },
  { command: ['nsenter', '--version'], says: () => install('nsenter', 'util-linux') },
  { command: ['conntrack', '-V'], says: () => install('conntrack', 'conntrack') },
]

/** Sentences naming what this host lacks to be the router of VPCs, found by trying; empty when nothing. */
export async function missingOnHost(prefix: string, signal: AbortSignal): Promise<string[]> {
  const found: string[] = []
  for (const probe of PROGRAMS) {
    if (await reasonOf(() => run(probe.command, { signal }))) found.push(probe.says(''))
  }
  if (found.length) return found
  const namespace = `${prefix}-probe`
  await reasonOf(() => run(['ip', 'netns', 'del', namespace], { signal }))
  const noNamespace = await reasonOf(() => run(['ip', 'netns', 'add', namespace], { signal }))
  if (noNamespace) {
    return [
      `Network namespaces cannot be made (${noNamespace}): run as root, with CAP_SYS_ADMIN and CAP_NET_ADMIN.`,
    ]
  }
  try {
    const noRules = await reasonOf(() => runIn(namespace, ['nft', '-f', '-'], { signal, input: PROBE_RULES }))
    if (noRules) found.push(`The kernel or nftables lacks what the rules of a VPC need: ${noRules}`)
    const noLink = await reasonOf(() =>
      run(['ip', '-n', namespace, 'link', 'add', 'probe0', 'type', 'veth', 'peer', 'name', 'probe1'], {
        signal,
      }),
    )
    if (noLink) found.push(`Links of the type veth cannot be made: ${noLink}`)
    const noIpv6 = await reasonOf(() =>
      run(['ip', '-n', namespace, 'route', 'add', 'unreachable', 'fd00::/48'], { signal }),
    )
    if (noIpv6) found.push(`The kernel has no IPv6, which VPCs use inside: ${noIpv6}`)
    const noBatch = await reasonOf(() => runIn(namespace, ['conntrack', '-R', '/dev/null'], { signal }))
    if (noBatch) found.push(`\`conntrack\` cannot read a list of flows (1.4.7 and later can): ${noBatch}`)
  } finally {
    await reasonOf(() => run(['ip', 'netns', 'del', namespace]))
  }
  return found
}
