import { CloudError } from '#lib/errors.ts'
import { authorise, ownTenant } from '#cloud/access.ts'
import type { VerbContext } from '#cloud/context.ts'
import { workload } from '#cloud/compute/workload.kind.ts'
import { vpc } from '#cloud/network/vpc.kind.ts'
import { integration, type Integration } from './integration.kind.ts'
import { network, type Network } from './network.kind.ts'
import { IDENTIFIER, scopedVariable, type ScopedVariable } from './scoped-variable.kind.ts'
import { vpnUser, type VpnUser } from './vpn-user.kind.ts'

type Named = { readonly name: string; readonly labels?: Readonly<Record<string, string>> }

async function needVpc({ draft, caller }: VerbContext, id: string, field = 'spec.vpc'): Promise<void> {
  const it = await draft.get(vpc, ownTenant(caller), id)
  if (!it || it.deletedAt !== undefined) throw new CloudError('not_found', 'VPC not found', { field })
}

/** The members of a network as they are wanted: each once, those that it has since they came. */
export async function checkMembers(
  context: VerbContext,
  wanted: readonly { readonly vpc: string; readonly addedAt?: number }[],
  had: Network['spec']['members'] = [],
): Promise<Network['spec']['members']> {
  const ids = [...new Set(wanted.map((it) => it.vpc))]
  const since = new Map(had.map((it) => [it.vpc, it.addedAt]))
  for (const id of ids) if (!since.has(id)) await needVpc(context, id, 'spec.members')
  return ids.map((id) => ({ vpc: id, addedAt: since.get(id) ?? context.draft.now }))
}

/** Joins VPCs of the caller's tenant. */
export async function createNetwork(
  context: VerbContext,
  input: Named & { readonly members: readonly { readonly vpc: string }[] },
): Promise<Network> {
  const { members, ...named } = input
  authorise(context.caller, 'write', 'network:create', { kind: 'network', name: input.name })
  const tenant = ownTenant(context.caller)
  const spec = { members: await checkMembers(context, members) }
  return context.draft.create(network, { tenant, ...named, spec })
}

const SOURCES = ['value', 'secret', 'url'] as const

/** What a schema cannot say: one source, one way to it at least, workloads of its VPC. */
export async function checkVariable(
  { draft, caller }: VerbContext,
  name: string,
  spec: ScopedVariable['spec'],
): Promise<void> {
  if (!new RegExp(IDENTIFIER).test(name))
    throw new CloudError('invalid', 'must be letters, digits, _, . and -, at most 128', { field: 'name' })
  const given = SOURCES.filter((it) => spec[it] !== undefined)
  if (given.length !== 1)
    throw new CloudError('invalid', `needs exactly one of ${SOURCES.join(', ')}`, { field: 'spec' })
  if (spec.url === undefined && (spec.headers ?? spec.authUrl) !== undefined)
    throw new CloudError('invalid', 'headers and authUrl go with url', { field: 'spec.url' })
  if (!spec.access.env && !spec.access.api && !spec.access.file)
    throw new CloudError('invalid', 'needs env, api or file', { field: 'spec.access' })
  for (const id of spec.scope.workloads) {
    const it = await draft.get(workload, ownTenant(caller), id)
    if (it?.spec.vpc !== spec.vpc)
      throw new CloudError('invalid', `no workload ${id} in this VPC`, { field: 'spec.scope.workloads' })
  }
}

/** A value for workloads of one VPC. */
export async function createVariable(
  context: VerbContext,
  input: Named & { readonly spec: ScopedVariable['spec'] },
): Promise<ScopedVariable> {
  authorise(context.caller, 'write', 'scoped_variable:create', { kind: 'scoped-variable', name: input.name })
  const tenant = ownTenant(context.caller)
  await needVpc(context, input.spec.vpc)
  await checkVariable(context, input.name, input.spec)
  return context.draft.create(scopedVariable, { tenant, ...input })
}

/** Access to somebody else's service for every workload of the caller's tenant. */
export function createIntegration(
  { draft, caller }: VerbContext,
  input: Named & { readonly spec: Integration['spec'] },
): Integration {
  authorise(caller, 'write', 'integration:create', { kind: 'integration', name: input.name })
  return draft.create(integration, { tenant: ownTenant(caller), ...input })
}

/** Who may log in to a VPC's VPN. */
export async function createVpnUser(
  context: VerbContext,
  input: Named & { readonly vpc: string; readonly passwordHash: string },
): Promise<VpnUser> {
  authorise(context.caller, 'write', 'vpn_user:create', { kind: 'vpn-user', name: input.name })
  const { vpc: of, passwordHash, ...named } = input
  await needVpc(context, of)
  return context.draft.create(vpnUser, {
    tenant: ownTenant(context.caller),
    ...named,
    spec: { vpc: of, passwordHash },
  })
}
