import { cidr } from '#lib/cidr.ts'
import { CloudError } from '#lib/errors.ts'
import { actionOf, authorise, creatorOf, ownTenant } from '#cloud/access.ts'
import { workload } from '#cloud/compute/workload.kind.ts'
import { needPromise, type VerbContext } from '#cloud/context.ts'
import { toChange } from '#cloud/found.ts'
import type { Named } from './gateway.verbs.ts'
import {
  BALANCER_PORT,
  type LoadBalancer,
  loadBalancer,
  type Target,
  TARGETS_MAX,
} from './load-balancer.kind.ts'
import { BALANCER_PORTS } from './network.driver.ts'
import { liveVpc } from './network.verbs.ts'
import { subnet } from './subnet.kind.ts'

const TITLE = 'Load balancer'

export type NewBalancer = Named & { readonly vpc: string } & Pick<LoadBalancer['spec'], 'port' | 'algorithm'>

/** A load balancer without targets. Where the VPC has no subnet yet it gets its address with its first target. */
export async function createBalancer(
  context: VerbContext,
  { vpc, port, algorithm, ...input }: NewBalancer,
): Promise<LoadBalancer> {
  const { draft, caller, pick } = context
  authorise(caller, 'write', actionOf(loadBalancer.name, 'create'), {
    kind: loadBalancer.name,
    name: input.name,
  })
  needPromise(context, 'balancers', 'load balancers')
  const inVpc = await liveVpc(context, vpc)
  const index = await pick.index(draft, BALANCER_PORT, BALANCER_PORTS.to - BALANCER_PORTS.from)
  if (index === undefined)
    throw new CloudError('exhausted', 'This installation has no room for another load balancer', {
      rule: 'capacity',
    })
  return draft.create(loadBalancer, {
    tenant: ownTenant(caller),
    ...input,
    spec: {
      vpc: inVpc.id,
      port,
      algorithm,
      at: BALANCER_PORTS.from + index,
      ...(await placed(context, inVpc.id)),
      targets: [],
      ...creatorOf(caller),
    },
  })
}

/** A free address of the first subnet of a VPC that has one. */
async function placed(
  { draft, caller, pick }: VerbContext,
  vpc: string,
): Promise<Pick<LoadBalancer['spec'], 'subnet' | 'address'>> {
  const query = { tenant: ownTenant(caller), terms: [`vpc:${vpc}`], deleted: false }
  const subnets = await draft.list(subnet, query)
  for (const it of subnets) {
    const range = cidr(it.spec.cidr)
    const address = await pick.address(draft, `addresses:${it.id}`, range, [it.spec.gateway])
    if (address !== undefined) return { subnet: it.id, address }
  }
  if (subnets.length)
    throw new CloudError('exhausted', 'No address is free in the subnets of the VPC', { rule: 'capacity' })
  return {}
}

export type NewTarget = Omit<Target, 'id'>

/**
 * A workload of the same VPC as a target. Refused `invalid` (rule other_vpc) for one of another VPC, `already_exists` for one
 * that is a target already.
 */
export async function addTarget(
  context: VerbContext,
  id: string,
  { workload: of, port, weight }: NewTarget,
): Promise<LoadBalancer> {
  const { draft } = context
  const it = await toChange(context, loadBalancer, id, TITLE)
  await draft.guard(`balanced:${of}`, of)
  const target = await draft.get(workload, it.tenant, of)
  if (!target || target.deletedAt !== undefined)
    throw new CloudError('not_found', 'Instance not found', { rule: 'no_target' })
  if (target.spec.vpc !== it.spec.vpc)
    throw new CloudError('invalid', 'is in another VPC than the load balancer', {
      field: 'workload',
      rule: 'other_vpc',
    })
  if (it.spec.targets.some((one) => one.workload === target.id))
    throw new CloudError('already_exists', 'The instance is a target of the load balancer already')
  if (it.spec.targets.length >= TARGETS_MAX)
    throw new CloudError('exhausted', `A load balancer has at most ${TARGETS_MAX} targets`, {
      rule: 'capacity',
    })
  const place = it.spec.address === undefined ? await placed(context, it.spec.vpc) : {}
  const targets = [...it.spec.targets, { id: draft.id(), workload: target.id, port, weight }]
  return draft.edit(loadBalancer, it, { spec: { ...it.spec, ...place, targets } })
}

/** `not_found` for a workload that is no target. */
export async function removeTarget(context: VerbContext, id: string, of: string): Promise<LoadBalancer> {
  const it = await toChange(context, loadBalancer, id, TITLE)
  if (!it.spec.targets.some((one) => one.workload === of))
    throw new CloudError('not_found', 'The instance is no target of the load balancer')
  return without(context, it, of)
}

const without = ({ draft }: VerbContext, it: LoadBalancer, of: string): LoadBalancer =>
  draft.edit(loadBalancer, it, {
    spec: { ...it.spec, targets: it.spec.targets.filter((one) => one.workload !== of) },
  })

/** Takes a workload that goes out of every load balancer; nobody makes it a target meanwhile. */
export async function leaveBalancers(context: VerbContext, of: string): Promise<void> {
  await context.draft.guard(`balanced:${of}`, of)
  const query = { tenant: ownTenant(context.caller), terms: [`workload:${of}`], deleted: false }
  for (const it of await context.draft.list(loadBalancer, query)) without(context, it, of)
}

/** The targets that the native API wants in the place of those before, each by its workload. */
export async function setTargets(
  context: VerbContext,
  it: LoadBalancer,
  wanted: readonly NewTarget[],
): Promise<LoadBalancer> {
  let now = it
  for (const one of it.spec.targets) {
    const stays = wanted.some(
      (two) => two.workload === one.workload && two.port === one.port && two.weight === one.weight,
    )
    if (!stays) now = await removeTarget(context, it.id, one.workload)
  }
  for (const one of wanted)
    if (!now.spec.targets.some((two) => two.workload === one.workload))
      now = await addTarget(context, it.id, one)
  return now
}
