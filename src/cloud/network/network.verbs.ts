import type { TSchema } from 'typebox'
import {
  cidr,
  type Cidr,
  contains,
  formatCidr,
  formatIpv4,
  isUsable,
  overlaps,
  parseCidr,
  parseIpv4,
  within,
} from '#lib/cidr.ts'
import { CloudError } from '#lib/errors.ts'
import type { Draft } from '#engine/draft.ts'
import type { Kind } from '#engine/kind.ts'
import { ALL, PLATFORM, type Resource } from '#engine/resource.ts'
import { authorise, authoriseFirst, creatorOf, ownTenant } from '#cloud/access.ts'
import { needPromise, useQuota, type VerbContext } from '#cloud/context.ts'
import { found, toChange } from '#cloud/found.ts'
import { randomRange6, vpcIndexMax } from './addresses.driver.ts'
import { network as joiner } from '#cloud/inside/network.kind.ts'
import { provider, type Provider } from './provider.kind.ts'
import { subnet, type Subnet } from './subnet.kind.ts'
import { vpc, type Vpc } from './vpc.kind.ts'

const PREFIX_MIN = 8
const PREFIX_MAX = 29
// No machine may have these: this network, loopback, link-local (resolver and metadata), multicast and reserved.
const UNUSABLE = ['0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '224.0.0.0/3'].map(cidr)

export type NewVpc = {
  readonly name: string
  readonly internet: boolean
  readonly labels?: Record<string, string>
  /** The range that its subnets must lie in. */
  readonly cidr?: string
} & Pick<Vpc['spec'], 'vpn' | 'deployments'>

export async function createVpc(context: VerbContext, input: NewVpc): Promise<Vpc> {
  const { draft, caller, settings, pick } = context
  authorise(caller, 'write', 'vpc:create', { kind: 'vpc', name: input.name })
  const tenant = ownTenant(caller)
  const range = input.cidr === undefined ? undefined : usableRange(input.cidr, settings.fabric)
  const index = await pick.index(draft, 'vpc-index', vpcIndexMax(settings.fabric))
  if (index === undefined)
    throw new CloudError('exhausted', 'This installation has no room for another VPC', { rule: 'capacity' })
  const made = draft.create(vpc, {
    tenant,
    name: input.name,
    ...(input.labels ? { labels: input.labels } : {}),
    spec: {
      internet: input.internet,
      index,
      range6: randomRange6(),
      ...(input.vpn === undefined ? {} : { vpn: input.vpn }),
      ...(input.deployments === undefined ? {} : { deployments: input.deployments }),
      ...(range === undefined ? {} : { cidr: formatCidr(range) }),
      ...creatorOf(caller),
    },
  })
  claimName(context, made, input.name)
  useQuota(draft, tenant, 'vpcs', made.id)
  return made
}

const namePool = (tenant: string): string => `vpc-name:${tenant}`

const claimName = ({ draft }: VerbContext, { tenant, id }: Vpc, value: string): void =>
  draft.claim(
    { pool: namePool(tenant), value, ends: 'deletion', refusal: 'VPC with this name already exists' },
    id,
  )

/** Gives a VPC another name, by which its workloads are found from then on; `already_exists` for one that is in use. */
export async function renameVpc(context: VerbContext, id: string, name: string): Promise<Vpc> {
  const it = await toChange(context, vpc, id, 'VPC')
  if (name === it.name) return it
  context.draft.release(namePool(it.tenant), it.name, it.id)
  claimName(context, it, name)
  return context.draft.edit(vpc, it, { name })
}

/** Kinds that go with a VPC although they keep other things from going. */
const FOLLOW = [
  'workload',
  'replica',
  'subnet',
  'security-group',
  'route-table',
  'nat-gateway',
  'load-balancer',
]

export async function deleteVpc(
  { draft, caller }: VerbContext,
  id: string,
  how: { hold?: readonly string[] } = {},
): Promise<Vpc> {
  authoriseFirst(caller, 'write', 'vpc:delete')
  const it = await existingVpc({ draft, caller }, id)
  authorise(caller, 'write', 'vpc:delete', it)
  const joining = { tenant: it.tenant, terms: [`vpc:${it.id}`], deleted: false }
  for (const joined of await draft.list(joiner, joining))
    draft.edit(joiner, joined, {
      spec: { members: joined.spec.members.filter((one) => one.vpc !== it.id) },
    })
  draft.mark(it, { follow: FOLLOW, ...how })
  return it
}

export type NewSubnet = {
  readonly vpc: string
  readonly name: string
  readonly cidr: string
  /** The first usable address of the range unless told. */
  readonly gateway?: string
  readonly labels?: Record<string, string>
}

/** `checkPeered` refuses what overlaps a range behind a peering. */
export async function createSubnet(
  context: VerbContext,
  input: NewSubnet,
  checkPeered: (context: VerbContext, it: Vpc, range: string) => Promise<void>,
): Promise<Subnet> {
  const { draft, caller, settings, pick } = context
  authorise(caller, 'write', 'vpc:update', { kind: 'subnet', name: input.name })
  const tenant = ownTenant(caller)
  const range = usableRange(input.cidr, settings.fabric)
  const { gateway: at = formatIpv4(range.base + 1) } = input
  const gateway = parseIpv4(at)
  if (gateway === undefined || !isUsable(range, gateway))
    throw new CloudError('invalid', `must be a usable address inside ${input.cidr}`, { field: 'gateway' })
  const parent = await liveVpc(context, input.vpc)
  if (parent.spec.cidr !== undefined && !within(cidr(parent.spec.cidr), range))
    throw new CloudError('invalid', `must lie in the VPC's range ${parent.spec.cidr}`, { field: 'cidr' })
  await draft.guard(`subnets:${parent.id}`, parent.id)
  const siblings = await draft.list(subnet, { tenant, terms: [`vpc:${parent.id}`] })
  for (const other of siblings)
    if (overlaps(cidr(other.spec.cidr), range))
      throw new CloudError('conflict', `${input.cidr} overlaps subnet ${other.name} (${other.spec.cidr})`, {
        field: 'cidr',
        rule: 'in_use',
      })
  await checkPeered(context, parent, input.cidr)
  if (siblings.length) needPromise(context, 'subnets', 'several subnets in one VPC', 'vpc')
  await needOwnRange(context, range)
  const config = await currentProvider({ draft })
  for (const theirs of config ? [config.spec.externalCidr, config.spec.peeringCidr] : [settings.externalCidr])
    if (overlaps(cidr(theirs), range))
      throw new CloudError('conflict', `${input.cidr} overlaps the provider's subnet ${theirs}`, {
        field: 'cidr',
        rule: 'in_use',
      })
  const index6 = await pick.index(draft, `subnet-index6:${parent.id}`, 65_535)
  if (index6 === undefined)
    throw new CloudError('exhausted', 'The VPC has no room for another subnet', { rule: 'capacity' })
  const made = draft.create(subnet, {
    tenant,
    name: input.name,
    ...(input.labels ? { labels: input.labels } : {}),
    spec: { vpc: parent.id, cidr: formatCidr(range), gateway: at, index6, ...creatorOf(caller) },
  })
  draft.claim(
    {
      pool: `subnet-name:${parent.id}`,
      value: input.name,
      ends: 'deletion',
      refusal: 'Subnet with this name already exists',
    },
    made.id,
  )
  useQuota(draft, tenant, 'subnets', made.id)
  return made
}

/** Where VPCs share one address space, a range is one VPC's alone, and not the host's. */
async function needOwnRange(context: VerbContext, range: Cidr): Promise<void> {
  const { draft, promises, settings } = context
  if (promises.has('same-ranges')) return
  await draft.guard('subnets')
  // Whose it is, is not the caller's to know.
  for (const other of await draft.list(subnet, { tenant: ALL }))
    if (overlaps(cidr(other.spec.cidr), range))
      needPromise(context, 'same-ranges', "a range that overlaps another VPC's", 'cidr')
  for (const theirs of settings.hostNetworks)
    if (overlaps(cidr(theirs), range))
      throw new CloudError('conflict', `${formatCidr(range)} overlaps ${theirs}, a network of this host`, {
        field: 'cidr',
        rule: 'in_use',
      })
}

/** The range of a VPC or subnet. */
function usableRange(text: string, fabric: string): Cidr {
  const range = parseCidr(text)
  if (!range)
    throw new CloudError(
      'invalid',
      'must be an IPv4 network with its host bits zero, such as 10.100.1.0/24',
      { field: 'cidr' },
    )
  if (range.prefix < PREFIX_MIN || range.prefix > PREFIX_MAX)
    throw new CloudError('invalid', `the prefix length must be between ${PREFIX_MIN} and ${PREFIX_MAX}`, {
      field: 'cidr',
    })
  for (const own of [...UNUSABLE, cidr(fabric)])
    if (overlaps(own, range))
      throw new CloudError('invalid', `${text} overlaps ${formatCidr(own)}, which machines cannot use`, {
        field: 'cidr',
      })
  return range
}

/** A route or rule with an id of its own and the moment when it was added. */
export const entry = <E>(
  draft: Draft,
  given: E,
): E & { readonly id: string; readonly createdAt: number } => ({
  ...given,
  id: draft.id(),
  createdAt: draft.now,
})

/** Throws `already_exists` when another one of its VPC has the name of what was made just now. */
export async function needOwnName<S extends TSchema, T extends TSchema>(
  { draft }: VerbContext,
  kind: Kind<S, T>,
  made: Resource<unknown>,
  { vpc: of, title }: { readonly vpc: string; readonly title: string },
): Promise<void> {
  await draft.guard(`${kind.name}-names:${of}`, of)
  const terms = [`vpc:${of}`, `name:${made.name}`]
  const named = await draft.list(kind, { tenant: made.tenant, terms, deleted: false })
  if (named.length > 1)
    throw new CloudError('already_exists', `${title} with this name already exists in the VPC`)
}

/** A VPC of the caller's tenant that is not on its way out, else `not_found`. */
export const liveVpc = async (context: Pick<VerbContext, 'draft' | 'caller'>, id: string): Promise<Vpc> =>
  await found(context, vpc, id, 'VPC')

/** A VPC of the caller's tenant, on its way out or not, else `not_found`. */
export async function existingVpc(
  { draft, caller }: Pick<VerbContext, 'draft' | 'caller'>,
  id: string,
): Promise<Vpc> {
  const it = await draft.get(vpc, ownTenant(caller), id)
  if (!it) throw new CloudError('not_found', 'VPC not found')
  return it
}

/** The installation's configuration, undefined before the first. */
export async function currentProvider({ draft }: Pick<VerbContext, 'draft'>): Promise<Provider | undefined> {
  return (await draft.list(provider, { tenant: PLATFORM, deleted: false }))[0]
}

export async function putProvider(
  { draft, caller }: VerbContext,
  input: Omit<Provider['spec'], 'cloudflareToken'> & { cloudflareToken?: string },
): Promise<{ provider: Provider; created: boolean }> {
  authorise(caller, 'operate', 'provider:update')
  const external = network(input.externalCidr, 'externalCidr')
  const peering = network(input.peeringCidr, 'peeringCidr')
  const gateway = parseIpv4(input.externalGateway)
  if (gateway === undefined || !contains(external, gateway))
    throw new CloudError('invalid', 'must be an address inside the external subnet', {
      field: 'externalGateway',
    })
  if (overlaps(external, peering))
    throw new CloudError('invalid', 'must not overlap the external subnet', { field: 'peeringCidr' })
  const had = await currentProvider({ draft })
  const spec = { ...input, cloudflareToken: input.cloudflareToken ?? had?.spec.cloudflareToken ?? '' }
  if (!had)
    return { provider: draft.create(provider, { tenant: PLATFORM, name: 'provider', spec }), created: true }
  if (had.spec.externalCidr !== input.externalCidr) {
    const old = cidr(had.spec.externalCidr)
    const used = (await draft.claims('external')).filter((it) => contains(old, parseIpv4(it.value) ?? -1))
    if (used.length)
      throw new CloudError(
        'conflict',
        `${used.length} external addresses of ${had.spec.externalCidr} are in use`,
        { field: 'externalCidr', rule: 'in_use' },
      )
  }
  return { provider: draft.edit(provider, had, { spec }), created: false }
}

function network(text: string, field: string): Cidr {
  const range = parseCidr(text)
  if (!range) throw new CloudError('invalid', 'must be an IPv4 network with its host bits zero', { field })
  if (UNUSABLE.some((it) => overlaps(it, range)))
    throw new CloudError('invalid', `${text} cannot be used`, { field })
  return range
}

/** Takes a free address of the external pool; `exhausted` when there is none. */
export async function pickExternal({
  draft,
  settings,
  pick,
}: Pick<VerbContext, 'draft' | 'settings' | 'pick'>): Promise<string> {
  const config = await currentProvider({ draft })
  const pool = cidr(config?.spec.externalCidr ?? settings.externalCidr)
  const gateway = config?.spec.externalGateway ?? settings.externalGateway
  const free = await pick.address(draft, 'external', pool, [gateway])
  if (free === undefined)
    throw new CloudError('exhausted', 'No external address is free', { rule: 'capacity' })
  return free
}
