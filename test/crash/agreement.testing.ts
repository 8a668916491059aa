import { isDeepStrictEqual } from 'node:util'
import type { Ask } from './ledger.testing.ts'
import type { SimulatedWorld } from './world.testing.ts'

type Resource = {
  kind: string
  id: string
  name: string
  settled: boolean
  deletedAt?: string
  overdue?: string
  spec: {
    vpc: string
    workload: string
    attempt: number
    image: string
    replicas: number
    env: Record<string, string>
  }
}

const never = new AbortController().signal

/**
 * Every way in which the world differs from the records of these tenants, who are all that there is; empty when both are
 * the same and nothing is on its way.
 */
export async function differences(asks: readonly Ask[], world: SimulatedWorld): Promise<string[]> {
  const found: string[] = []
  const list = async (kind: string): Promise<Resource[]> => {
    const answers = await Promise.all(asks.map((ask) => ask('GET', `/${kind}?limit=1000`)))
    return answers.flatMap((it) => (it.body as { items: Resource[] }).items)
  }
  const [vpcs, subnets, workloads, replicas] = await Promise.all(
    ['vpc', 'subnet', 'workload', 'replica'].map(list),
  )
  if (!vpcs || !subnets || !workloads || !replicas) throw new Error('the records were not listed')
  for (const it of [...vpcs, ...subnets, ...workloads, ...replicas])
    if (!it.settled || it.deletedAt !== undefined)
      found.push(`${it.kind} ${it.name} is ${it.overdue ?? 'on its way'}`)
  const same = (what: string, records: readonly string[], real: readonly string[]): void => {
    if (!isDeepStrictEqual(records.toSorted(), real.toSorted()))
      found.push(`${what}: records say ${records.toSorted().join()}, the world ${real.toSorted().join()}`)
  }
  const ids = (all: readonly { id: string }[]): string[] => all.map((it) => it.id)
  const containers = await world.compute.list(never)
  same('containers', ids(replicas), ids(containers))
  same('routers', ids(vpcs), [...world.network.plans.keys()])
  same('zones', ids(vpcs), [...world.edge.zones.keys()])
  for (const it of containers) if (it.state !== 'running') found.push(`container ${it.id} is ${it.state}`)
  for (const it of workloads) {
    const own = replicas.filter((one) => one.spec.workload === it.id)
    if (own.length !== it.spec.replicas)
      found.push(`${it.name} has ${own.length} of ${it.spec.replicas} replicas`)
    for (const one of own) {
      const wish = world.compute.wishes.get(one.id)
      const real = wish && { image: wish.image, env: asked(wish.env), attempt: wish.attempt }
      const wanted = { image: it.spec.image, env: it.spec.env, attempt: one.spec.attempt }
      if (!isDeepStrictEqual(real, wanted))
        found.push(`${one.name} runs ${JSON.stringify(real)}, wanted is ${JSON.stringify(wanted)}`)
    }
  }
  for (const it of vpcs) {
    const plan = world.network.plans.get(it.id)
    same(`attachments of ${it.name}`, ids(replicas.filter((one) => one.spec.vpc === it.id)), [
      ...(plan?.attachments.map((one) => one.id) ?? []),
    ])
    const backends = plan?.vips.flatMap((one) => one.backends) ?? []
    same(`backends of ${it.name}`, ids(replicas.filter((one) => one.spec.vpc === it.id)), backends)
  }
  return found
}

/** The variables that somebody asked for, without those by which the platform tells a container who it is. */
const asked = (env: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('CYCLE_')))

/** What the world holds although nothing should be left in it. */
export async function remains(world: SimulatedWorld): Promise<string[]> {
  return [
    ...(await world.compute.list(never)).map((it) => `container ${it.id}`),
    ...(await world.compute.volumes(never)).map((it) => `volume ${it}`),
    ...[...world.network.plans.keys()].map((it) => `router ${it}`),
    ...[...world.edge.zones.keys()].map((it) => `zone ${it}`),
  ]
}
