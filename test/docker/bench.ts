import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ComputeDriver, ContainerWish } from '#cloud/compute/compute.driver.ts'
import type { NetworkDriver, VpcPlan } from '#cloud/network/network.driver.ts'
import type { HeldAttachment } from '#drivers/docker/attach.ts'
import { systemClock } from '#lib/clock.ts'
import { createIds } from '#lib/ids.ts'

export const never = new AbortController().signal
const ids = createIds(systemClock)
/** Places of each VPC; a test takes as many as it likes. */
const PLACES = 60

/** Ends with the code that is written to /tmp/exit; runs until then. */
const SCRIPT =
  'rm -f /tmp/exit; echo begun; while [ ! -f /tmp/exit ]; do sleep 0.05; done; exit $(cat /tmp/exit)'

const byte = (value: number): string => value.toString(16).padStart(2, '0')

/** A VPC with attachments that nobody uses yet. */
export type Room = {
  readonly net: number
  readonly plan: VpcPlan
  wish(change?: Partial<ContainerWish>): ContainerWish
}

/**
 * Two with the same `cidr` overlap, as VPCs of different tenants may. `net` is the second byte of the test file's own
 * fabric, `index` differs within the file.
 */
export function makeRoom(net: number, index: number, cidr = '10.77.0.0/24'): Room {
  const subnet = { id: ids.next(), cidr, gateway: cidr.replace('.0/24', '.1'), cidr6: `fd77:${index}::/64` }
  const [vpc, tenant] = [ids.next(), ids.next()]
  const places = Array.from({ length: PLACES }, (_, n) => ({
    id: ids.next(),
    subnet: subnet.id,
    address: cidr.replace('.0/24', `.${n + 5}`),
    address6: `fd77:${index}::${(n + 5).toString(16)}`,
    mac: `02:77:00:00:${byte(index)}:${byte(n + 5)}`,
    fabric: `100.${net}.${index}.${n + 5}`,
    groups: [],
  }))
  const plan: VpcPlan = {
    vpc,
    tenant,
    generation: 1,
    index: 9000 + index,
    internet: false,
    range6: `fd77:${index}::/48`,
    uplink: { host: `100.${net}.200.${index * 2}`, vpc: `100.${net}.200.${index * 2 + 1}` },
    subnets: [subnet],
    attachments: places,
    vips: [],
    groups: [],
  }
  let next = 0
  return {
    net,
    plan,
    wish(change = {}) {
      const place = places[next++]
      assert.ok(place, 'no place is left in the room')
      return {
        id: place.id,
        tenant,
        workload: ids.next(),
        vpc,
        subnet: subnet.id,
        attempt: 1,
        name: 'bench',
        image: 'idle:latest',
        command: ['sh', '-c', SCRIPT],
        env: { GREETING: 'hello there' },
        hostname: 'bench-0',
        cpuMillicores: 500,
        memoryMib: 32,
        pidsMax: 64,
        capabilities: [],
        mounts: [],
        healing: true,
        stopGraceSeconds: 0,
        dns: { search: ['bench.internal'], ndots: 2 },
        ...change,
      }
    },
  }
}

export const addressOf = ({ plan }: Room, id: string): string =>
  plan.attachments.find((it) => it.id === id)?.address ?? ''
export const fabricOf = ({ plan }: Room, id: string): string =>
  plan.attachments.find((it) => it.id === id)?.fabric ?? ''

/** A place of the room, as the agent holds it. */
export function heldIn({ plan }: Room): HeldAttachment {
  const [[subnet], [place]] = [plan.subnets, plan.attachments]
  assert.ok(subnet && place)
  return { vpc: plan.vpc, subnet, plan: place }
}

/** Puts the rooms on the host. */
export async function furnish(network: NetworkDriver, rooms: readonly Room[]): Promise<void> {
  const fabric = `100.${rooms[0]?.net}`
  const host = {
    generation: 1,
    fabric: `${fabric}.0.0/16`,
    resolver: `${fabric}.255.254`,
    external: [],
    allowed: [],
  }
  await network.applyHost(host, never)
  for (const { plan } of rooms) await network.apply(plan, never)
}

/** A folder for one agent, removed at the end. */
export async function scratch(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'arcus-agent-'))
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}

/** What a command in the container wrote, without the last line end; throws when it fails. */
export async function ask(driver: ComputeDriver, id: string, script: string): Promise<string> {
  const session = await driver.exec(id, { command: ['sh', '-c', script], tty: false }, never)
  let text = ''
  for await (const chunk of session.stream) text += String(chunk)
  const code = await session.exitCode
  assert.equal(code, 0, `${script}: ${text}`)
  return text.trimEnd()
}

/** Ends the container's process as the script of `wish` does. */
export const endBy = async (driver: ComputeDriver, id: string, code: number): Promise<void> => {
  await ask(driver, id, `echo ${code} > /tmp/code && mv /tmp/code /tmp/exit`)
}
