import { type Made, type Model, type Tenant, type Thing, wishOf } from './model.ts'
import type { Random } from './random.ts'
import type { Row } from './rows.ts'

/** One request of a tenant, and what must be true once it was answered. */
export type Request = {
  readonly what: string
  readonly method: 'POST' | 'PATCH' | 'DELETE'
  readonly path: string
  readonly body?: unknown
  /** What it makes, by kind and name. */
  readonly makes?: readonly { readonly kind: Made; readonly name: string }[]
  readonly changes?: Thing
  readonly deletes?: Thing
  /** Live things that must make it a refusal. */
  readonly blockers?: readonly Thing[]
  /** Things it names, so that it must not be answered with 404. */
  readonly needs?: readonly Thing[]
}

const NAMES = ['a', 'b', 'c', 'd', 'e', 'f'] as const
/** Names of workloads that publish a port: by them no draw is spent. */
const PUBLISHING = new Set<string>(NAMES.filter((_, at) => at % 2 === 0))
const CIDRS = ['10.0.0.0/28', '10.0.1.0/29', '10.0.2.0/27', '192.168.0.0/28', '10.0.0.0/24'] as const
const gatewayOf = (cidr: string): string => cidr.replace(/\.0\/\d+$/, '.1')
const IMAGES = { 'idle:1': 6, 'web:2': 3, 'missing:1': 1 } as const

const WEIGHTS = {
  vpc: 5,
  subnet: 8,
  pod: 16,
  workload: 5,
  group: 3,
  table: 3,
  registry: 3,
  topology: 3,
  volume: 3,
  snapshot: 3,
  grow: 2,
  addReplica: 8,
  removeReplica: 6,
  tunnel: 8,
  restart: 5,
  stop: 4,
  start: 5,
  config: 7,
  patch: 4,
  deletePod: 7,
  deleteSubnet: 4,
  deleteGroup: 3,
  deleteTable: 2,
  deleteRegistry: 2,
  deleteTunnel: 3,
  deleteVpc: 3,
  deleteVolume: 2,
  deleteSnapshot: 1,
} as const

