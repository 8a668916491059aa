import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { join } from 'node:path'
import type { Attachment, HostPlan, PlannedVip, VpcPlan } from '#cloud/network/network.driver.ts'
import type { LinuxNetwork } from '#drivers/linux/linux.ts'
import { sh, tryTo } from './sandbox.ts'

const ASK_MS = 500
const RESOLVE_MS = 2000

export type Answer = { readonly text?: string; readonly error?: string }
/** No answer came, and none would: dropped or refused. */
export async function refused(...asked: Promise<Answer>[]): Promise<void> {
  for (const { text, error } of await Promise.all(asked)) assert.ok(error, `was answered: ${text}`)
}

type Wire = { protocol?: 'tcp' | 'udp'; from?: string; fromPort?: number; ms?: number }

/** A network namespace with a process in it that talks on command; without a name the host itself. */
export type Machine = {
  readonly name: string
  listen(port: number, wire?: { protocol?: 'tcp' | 'udp'; address?: string }): Promise<void>
  /** One connection or datagram; the answer begins with the name of the machine that gave it, then the address it saw. */
  ask(address: string, port: number, wire?: Wire): Promise<Answer>
  /** A connection that stays; `say` uses it again. */
  open(key: string, address: string, port: number, wire?: Wire): Promise<Answer>
  say(key: string, ms?: number): Promise<Answer>
  /** Sends something to everyone who has connected to it. */
  push(): Promise<void>
  /** Who sent it a datagram since the last time this was asked. */
  heard(): Promise<string[]>
  /** What a resolver says are a name's IPv4 addresses, with spaces between; or its records of a type, as JSON. */
  resolve(resolver: string, name: string, type?: 'MX' | 'SRV' | 'TXT'): Promise<Answer>
  /** True when a ping is answered. */
  ping(address: string): boolean
  run(...command: string[]): string
  stop(): void
}

/** `namespace` is a name that `ip netns` knows, or the path of a namespace. */
export function machine(name: string, namespace?: string): Machine {
  const talker = join(import.meta.dirname, 'talker.ts')
  const node = [process.execPath, talker, name]
  const path = namespace?.startsWith('/') ? namespace : `/run/netns/${namespace}`
  const within = namespace ? ['nsenter', `--net=${path}`] : []
  const [file = '', ...args] = [...within, ...node]
  const child: ChildProcess = spawn(file, args, { stdio: ['pipe', 'pipe', 'inherit'], env: {} })
  const waiting = new Map<number, PromiseWithResolvers<Answer>>()
  let last = 0
  // No answer of a machine that is not there must pass for a refusal.
  const ended = new Error(`the machine ${name} has ended`)
  child.once('exit', () => waiting.forEach((it) => it.reject(ended)))
  if (child.stdout) {
    createInterface({ input: child.stdout }).on('line', (line) => {
      const { id, ...answer } = JSON.parse(line) as Answer & { id: number }
      waiting.get(id)?.resolve(answer)
      waiting.delete(id)
    })
  }
  const order = (what: Record<string, unknown>): Promise<Answer> => {
    const answer = Promise.withResolvers<Answer>()
    waiting.set(++last, answer)
    if (child.exitCode !== null) answer.reject(ended)
    child.stdin?.write(`${JSON.stringify({ id: last, ms: ASK_MS, protocol: 'tcp', ...what })}\n`)
    return answer.promise
  }
  return {
    name,
    async listen(port, wire = {}) {
      const answer = await order({
        do: 'listen',
        port,
        address: wire.protocol === 'udp' ? '0.0.0.0' : '::',
        ...wire,
      })
      if (answer.error) throw new Error(answer.error)
    },
    ask: (address, port, wire) => order({ do: 'ask', address, port, ...wire }),
    open: (key, address, port, wire) => order({ do: 'open', key, address, port, ...wire }),
    say: (key, ms = ASK_MS) => order({ do: 'say', key, ms }),
    push: async () => void (await order({ do: 'push' })),
    heard: async () => ((await order({ do: 'heard' })).text ?? '').split(' ').filter(Boolean),
    resolve: (resolver, name, type) =>
      order({ do: 'resolve', address: resolver, key: name, type, ms: RESOLVE_MS }),
    ping: (address) => tryTo(...within, 'ping', '-n', '-c1', '-W1', address).includes('1 received'),
    run: (...command) => sh(...within, ...command),
    stop: () => void child.kill('SIGKILL'),
  }
}

/** A machine in a namespace of its own, attached to a VPC in the way Docker does it. */
export async function attach(network: LinuxNetwork, id: string, name: string): Promise<Machine> {
  const namespace = `m-${name}`
  sh('ip', 'netns', 'add', namespace)
  await plugIn(network, id, namespace)
  return machine(name, namespace)
}

/** Moves an attachment's link into a namespace and configures it. */
export async function plugIn(network: LinuxNetwork, id: string, namespace: string): Promise<void> {
  const { containerLink } = await network.createLink(id)
  const planned = network.attachment(id)
  if (!planned) throw new Error(`no attachment ${id}`)
  const { plan, subnet } = planned
  sh('ip', 'link', 'set', containerLink, 'netns', namespace)
  const within = ['ip', '-n', namespace]
  sh(...within, 'link', 'set', containerLink, 'name', 'eth0')
  sh(...within, 'link', 'set', 'eth0', 'address', plan.mac)
  sh(...within, 'addr', 'add', `${plan.address}/${subnet.cidr.split('/')[1]}`, 'dev', 'eth0')
  sh(...within, 'addr', 'add', `${plan.address6}/128`, 'dev', 'eth0', 'nodad')
  sh(...within, 'link', 'set', 'lo', 'up')
  sh(...within, 'link', 'set', 'eth0', 'up')
  sh(...within, 'route', 'add', 'default', 'via', subnet.gateway)
  sh(...within, 'route', 'add', 'default', 'via', 'fe80::1', 'dev', 'eth0')
}

