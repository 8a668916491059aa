import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { PlannedRule, VpcPlan } from '#cloud/network/network.driver.ts'
import { linuxNetwork } from '#drivers/linux/linux.ts'
import { namesFor } from '#drivers/linux/names.ts'
import { ROUTER_TABLE } from '#drivers/linux/render.ts'
import { nftLoad } from '#drivers/linux/run.ts'
import { systemClock } from '#lib/clock.ts'
import { run } from '#lib/command.ts'
import { jsonLog } from '#lib/log.ts'
import { enterSandbox, sh } from '../test/network/sandbox.ts'
import { HOST, plugIn, uuid } from '../test/network/world.ts'
import type { RulesAsked } from './rules.ts'

// A host of its own with one large VPC, and a router without any rules beside it.

const given = JSON.parse(process.argv[2] ?? '{}') as { scratch: string; rules: number; instances: number }
await enterSandbox(import.meta.filename)

const PREFIX = 'bench'
/** Of the attachments the two that have a namespace of their own; the others share one. */
const OWN = ['from', 'to'] as const
const GROUP_RULES_MAX = 1000
const signal = new AbortController().signal
const [vpc, subnet, peerTable] = [uuid(1), uuid(2), 'beside']
const network = linuxNetwork({
  prefix: PREFIX,
  directory: join(given.scratch, 'agent'),
  clock: systemClock,
  log: jsonLog('warn'),
})
const namespace = namesFor(PREFIX).namespace(vpc)
const attachmentId = (at: number): string => uuid(0x1000 + at)

/** Rules as people write them: services by network, of three kinds of length. */
function ruleOf(at: number, change: number): PlannedRule {
  const networks = [`198.18.${at % 250}.0/24`, `198.19.${at % 250}.7/32`, `10.${at % 250}.0.0/16`]
  return {
    direction: at % 4 ? 'ingress' : 'egress',
    protocol: at % 5 ? 'tcp' : 'udp',
    ports: { from: 2000 + at + change, to: 2000 + at + change + (at % 3) },
    peer: at % 10 ? { cidr: networks[at % networks.length] ?? '' } : 'any',
  }
}

/** Between the two machines everything passes. */
const BETWEEN: readonly PlannedRule[] = [
  { direction: 'ingress', protocol: 'tcp', peer: { cidr: '10.200.0.0/16' } },
  { direction: 'egress', protocol: 'any', peer: 'any' },
]

function planOf(change: number): VpcPlan {
  const rules = Array.from({ length: given.rules - BETWEEN.length }, (_, at) =>
    ruleOf(at, at === given.rules >> 1 ? change * 3 : 0),
  )
  const all = [...BETWEEN, ...rules]
  const groups = Array.from({ length: Math.ceil(all.length / GROUP_RULES_MAX) }, (_, at) => ({
    id: uuid(0x100 + at),
    rules: all.slice(at * GROUP_RULES_MAX, (at + 1) * GROUP_RULES_MAX),
  }))
  const last = (at: number): string => `${at >> 7}.${(at & 127) + 2}`
  const six = (at: number): string => `fd00:0:1:1::${(at + 2).toString(16)}`
  return {
    vpc,
    tenant: uuid(3),
    generation: change + 1,
    index: 1,
    internet: true,
    range6: 'fd00:0:1::/48',
    uplink: { host: '100.120.0.2', vpc: '100.120.0.3' },
    subnets: [{ id: subnet, cidr: '10.200.0.0/16', gateway: '10.200.255.1', cidr6: 'fd00:0:1:1::/64' }],
    attachments: Array.from({ length: given.instances }, (_, at) => ({
      id: attachmentId(at),
      subnet,
      address: `10.200.${last(at)}`,
      address6: six(at),
      mac: `02:00:0a:c8:${(at >> 8).toString(16).padStart(2, '0')}:${(at & 255).toString(16).padStart(2, '0')}`,
      fabric: `100.120.${128 + (at >> 7)}.${(at & 127) + 2}`,
      groups: groups.map((it) => it.id),
    })),
    vips: [],
    groups,
  }
}

const lines = async (commands: readonly string[], ...where: string[]): Promise<void> =>
  void (await run(['ip', ...where, '-batch', '-'], { input: `${commands.join('\n')}\n` }))

/** The VPC, with every instance's link up in a namespace. */
async function makeVpc(): Promise<void> {
  await network.applyHost(HOST, signal)
  await network.apply(planOf(0), signal)
  for (const [at, name] of OWN.entries()) {
    sh('ip', 'netns', 'add', name)
    await plugIn(network, attachmentId(at), name)
  }
  sh('ip', 'netns', 'add', 'others')
  const links: string[] = []
  for (let at = OWN.length; at < given.instances; at++)
    links.push((await network.createLink(attachmentId(at))).containerLink)
  await lines(links.map((it) => `link set ${it} netns others`))
  await lines(
    links.map((it) => `link set ${it} up`),
    '-n',
    'others',
  )
}

/** Two machines and a router between them that has no ruleset at all. */
async function makeBare(): Promise<void> {
  for (const name of ['bare', 'bare-from', 'bare-to']) sh('ip', 'netns', 'add', name)
  for (const [at, name] of ['bare-from', 'bare-to'].entries()) {
    await lines([`link add b${at} netns bare type veth peer name eth0 netns ${name}`])
    await lines([`addr add 10.${at}.0.1/24 dev b${at}`, `link set b${at} up`], '-n', 'bare')
    const ends = [
      `addr add 10.${at}.0.2/24 dev eth0`,
      'link set eth0 up',
      `route add default via 10.${at}.0.1`,
    ]
    await lines(ends, '-n', name)
  }
  sh('nsenter', '--net=/run/netns/bare', 'sysctl', '-qw', 'net.ipv4.ip_forward=1')
}

const timed = async (work: () => Promise<unknown>): Promise<{ ms: number }> => {
  const since = performance.now()
  await work()
  return { ms: performance.now() - since }
}

let changes = 0
const BESIDE = `inet ${ROUTER_TABLE} ${peerTable}`

/** What can be asked: each answers how long it took, in milliseconds. */
const does: Record<RulesAsked, () => Promise<{ ms: number }>> = {
  /** The driver brings the router from one plan to the next, of which one rule differs. */
  change: () => timed(() => network.apply(planOf(++changes), signal)),
  /** A rule written into the same table by hand, in place of the one before. */
  beside: () =>
    timed(() =>
      nftLoad(
        namespace,
        `add chain ${BESIDE}\nflush chain ${BESIDE}\nadd rule ${BESIDE} ip saddr 192.0.2.1 tcp dport ${2000 + ++changes} accept\n`,
      ),
    ),
  /** Takes away what was written by hand; throws when then anything differs from the plan. */
  check: () =>
    timed(async () => {
      await nftLoad(namespace, `delete chain ${BESIDE}\n`)
      const drift = (await network.observe(vpc, signal))?.drift ?? []
      if (drift.length) throw new Error(`the router is not as planned: ${JSON.stringify(drift.slice(0, 3))}`)
    }),
}

mkdirSync(given.scratch, { recursive: true })
await makeVpc()
await makeBare()
process.on('message', (what: RulesAsked) => {
  does[what]().then(
    (answer) => process.send?.(answer),
    (error: unknown) => process.send?.({ error: String(error) }),
  )
})
process.on('disconnect', () => process.exit(0))
process.on('SIGTERM', () => process.exit(0))
console.log(JSON.stringify({ to: planOf(0).attachments[1]?.address, bareTo: '10.1.0.2' }))
