import { objectId, uuidPrefix } from '#lib/object-id.ts'
import { CloudError } from '#lib/errors.ts'
import { remembered } from '#lib/remembered.ts'
import type { TSchema } from 'typebox'
import type { Engine } from '#engine/engine.ts'
import type { Everything } from '#engine/everything.ts'
import type { Kind } from '#engine/kind.ts'
import { ALL, PLATFORM } from '#engine/resource.ts'
import { replica, type Replica } from '#cloud/compute/replica.kind.ts'
import { SERVICES, workload, type Workload } from '#cloud/compute/workload.kind.ts'
import { tenant } from '#cloud/identity/tenant.kind.ts'
import { address6Of, cidr6Of, macOf } from '#cloud/network/addresses.driver.ts'
import { subnet, type Subnet } from '#cloud/network/subnet.kind.ts'
import { vpc, type Vpc } from '#cloud/network/vpc.kind.ts'
import type { Environment, Instance, PlacedReplica, PlacedWorkload } from './inside.ts'
import { network, type Network } from './network.kind.ts'
import { goodAttempts, type Tokens } from './token.ts'

/** What there is in some of a tenant's VPCs. */
type Ground = {
  readonly vpcs: readonly Vpc[]
  readonly subnets: readonly Subnet[]
  readonly workloads: readonly Workload[]
  readonly replicas: readonly Replica[]
}

const byId = <R extends { readonly id: string }>(all: readonly R[]): ReadonlyMap<string, R> =>
  new Map(all.map((it) => [it.id, it]))
export const oldestFirst = <R extends { readonly id: string }>(all: readonly R[]): R[] =>
  all.toSorted((a, b) => (a.id < b.id ? -1 : 1))

function placeReplicas({ vpcs, subnets, workloads, replicas }: Ground): PlacedReplica[] {
  const [ofVpc, ofSubnet, ofWorkload] = [byId(vpcs), byId(subnets), byId(workloads)]
  return oldestFirst(replicas).flatMap((it) => {
    const [inVpc, inSubnet] = [ofVpc.get(it.spec.vpc), ofSubnet.get(it.spec.subnet)]
    const of = ofWorkload.get(it.spec.workload)
    if (!inVpc || !inSubnet || !of) return []
    const { range6 } = inVpc.spec
    return {
      replica: it,
      workload: of,
      vpc: inVpc,
      subnet: inSubnet,
      address6: address6Of(range6, inSubnet.spec.index6, it.spec.address),
      cidr6: cidr6Of(range6, inSubnet.spec.index6),
      mac: macOf(it.spec.address),
    }
  })
}

function placeWorkloads({ vpcs, subnets, workloads, replicas }: Ground): PlacedWorkload[] {
  const [ofVpc, ofSubnet] = [byId(vpcs), byId(subnets)]
  return oldestFirst(workloads).flatMap((it) => {
    const [inVpc, inSubnet] = [ofVpc.get(it.spec.vpc), ofSubnet.get(it.spec.subnet)]
    if (!inVpc || !inSubnet) return []
    const own = replicas.filter((one) => one.spec.workload === it.id)
    const starts = own.flatMap((one) => (one.status.phase === 'running' ? (one.status.startedAt ?? []) : []))
    const { vip } = it.spec
    return {
      workload: it,
      vpc: inVpc,
      subnet: inSubnet,
      ...(vip === undefined ? {} : { address6: address6Of(inVpc.spec.range6, inSubnet.spec.index6, vip) }),
      ...(starts.length ? { startedAt: Math.min(...starts) } : {}),
      wanted: own.filter((one) => one.spec.stopped !== true).length,
    }
  })
}

function environmentOf(it: Vpc, ground: Ground): Environment {
  const own = placeWorkloads(ground).filter((one) => one.vpc.id === it.id)
  const services = SERVICES.flatMap((service) => {
    const of = own.find((one) => one.workload.spec.service === service)
    return of ? [[service, of] as const] : []
  })
  return {
    vpc: it,
    subnets: ground.subnets.filter((one) => one.spec.vpc === it.id),
    services: Object.fromEntries(services),
  }
}

const workloadsIn = remembered(placeWorkloads)
const replicasIn = remembered(placeReplicas)