/** Draws a tenant's next request from what it was told it has; undefined when there is nothing to ask it of. */
export function drawRequest(random: Random, model: Model, of: Tenant): Request | undefined {
  const kind = random.weighted(WEIGHTS)
  const name = random.pick(NAMES)
  const some = (of_: Made): Thing | undefined => {
    const all = model.live(of.id, of_)
    return all.length ? random.pick(all) : undefined
  }
  const podFields = () => {
    const external = random.chance(0.4)
    return {
      name,
      container_image: random.weighted(IMAGES),
      replica_count: 1 + random.int(3),
      external_access: external,
      external_inbound: external && random.chance(0.5),
      auto_healing: random.chance(0.5),
      ...(random.chance(0.15) ? { auto_scaling: true, autoscale_max_replicas: 2 + random.int(3) } : {}),
    }
  }
  const subnetIn = (vpc: Thing): Thing | undefined => {
    const all = model.live(of.id, 'subnet').filter((it) => it.vpc === vpc.id)
    return all.length ? random.pick(all) : undefined
  }
  const remove = (it: Thing | undefined, path: (it: Thing) => string): Request | undefined =>
    it && { what: `delete ${it.kind}`, method: 'DELETE', path: path(it), deletes: it }
  const blocked = (it: Request | undefined): Request | undefined =>
    it?.deletes && { ...it, blockers: model.users(it.deletes.id) }
  const workload = some('workload')
  const vpc = some('vpc')
  const change = (method: 'POST' | 'PATCH' | 'DELETE', tail: string, body?: unknown): Request | undefined =>
    workload && {
      what: `${method} pod ${tail}`,
      method,
      path: `/circloud/pods/${workload.id}/${tail}`,
      ...(body === undefined ? {} : { body }),
      changes: workload,
      needs: [workload],
    }
  const make = (
    made: Made,
    path: string,
    body: Record<string, unknown>,
    needs: readonly Thing[] = [],
  ): Request => ({
    what: `create ${made}`,
    method: 'POST',
    path,
    body,
    makes: [{ kind: made, name }],
    needs,
  })
  switch (kind) {
    case 'vpc':
      return make('vpc', '/circloud/vpcs', { tenant_id: of.id, name, enable_internet: random.chance(0.8) })
    case 'subnet': {
      if (!vpc) return undefined
      const cidr = random.pick(CIDRS)
      const body = { tenant_id: of.id, vpc_id: vpc.id, name, cidr, gateway_ip: gatewayOf(cidr) }
      return make('subnet', '/circloud/subnets', body, [vpc])
    }
    case 'pod': {
      const subnet = vpc && subnetIn(vpc)
      if (!vpc || !subnet) return undefined
      const body = { tenant_id: of.id, vpc_id: vpc.id, subnet_id: subnet.id, ...podFields() }
      return make('workload', '/circloud/pods', body, [vpc, subnet])
    }
    case 'workload': {
      const subnet = vpc && subnetIn(vpc)
      if (!vpc || !subnet) return undefined
      const groups = model.live(of.id, 'security-group').filter((it) => it.vpc === vpc.id)
      const securityGroups = groups.length ? [random.pick(groups).id] : []
      const persistence = { enabled: random.chance(0.3), path: '/data' }
      const spec = {
        vpc: vpc.id,
        subnet: subnet.id,
        image: 'idle:1',
        replicas: 1 + random.int(2),
        securityGroups,
        persistence,
        ...(PUBLISHING.has(name) ? { published: [{ host: 0, container: 80, protocol: 'tcp' }] } : {}),
      }
      return make('workload', '/native/workload', { name, spec }, [vpc, subnet])
    }
    case 'group':
      return (
        vpc &&
        make('security-group', '/native/security-group', { name, spec: { vpc: vpc.id, rules: [] } }, [vpc])
      )
    case 'table': {
      const subnet = vpc && subnetIn(vpc)
      if (!vpc || !subnet) return undefined
      const spec = {
        vpc: vpc.id,
        subnets: [subnet.id],
        routes: [{ cidr: '203.0.113.0/24', target: 'blackhole' }],
      }
      return make('route-table', '/native/route-table', { name, spec }, [vpc, subnet])
    }
    case 'registry': {
      const body = { name, server: 'registry.example', username: 'me', password: 'secret' }
      return make('registry-credential', `/circloud/tenants/${of.id}/registry-credentials`, body)
    }
    case 'volume':
      return make('volume', '/native/volume', { name, spec: { sizeGib: 1 + random.int(3) } })
    case 'snapshot': {
      const volume = some('volume')
      return volume && make('snapshot', '/native/snapshot', { name, spec: { volume: volume.id } }, [volume])
    }
    case 'grow': {
      const volume = some('volume')
      return (
        volume && {
          what: 'patch volume',
          method: 'PATCH',
          path: `/native/volume/${volume.id}`,
          body: { spec: { sizeGib: 4 + random.int(4) } },
          changes: volume,
          needs: [volume],
        }
      )
    }
    case 'topology':
      return topology(random, of, name, podFields)
    case 'addReplica':
      return change('POST', 'replicas')
    case 'removeReplica':
      return change('DELETE', 'replicas')
    case 'tunnel': {
      // Of few names, which all tenants share.
      const subdomain = random.pick(NAMES)
      const protocol_type = random.pick(['http', 'https', 'ssh', 'tcp', 'udp'] as const)
      const body = { tunnel_name: name, subdomain, protocol_type, service_port: 8000 + random.int(3) }
      return workload && make('tunnel', `/circloud/pods/${workload.id}/tunnel`, body, [workload])
    }
    case 'deleteTunnel':
      return remove(some('tunnel'), (it) => `/circloud/tunnels/${it.id}`)
    case 'restart':
      return change('POST', 'restart')
    case 'stop':
    case 'start':
      return (
        workload && {
          what: `${kind} replica`,
          method: 'POST',
          path: `/native/replica/${workload.vpc}%2F${workload.name}-${random.int(2)}/${kind}`,
        }
      )
    case 'config':
      return change('PATCH', 'config', configOf(random))
    case 'patch':
      return (
        workload && {
          what: 'patch workload',
          method: 'PATCH',
          path: `/native/workload/${workload.id}`,
          body: {
            spec: random.pick([
              ...[250, 500, 1000, 2000].map((cpuMillicores) => ({ cpuMillicores })),
              { published: [{ host: 0, container: 81, protocol: 'tcp' }] },
              { published: null },
            ]),
          },
          changes: workload,
          needs: [workload],
        }
      )
    case 'deletePod':
      return remove(workload, (it) => `/circloud/pods/${it.id}`)
    case 'deleteSubnet':
      return blocked(remove(some('subnet'), (it) => `/native/subnet/${it.id}`))
    case 'deleteGroup':
      return blocked(remove(some('security-group'), (it) => `/native/security-group/${it.id}`))
    case 'deleteTable':
      return remove(some('route-table'), (it) => `/native/route-table/${it.id}`)
    case 'deleteRegistry':
      return remove(
        some('registry-credential'),
        (it) => `/circloud/tenants/${of.id}/registry-credentials/${it.name}`,
      )
    case 'deleteVolume':
      return remove(some('volume'), (it) => `/native/volume/${it.id}`)
    case 'deleteSnapshot':
      return remove(some('snapshot'), (it) => `/native/snapshot/${it.id}`)
    case 'deleteVpc':
      return remove(vpc, (it) => `/circloud/vpcs/${it.id}`)
  }
}

