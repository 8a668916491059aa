import { cidr } from '#lib/cidr.ts'
import { CloudError } from '#lib/errors.ts'
import { actionOf, authorise, creatorOf, ownTenant } from '#cloud/access.ts'
import { workload } from '#cloud/compute/workload.kind.ts'
import { needPromise, useQuota, type VerbContext } from '#cloud/context.ts'
import { found, toChange } from '#cloud/found.ts'
import { addressOpened } from '#cloud/observe/usage.kind.ts'
import { ELASTIC_IP_OF, elasticIp, type ElasticIp } from './elastic-ip.kind.ts'
import { internetGateway, type InternetGateway } from './internet-gateway.kind.ts'
import { natGateway, type NatGateway } from './nat-gateway.kind.ts'
import { liveVpc, pickExternal } from './network.verbs.ts'
import { addAutomatic, removeAutomatic, routesTo, EVERYWHERE } from './routes.verbs.ts'
import { subnet } from './subnet.kind.ts'

/** What everything that is made has. */
export type Named = { readonly name: string; readonly labels?: Record<string, string> }

/** A detached internet gateway; with a VPC, one that is attached to it. */
export async function createInternetGateway(
  context: VerbContext,
  { vpc, ...input }: Named & { readonly vpc?: string },
): Promise<InternetGateway> {
  const { name } = input
  authorise(context.caller, 'write', actionOf('internet-gateway', 'create'), {
    kind: 'internet-gateway',
    name,
  })
  needPromise(context, 'gateways', 'gateways')
  const tenant = ownTenant(context.caller)
  const made = context.draft.create(internetGateway, { tenant, ...input, spec: creatorOf(context.caller) })
  return vpc === undefined ? made : await attach(context, made, vpc)
}

/**
 * Attaches an internet gateway and leads `0.0.0.0/0` of the VPC's main table there, where nothing else does. Refused
 * `conflict`: when it is attached already (rule wrong_state), when the VPC has another one (rule in_use).
 */
export async function attachInternetGateway(
  context: VerbContext,
  id: string,
  vpc: string,
): Promise<InternetGateway> {
  return await attach(context, await gatewayOf(context, id), vpc)
}

async function attach(context: VerbContext, it: InternetGateway, to: string): Promise<InternetGateway> {
  const { draft } = context
  if (it.spec.vpc !== undefined)
    throw new CloudError('conflict', 'The internet gateway is attached already; detach it first', {
      rule: 'wrong_state',
    })
  const inVpc = await liveVpc(context, to)
  if (await draft.claimed('internet-gateway-of', inVpc.id))
    throw new CloudError('conflict', 'The VPC has an internet gateway already; detach that one first', {
      rule: 'in_use',
    })
  await addAutomatic(context, inVpc, { cidr: EVERYWHERE, target: 'internet-gateway', to: it.id })
  return draft.edit(internetGateway, it, { spec: { ...it.spec, vpc: inVpc.id } })
}

/**
 * Detaches an internet gateway and takes the automatic route away. Refused `conflict`: when it is not attached (rule
 * wrong_state), while other routes lead to it (rule in_use).
 */
export async function detachInternetGateway(context: VerbContext, id: string): Promise<InternetGateway> {
  const { draft } = context
  const it = await gatewayOf(context, id)
  const from = it.spec.vpc
  if (from === undefined)
    throw new CloudError('conflict', 'The internet gateway is not attached', { rule: 'wrong_state' })
  await draft.guard(`routes:${from}`, from)
  const left = (await routesTo(context, from, it.id)).filter((one) => !one.automatic)
  if (left.length)
    throw new CloudError(
      'conflict',
      `Routes lead to the internet gateway; remove them first: ${left.map((one) => one.cidr).join(', ')}`,
      { rule: 'in_use' },
    )
  await removeAutomatic(context, from, it.id)
  draft.wake(`vpc/${from}`)
  return detached(context, it)
}

/** The gateway without its VPC, whatever leads to it. */
export function detached({ draft }: VerbContext, it: InternetGateway): InternetGateway {
  const { vpc: _vpc, ...spec } = it.spec
  return draft.edit(internetGateway, it, { spec })
}

/** An address of the external pool, the tenant's until it is released. */
export async function createElasticIp(context: VerbContext, input: Named): Promise<ElasticIp> {
  authorise(context.caller, 'write', actionOf('elastic-ip', 'create'), {
    kind: 'elastic-ip',
    name: input.name,
  })
  needPromise(context, 'elastic-ip', 'elastic IPs')
  const tenant = ownTenant(context.caller)
  const address = await pickExternal(context)
  const made = context.draft.create(elasticIp, {
    tenant,
    ...input,
    spec: { address, ...creatorOf(context.caller) },
  })
  useQuota(context.draft, tenant, 'externalAddresses', made.id)
  context.draft.record(addressOpened(made, address))
  return made
}

/**
 * Associates an elastic IP with a workload; the same one again does nothing. Refused `conflict`: when it is in use
 * otherwise (rule wrong_state), when the workload has an external address already (rule in_use).
 */
