import { type Check, type Finding, missing, ok, unseen } from './check.ts'
import { BALANCER_RANGE } from '#drivers/linux/host.ts'
import { type Host, isRoot } from './host.ts'

type Chain = {
  readonly family: string
  readonly table: string
  readonly name: string
  readonly hook?: string
  readonly policy?: string
}

const IP_FAMILIES = ['ip', 'inet']
/** Tables of the iptables that nftables carries, whose rules are changed by `iptables` alone. */
const IPTABLES_CHAINS: Readonly<Record<string, string>> = { input: 'INPUT', forward: 'FORWARD' }

/** Docker's chain for the owner's rules, in which Arcus lets its own through. */
const DOCKER_CHAIN = 'DOCKER-USER'

async function baseChains(host: Host, hook: string): Promise<Chain[]> {
  const listed = JSON.parse(await host.run('nft', '-j', 'list', 'chains')) as {
    nftables: readonly { chain?: Chain }[]
  }
  return listed.nftables.flatMap(({ chain }) =>
    chain?.hook === hook && IP_FAMILIES.includes(chain.family) ? [chain] : [],
  )
}

/** Whether what no rule lets through is dropped: by policy, or by a last rule that drops or rejects everything. */
export function isClosed(chain: Chain, listing: string): boolean {
  if (chain.policy === 'drop') return true
  const rules = listing
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !/^(table|chain|type|\}|\{|#)/.test(line))
  return /^(counter packets \d+ bytes \d+ )?(drop|reject)( with .*)?$/.test(rules.at(-1) ?? '')
}

const isIptables = (it: Chain): boolean => it.family === 'ip' && it.name === IPTABLES_CHAINS[it.hook ?? '']

/** The commands that let the VPCs' questions for names, and what goes to their load balancers, in. */
export function mendInput(it: Chain, prefix: string): string {
  if (isIptables(it))
    return ['udp --dport 53', 'tcp --dport 53', `tcp --dport ${BALANCER_RANGE.replace('-', ':')}`]
      .map((what) => `iptables -I ${it.name} -i ${prefix}-u+ -p ${what} -j ACCEPT`)
      .join(' && ')
  return `nft insert rule ${it.family} ${it.table} ${it.name} iifname '"${prefix}-u*"' meta l4proto '{ tcp, udp }' th dport '{ 53, ${BALANCER_RANGE} }' accept`
}

/** The commands that let what goes to and from VPCs through. */
export function mendForward(it: Chain, prefix: string): string {
  if (isIptables(it))
    return ['-i', '-o'].map((way) => `iptables -I ${it.name} ${way} ${prefix}-u+ -j ACCEPT`).join(' && ')
  return ['iifname', 'oifname']
    .map((way) => `nft insert rule ${it.family} ${it.table} ${it.name} ${way} '"${prefix}-u*"' accept`)
    .join(' && ')
}

async function closedFor(host: Host, hook: 'input' | 'forward', prefix: string): Promise<Chain | undefined> {
  for (const it of await baseChains(host, hook)) {
    if (it.table === prefix) continue
    const listing = await host.run('nft', 'list', 'chain', it.family, it.table, it.name)
    if (!isClosed(it, listing)) continue
    // Rules of ours may stand in a chain that this one jumps to.
    const table = await host.run('nft', 'list', 'table', it.family, it.table)
    const opened = table.includes(`"${prefix}-u*"`)
    if (!opened && !(hook === 'forward' && table.includes(`chain ${DOCKER_CHAIN} `))) return it
  }
  return undefined
}

const KEEP = 'then keep it over reboots the way your firewall does'

async function look(
  host: Host,
  hook: 'input' | 'forward',
  prefix: string,
  words: {
    readonly open: string
    readonly closed: string
    readonly mend: (it: Chain, prefix: string) => string
  },
): Promise<Finding> {
  if (!isRoot(host)) return unseen('the host’s firewall')
  if (!host.has('nft')) return { state: 'unknown', seen: 'cannot be looked at without nft' }
  const closed = await closedFor(host, hook, prefix)
  if (!closed) return ok(words.open)
  return missing(
    `the host’s firewall (table ${closed.family} ${closed.table}, chain ${closed.name}) ${words.closed}`,
    `${words.mend(closed, prefix)} (${KEEP})`,
  )
}

/** Whether a firewall of the host's own stands in the way of VPCs. */
export const firewallChecks = (host: Host, prefix: string): readonly Check[] => [
  {
    id: 'firewall-input',
    features: ['names'],
    required: true,
    probe: () =>
      look(host, 'input', prefix, {
        open: 'no firewall of the host drops the VPCs’ questions for names',
        closed: 'drops the VPCs’ questions for names',
        mend: mendInput,
      }),
  },
  {
    id: 'firewall-forward',
    features: ['external'],
    required: true,
    probe: () =>
      look(host, 'forward', prefix, {
        open: 'no firewall of the host drops what goes to and from VPCs',
        closed: 'drops what goes to and from VPCs',
        mend: mendForward,
      }),
  },
]
