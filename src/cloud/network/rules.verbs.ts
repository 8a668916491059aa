import { isIPv6 } from 'node:net'
import { parseCidr } from '#lib/cidr.ts'
import { CloudError } from '#lib/errors.ts'
import { authorise, ownTenant } from '#cloud/access.ts'
import { needPromise, type VerbContext } from '#cloud/context.ts'
import { securityGroup, type SecurityGroup } from './security-group.kind.ts'
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