export const HOST: HostPlan = {
  generation: 1,
  fabric: '100.120.0.0/16',
  resolver: '100.120.255.53',
  external: [
    { cidr: '100.72.0.0/24', masquerade: true },
    { cidr: '198.51.100.128/26', masquerade: false },
  ],
  allowed: [],
}

/** Where the host has its default route to. */
export const INTERNET = '192.0.2.80'
/** A machine in a network of the host's. */
export const LAN = '198.51.100.9'
/** The host's own address there. */
export const HOST_IN_LAN = '198.51.100.1'

/** A link between the host and a namespace that is made for it; addresses with prefix. */
export const wire = (link: string, namespace: string, here: string, there: string): void => {
  sh('ip', 'netns', 'add', namespace)
  sh('ip', 'link', 'add', link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace)
  sh('ip', 'addr', 'add', here, 'dev', link)
  sh('ip', 'link', 'set', link, 'up')
  sh('ip', '-n', namespace, 'link', 'set', 'lo', 'up')
  sh('ip', '-n', namespace, 'addr', 'add', there, 'dev', 'eth0')
  sh('ip', '-n', namespace, 'link', 'set', 'eth0', 'up')
}

/** Gives the sandbox's host a way out, with a server there, and a network of its own with a machine in it. */
export async function surroundHost(): Promise<{ internet: Machine; lan: Machine; host: Machine }> {
  wire('wan0', 'internet', '203.0.113.2/24', '203.0.113.1/24')
  sh('ip', '-n', 'internet', 'addr', 'add', `${INTERNET}/32`, 'dev', 'lo')
  sh('ip', 'route', 'add', 'default', 'via', '203.0.113.1')
  wire('lan0', 'lan', `${HOST_IN_LAN}/24`, `${LAN}/24`)
  const internet = machine('internet', 'internet')
  sh('ip', '-n', 'internet', 'route', 'add', 'default', 'via', '203.0.113.2')
  sh('ip', '-n', 'lan', 'route', 'add', 'default', 'via', HOST_IN_LAN)
  const lan = machine('lan', 'lan')
  const host = machine('host')
  await internet.listen(80)
  await internet.listen(53, { protocol: 'udp', address: INTERNET })
  await lan.listen(80)
  await host.listen(80)
  return { internet, lan, host }
}

/** Ids in the form of UUIDs that can be told apart in a test's output. */
export const uuid = (number: number): string =>
  `00000000-0000-7000-8000-${number.toString(16).padStart(12, '0')}`

/** Makes plans of VPCs that are alike but for their number. */
export type Planner = {
  /** A VPC with the subnets 10.0.1.0/24 and 10.0.2.0/24. */
  vpcPlan(number: number, more?: Partial<VpcPlan>): VpcPlan
  /** The attachment with the last octet `last` in a VPC's subnet 1 or 2. */
  attachment(number: number, last: number, more?: Partial<Attachment> & { in?: number }): Attachment
  vip(number: number, last: number, more?: Partial<PlannedVip>): PlannedVip
}

/** With `distinct` ranges the second octet is the VPC's number. */
export function planner(how: { distinct: boolean; subnets: readonly number[] }): Planner {
  const range = (number: number, subnet: number): string => `10.${how.distinct ? number : 0}.${subnet}`
  const range6 = (number: number, subnet: number): string => `fd00:0:${number.toString(16)}:${subnet}`
  return {
    vpcPlan: (number, more = {}) => ({
      vpc: uuid(0xabc000 + number),
      tenant: uuid(1),
      generation: 1,
      index: number,
      internet: true,
      range6: `fd00:0:${number.toString(16)}::/48`,
      uplink: { host: `100.120.0.${number * 2}`, vpc: `100.120.0.${number * 2 + 1}` },
      subnets: how.subnets.map((it) => ({
        id: subnetId(how.distinct ? number : 0, it),
        cidr: `${range(number, it)}.0/24`,
        gateway: `${range(number, it)}.1`,
        cidr6: `${range6(number, it)}::/64`,
      })),
      attachments: [],
      vips: [],
      groups: [],
      ...more,
    }),
    attachment(number, last, more = {}) {
      const { in: subnet = 1, ...rest } = more
      return {
        id: uuid(0x1000000 + number * 0x10000 + subnet * 0x1000 + last),
        subnet: subnetId(how.distinct ? number : 0, subnet),
        address: `${range(number, subnet)}.${last}`,
        address6: `${range6(number, subnet)}::${last}`,
        mac: `02:00:0a:00:0${subnet}:${last.toString(16).padStart(2, '0')}`,
        fabric: `100.120.${number * 2 + subnet}.${last}`,
        groups: [],
        ...rest,
      }
    },
    vip: (number, last, more = {}) => ({
      id: uuid(0x2000000 + number * 0x10000 + last),
      subnet: subnetId(how.distinct ? number : 0, 1),
      address: `${range(number, 1)}.${last}`,
      address6: `${range6(number, 1)}::${last}`,
      ports: [{ protocol: 'tcp', port: 80 }],
      backends: [],
      ...more,
    }),
  }
}

const subnetId = (number: number, subnet: number): string => uuid(0x500 + number * 0x10 + subnet)

/** Plans of VPCs that all have the same ranges. */
export const { vpcPlan, attachment, vip } = planner({ distinct: false, subnets: [1, 2] })
