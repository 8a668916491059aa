import { isIPv6 } from 'node:net'
import { parseCidr } from '#lib/cidr.ts'
import { CloudError } from '#lib/errors.ts'
import { actionOf, authorise, authoriseFirst, creatorOf, ownTenant } from '#cloud/access.ts'
import { workload, type Workload } from '#cloud/compute/workload.kind.ts'
import { needPromise, type VerbContext } from '#cloud/context.ts'
import { toChange } from '#cloud/found.ts'
import { entry, needOwnName } from './network.verbs.ts'
import { RULES_MAX, securityGroup, type SecurityGroup, type SecurityRule } from './security-group.kind.ts'
import { vpc } from './vpc.kind.ts'

type Given<R extends { readonly spec: unknown }> = {
  name: string
  labels?: Record<string, string>
  spec: R['spec']
}

const isCidr6 = (text: string): boolean => {
  const [address = '', prefix = ''] = text.split('/')
  return isIPv6(address) && !address.includes('%') && /^\d{1,3}$/.test(prefix) && Number(prefix) <= 128
}

/** Throws `invalid` unless every rule can be rendered: good ranges of ports, a CIDR of either family or a group of the same VPC. */
export async function checkRules(
  { draft, caller }: Pick<VerbContext, 'draft' | 'caller'>,
  spec: SecurityGroup['spec'],
  self?: string,
): Promise<void> {
  for (const [at, rule] of spec.rules.entries()) {
    const field = `spec.rules.${at}`
    if (rule.cidr !== undefined && rule.group !== undefined)
      throw new CloudError('invalid', 'name a cidr or a group, not both', { field })
    if (rule.cidr !== undefined && !parseCidr(rule.cidr) && !isCidr6(rule.cidr))
      throw new CloudError('invalid', 'must be an IPv4 or IPv6 network', { field: `${field}.cidr` })
    if (rule.toPort !== undefined && (rule.fromPort === undefined || rule.toPort < rule.fromPort))
      throw new CloudError('invalid', 'must not be below fromPort', { field: `${field}.toPort` })
    if (rule.fromPort !== undefined && rule.protocol !== 'tcp' && rule.protocol !== 'udp')
      throw new CloudError('invalid', `${rule.protocol} has no ports`, { field: `${field}.fromPort` })
    if (rule.group === undefined || rule.group === self) continue
    const peer = await draft.get(securityGroup, ownTenant(caller), rule.group)
    if (!peer || peer.spec.vpc !== spec.vpc)
      throw new CloudError('invalid', 'no such security group in this VPC', { field: `${field}.group` })
  }
}

export async function createSecurityGroup(
  context: VerbContext,
  input: Given<SecurityGroup>,
): Promise<SecurityGroup> {
  authorise(context.caller, 'write', 'sg:create', { kind: 'security-group', name: input.name })
  const tenant = ownTenant(context.caller)
  if (!(await context.draft.get(vpc, tenant, input.spec.vpc)))
    throw new CloudError('not_found', 'VPC not found')
  needPromise(context, 'groups', 'security groups')
  await checkRules(context, input.spec)
  return context.draft.create(securityGroup, { tenant, ...input })
}

const NEIGHBOURS_PRIORITY = 1000

/**
 * A group whose name is its own in its VPC, with the rules that say what holds anyway: neighbours are found both ways.
 * `not_found` for a VPC that is not there, `already_exists` for a name in use.
 */
export async function createNamedGroup(
  context: VerbContext,
  { vpc: of, description, ...input }: { name: string; vpc: string; description?: string },
): Promise<SecurityGroup> {
  const { draft, caller } = context
  const rule = (direction: SecurityRule['direction']): SecurityRule =>
    entry(draft, { priority: NEIGHBOURS_PRIORITY, direction, protocol: 'arp' })
  const rules = [rule('ingress'), rule('egress')]
  const spec = { vpc: of, rules, ...(description === undefined ? {} : { description }), ...creatorOf(caller) }
  const made = await createSecurityGroup(context, { ...input, spec })
  await needOwnName(context, securityGroup, made, { vpc: of, title: 'Security group' })
  return made
}

/** A rule before it has an id. */
export type NewRule = Omit<SecurityRule, 'id' | 'createdAt'>

const groupOf = async (context: VerbContext, id: string): Promise<SecurityGroup> =>
  await toChange(context, securityGroup, id, 'Security group')

/** One more rule, with an id of its own. */
export async function addRule(
  context: VerbContext,
  group: string,
  rule: NewRule,
): Promise<{ group: SecurityGroup; rule: SecurityRule }> {
  const it = await groupOf(context, group)
  if (it.spec.rules.length >= RULES_MAX)
    throw new CloudError('exhausted', `A security group has at most ${RULES_MAX} rules`, { rule: 'capacity' })
  const made = entry(context.draft, rule)
  await checkRules(context, { ...it.spec, rules: [made] }, it.id)
  const spec = { ...it.spec, rules: [...it.spec.rules, made] }
  return { group: context.draft.edit(securityGroup, it, { spec }), rule: made }
}

/** Takes a rule away, in whatever group of the tenant it is; `not_found` when there is none of this id. */
export async function removeRule(context: VerbContext, rule: string): Promise<SecurityGroup> {
  authoriseFirst(context.caller, 'write', actionOf(securityGroup.name, 'update'))
  const tenant = ownTenant(context.caller)
  const all = await context.draft.list(securityGroup, { tenant, deleted: false })
  const found = all.find((it) => it.spec.rules.some((one) => one.id === rule))
  if (!found) throw new CloudError('not_found', 'Security rule not found')
  const it = await groupOf(context, found.id)
  const spec = { ...it.spec, rules: it.spec.rules.filter((one) => one.id !== rule) }
  return context.draft.edit(securityGroup, it, { spec })
}

/** Makes a workload a member of a group of its VPC, or none any more; a repeat does nothing. At once, also for connections that are open. */
export async function setMembership(
  context: VerbContext,
  member: string,
  group: string,
  isMember: boolean,
): Promise<Workload> {
  const of = await toChange(context, workload, member, 'Pod')
  const it = await groupOf(context, group)
  if (it.spec.vpc !== of.spec.vpc)
    throw new CloudError('invalid', 'the security group is not in the VPC of the workload', {
      field: 'group',
    })
  const others = of.spec.securityGroups.filter((one) => one !== it.id)
  const securityGroups = isMember ? [...others, it.id] : others
  if (of.spec.securityGroups.includes(it.id) === isMember) return of
  return context.draft.edit(workload, of, { spec: { ...of.spec, securityGroups, change: 'scale' } })
}