/** Whom a token stands for, and what is visible from there. Nothing of it is kept longer than it is true. */
export function createSight(engine: Engine, everything: Everything, tokens: Tokens) {
  const recall = engine.store.recall<Instance>()
  const find = async (id: string): Promise<Instance | undefined> => {
    const it = await engine.get(replica, ALL, id)
    if (!it || it.deletedAt !== undefined) return undefined
    const [of, inVpc, owner] = await Promise.all([
      engine.get(workload, it.tenant, it.spec.workload),
      engine.get(vpc, it.tenant, it.spec.vpc),
      engine.get(tenant, PLATFORM, it.tenant),
    ])
    return of && inVpc && owner && owner.deletedAt === undefined
      ? { replica: engine.redact(it), workload: of, vpc: inVpc, tenant: owner }
      : undefined
  }
  const instance = async (id: string): Promise<Instance | undefined> =>
    await recall(id, async () => await find(id))

  const live = { deleted: false } as const
  const inVpcs = async (of: Instance, ids: readonly string[]): Promise<Ground> => {
    const { id: owner } = of.tenant
    const read = async <S extends TSchema, T extends TSchema>(kind: Kind<S, T>) =>
      (
        await Promise.all(
          ids.map(async (id) => await everything(kind, owner, { ...live, terms: [`vpc:${id}`] })),
        )
      ).flat()
    const [vpcs, subnets, workloads, replicas] = await Promise.all([
      Promise.all(ids.map(async (id) => await engine.get(vpc, owner, id))),
      read(subnet),
      read(workload),
      read(replica),
    ])
    return {
      vpcs: vpcs.filter((it) => it !== undefined && it.deletedAt === undefined) as Vpc[],
      subnets,
      workloads,
      replicas: replicas.map(engine.redact),
    }
  }
  const ofTenant = async ({ tenant: { id: owner } }: Instance): Promise<Ground> => {
    const [vpcs, subnets, workloads, replicas] = await Promise.all([
      everything(vpc, owner, live),
      everything(subnet, owner, live),
      everything(workload, owner, live),
      everything(replica, owner, live),
    ])
    return { vpcs, subnets, workloads, replicas: replicas.map(engine.redact) }
  }
  const networks = async (of: Instance): Promise<readonly Network[]> =>
    await everything(network, of.tenant.id, { ...live, terms: [`vpc:${of.vpc.id}`] })
  /** Its own VPC apart, none without a network. */
  const joinedIds = async (of: Instance): Promise<string[]> => [
    ...new Set((await networks(of)).flatMap((it) => it.spec.members.map((one) => one.vpc))),
  ]

  /** A workload of the caller's VPC by its 24 digits; its own without. */
  const workloadOf = async (of: Instance, id?: string): Promise<Workload> => {
    if (id === undefined) return of.workload
    const prefix = uuidPrefix(id)
    if (prefix === undefined)
      throw new CloudError('invalid', 'must be 24 hexadecimal digits', { field: 'workload' })
    const page = await engine.list(workload, { tenant: of.tenant.id, after: prefix, limit: 1, ...live })
    const [it] = page.items
    if (!it?.id.startsWith(prefix) || it.spec.vpc !== of.vpc.id)
      throw new CloudError('not_found', 'There is no such container in the environment of this instance', {
        field: 'workload',
      })
    return it
  }
  const grounds = engine.store.recall<Ground>()
  const narrowed = async (of: Instance, id?: string): Promise<Ground> => {
    const it = await workloadOf(of, id)
    return (await grounds(it.id, async () => await groundOf(of, it))) ?? (await groundOf(of, it))
  }
  const groundOf = async (of: Instance, it: Workload): Promise<Ground> => {
    const terms = [`workload:${it.id}`]
    const [inSubnet, replicas] = await Promise.all([
      engine.get(subnet, of.tenant.id, it.spec.subnet),
      everything(replica, of.tenant.id, { ...live, terms }),
    ])
    return {
      vpcs: [of.vpc],
      subnets: inSubnet ? [inSubnet] : [],
      workloads: [it],
      replicas: replicas.map(engine.redact),
    }
  }

  return {
    instance,
    async authenticate(token: string): Promise<Instance | 'expired' | undefined> {
      const bearer = tokens.read(token)
      if (!bearer) return undefined
      const it = await instance(bearer.replica)
      if (!it) return 'expired'
      return goodAttempts(it.replica).includes(bearer.attempt) ? it : 'expired'
    },
    workloadOf,
    networks,
    joinedIds,
    environment: async (of: Instance) => environmentOf(of.vpc, await inVpcs(of, [of.vpc.id])),
    workloads: async (of: Instance) => placeWorkloads(await inVpcs(of, [of.vpc.id])),
    replicas: async (of: Instance) => placeReplicas(await inVpcs(of, [of.vpc.id])),
    async workload(of: Instance, id?: string): Promise<PlacedWorkload> {
      const [placed] = workloadsIn(await narrowed(of, id))
      if (!placed) throw new CloudError('not_found', 'The container is going', { field: 'workload' })
      return placed
    },
    replicasOf: async (of: Instance, id?: string) => replicasIn(await narrowed(of, id)),
    async joined(of: Instance): Promise<readonly Environment[]> {
      const ground = await inVpcs(of, await joinedIds(of))
      return oldestFirst(ground.vpcs).map((it) => environmentOf(it, ground))
    },
    joinedReplicas: async (of: Instance) => placeReplicas(await inVpcs(of, await joinedIds(of))),
    serverReplicas: async (of: Instance) => placeReplicas(await ofTenant(of)),
    async serverWorkloads(of: Instance): Promise<readonly PlacedWorkload[]> {
      const ground = await ofTenant(of)
      const used = new Set(ground.replicas.map((it) => it.spec.workload))
      return placeWorkloads(ground).filter((it) => used.has(it.workload.id))
    },
    /** A replica of a workload by its 24 digits. */
    async replicaOf(of: Instance, task: { workload: string; replica: string }): Promise<Replica> {
      const { replicas } = await narrowed(of, task.workload)
      const it = replicas.find((one) => objectId(one.id) === task.replica.toLowerCase())
      if (!it)
        throw new CloudError('not_found', 'There is no such instance of this container', { field: 'replica' })
      return it
    },
  }
}
export type Sight = ReturnType<typeof createSight>