export async function associateElasticIp(context: VerbContext, id: string, to: string): Promise<ElasticIp> {
  const { draft } = context
  const it = await elasticIpOf(context, id)
  const of = await found(context, workload, to, 'Pod')
  if (it.spec.workload === of.id) return it
  await needFree(context, it)
  if (of.spec.externalAddress !== undefined || (await draft.claimed(ELASTIC_IP_OF, of.id)))
    throw new CloudError('conflict', 'The workload has an external address already', { rule: 'in_use' })
  return draft.edit(elasticIp, it, { spec: { ...it.spec, workload: of.id, vpc: of.spec.vpc } })
}

/** Takes an elastic IP from its workload. Refused `conflict` (rule wrong_state) when it is not associated. */
export async function disassociateElasticIp(context: VerbContext, id: string): Promise<ElasticIp> {
  const it = await elasticIpOf(context, id)
  if (it.spec.workload === undefined)
    throw new CloudError('conflict', 'The elastic IP is not associated', { rule: 'wrong_state' })
  return free(context, it)
}

function free({ draft }: VerbContext, it: ElasticIp): ElasticIp {
  if (it.spec.vpc !== undefined) draft.wake(`vpc/${it.spec.vpc}`)
  const { workload: _workload, vpc: _vpc, ...spec } = it.spec
  return draft.edit(elasticIp, it, { spec })
}

/** Gives back what is associated with a workload that goes, or with any of a VPC that goes. */
export async function freeElasticIps(
  context: VerbContext,
  of: { readonly workload: string } | { readonly vpc: string },
): Promise<void> {
  const { draft, caller } = context
  const tenant = ownTenant(caller)
  if ('workload' in of) {
    const claim = await draft.claimed(ELASTIC_IP_OF, of.workload)
    const it = claim && (await draft.get(elasticIp, tenant, claim.owner))
    if (it) free(context, it)
    return
  }
  for (const it of await draft.list(elasticIp, { tenant, terms: [`vpc:${of.vpc}`], deleted: false }))
    free(context, it)
}

/** Refuses to release an elastic IP that is in use (`conflict`, rule in_use). */
export function checkRelease(it: ElasticIp): void {
  if (it.spec.workload !== undefined)
    throw new CloudError('conflict', 'The elastic IP is associated; disassociate it first', {
      rule: 'in_use',
    })
}

/** Refuses to delete an internet gateway that is attached (`conflict`, rule wrong_state). */
export function checkDetached(it: InternetGateway): void {
  if (it.spec.vpc !== undefined)
    throw new CloudError('conflict', 'The internet gateway is attached; detach it first', {
      rule: 'wrong_state',
    })
}

async function needFree({ draft }: VerbContext, it: ElasticIp): Promise<void> {
  const isUsed = await draft.list(natGateway, {
    tenant: it.tenant,
    terms: [`elastic-ip:${it.id}`],
    deleted: false,
  })
  if (it.spec.workload === undefined && !isUsed.length) return
  const by = isUsed[0] ? `NAT gateway ${isUsed[0].name}` : 'a workload'
  throw new CloudError('conflict', `The elastic IP is in use by ${by}`, { rule: 'wrong_state' })
}

/**
 * A NAT gateway in a subnet, with an address of that and an elastic IP. Refused `conflict`: when the elastic IP is in use
 * (rule wrong_state), when the subnet has one already (rule in_use).
 */
export async function createNatGateway(
  context: VerbContext,
  input: Named & { readonly subnet: string; readonly elasticIp: string },
): Promise<NatGateway> {
  authorise(context.caller, 'write', actionOf('nat-gateway', 'create'), {
    kind: 'nat-gateway',
    name: input.name,
  })
  needPromise(context, 'gateways', 'gateways')
  const { draft, caller, pick } = context
  const tenant = ownTenant(caller)
  const inSubnet = await found(context, subnet, input.subnet, 'Subnet')
  const by = await elasticIpOf(context, input.elasticIp)
  await needFree(context, by)
  if (await draft.claimed('nat-gateway-of', inSubnet.id))
    throw new CloudError('conflict', 'The subnet has a NAT gateway already', { rule: 'in_use' })
  const privateAddress = await pick.address(draft, `addresses:${inSubnet.id}`, cidr(inSubnet.spec.cidr), [
    inSubnet.spec.gateway,
  ])
  if (privateAddress === undefined)
    throw new CloudError('exhausted', `No address is free in subnet ${inSubnet.name}`, { rule: 'capacity' })
  const { name, labels } = input
  const spec = { vpc: inSubnet.spec.vpc, subnet: inSubnet.id, elasticIp: by.id, privateAddress }
  return draft.create(natGateway, {
    tenant,
    name,
    ...(labels ? { labels } : {}),
    spec: { ...spec, address: by.spec.address, ...creatorOf(caller) },
  })
}

async function gatewayOf(context: VerbContext, id: string): Promise<InternetGateway> {
  return await toChange(context, internetGateway, id, 'Internet gateway')
}

async function elasticIpOf(context: VerbContext, id: string): Promise<ElasticIp> {
  return await toChange(context, elasticIp, id, 'Elastic IP')
}