const configOf = (random: Random): unknown =>
  random.pick<() => unknown>([
    () => ({ auto_healing: random.chance(0.5) }),
    () => ({ persistent: random.chance(0.5), persistent_mount_path: '/data' }),
    () => ({ auto_scaling: true, autoscale_max_replicas: 2 + random.int(3) }),
    () => ({ auto_scaling: false }),
  ])()

/** A document of two networks, whose second pod sometimes cannot be: then nothing of it may be. */
function topology(random: Random, of: Tenant, name: string, pod: () => Record<string, unknown>): Request {
  const names = { vpc: `${name}-t`, subnet: 'front' }
  const pods = ['one', 'two'].map((it) => ({
    ...pod(),
    name: it,
    vpc_name: names.vpc,
    subnet_name: it === 'two' && random.chance(0.3) ? 'nowhere' : names.subnet,
  }))
  return {
    what: 'deploy topology',
    method: 'POST',
    path: `/circloud/tenants/${of.id}/topology`,
    body: {
      vpcs: [{ name: names.vpc, enable_internet: true }],
      subnets: [{ name: names.subnet, vpc_name: names.vpc, cidr: '10.9.0.0/28', gateway_ip: '10.9.0.1' }],
      pods,
    },
    makes: [
      { kind: 'vpc', name: names.vpc },
      { kind: 'subnet', name: names.subnet },
      ...pods.map((it) => ({ kind: 'workload' as const, name: it.name })),
    ],
  }
}

// Not to be had now, and no room: refusals, not failures.
const REFUSALS: readonly number[] = [503, 507]

export type Answer = { readonly status: number; readonly body: unknown } | 'lost'

/** Brings the model to what an answer says; without one, to what was done, all of it or nothing. Says what is wrong. */
export function learn(
  model: Model,
  of: Tenant,
  request: Request,
  answer: Answer,
  rows: readonly Row[],
): string[] {
  const news = model.unknown(of.id, rows)
  const wrongs: string[] = []
  const wrong = (text: string): void => void wrongs.push(`${request.what} ${request.path}: ${text}`)
  const done = answer !== 'lost' && answer.status < 300
  // Its tenant may be on its way out at this moment.
  const isGoing = of.going || of.asking > 1
  const text =
    answer === 'lost' ? 'no answer' : `${answer.status} ${(JSON.stringify(answer.body) ?? '').slice(0, 300)}`
  if (answer !== 'lost' && answer.status >= 500 && !REFUSALS.includes(answer.status))
    wrong(`answered ${text}`)
  if (answer !== 'lost' && answer.status === 404 && !isGoing)
    for (const it of request.needs ?? [])
      if (!it.going) wrong(`${it.kind} ${it.id} was acknowledged, and now ${text}`)

  if (request.makes) {
    const made = news.map((row) => `${row.kind} ${row.name}`).toSorted()
    const asked = request.makes.map((it) => `${it.kind} ${it.name}`).toSorted()
    const isWhole = made.join() === asked.join()
    // What was made may be gone again with its tenant.
    if (done && !isWhole && !isGoing) wrong(`answered ${text}, and made ${made.join(', ') || 'nothing'}`)
    if (answer !== 'lost' && !done && made.length) wrong(`was refused (${text}), and made ${made.join(', ')}`)
    if (answer === 'lost' && made.length && !isWhole)
      wrong(`made only ${made.join(', ')} of ${asked.join(', ')}`)
    for (const row of news) model.adopt(row)
    return wrongs
  }
  for (const row of news) wrong(`made ${row.kind} ${row.name}`)
  const thing = request.changes ?? request.deletes
  const row = rows.find((it) => it.id === thing?.id)
  if (!thing) return wrongs
  if (request.deletes) {
    const asked = row === undefined || row.deletedAt !== null
    if (done && !asked) wrong(`answered ${text}, and did nothing`)
    if (done && request.blockers?.some((it) => !it.going) && !isGoing)
      wrong(`went through although in use by ${request.blockers.map((it) => it.id).join()}`)
    const refused = answer !== 'lost' && answer.status === 409
    if (refused && !isGoing && !request.blockers?.length)
      wrong(`was refused (${text}), and nothing is in its way`)
    if (asked && (done || answer === 'lost')) model.goes(thing.id)
  } else if (row && row.deletedAt === null && (done || answer === 'lost')) {
    thing.expect = wishOf(row)
  }
  return wrongs
}
