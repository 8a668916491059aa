import { isDeepStrictEqual } from 'node:util'
import { CloudError } from '#lib/errors.ts'
import type { AnyKind, Resource } from '#engine/resource.ts'
import { actionOf, authorise, authoriseFirst } from './access.ts'
import * as compute from './compute/compute.verbs.ts'
import * as images from './compute/disk-image.verbs.ts'
import { diskImage, type DiskImage } from './compute/disk-image.kind.ts'
import { publishedPorts } from './compute/published.verbs.ts'
import { registryCredential, type RegistryCredential } from './compute/registry-credential.kind.ts'
import { workload, type Workload } from './compute/workload.kind.ts'
import type { VerbContext } from './context.ts'
import { certificate, type Certificate } from './edge/certificate.kind.ts'
import * as edge from './edge/edge.verbs.ts'
import { route } from './edge/route.kind.ts'
import { tunnel } from './edge/tunnel.kind.ts'
import { NOT_BY_HAND, rightOver, withMembers } from './generic.ts'
import { checked, type Given, newPassword, objectOf } from './given.ts'
import * as account from './identity/account.verbs.ts'
import * as iam from './identity/iam.verbs.ts'
import * as identity from './identity/identity.verbs.ts'
import { mailRelay } from './identity/mail-relay.kind.ts'
import * as mail from './identity/mail.verbs.ts'
import { membership, type Membership } from './identity/membership.kind.ts'
import { keepOwner, keepOwnersBy } from './identity/owners.ts'
import { policy, type Policy } from './identity/policy.kind.ts'
import { role, type RoleResource } from './identity/role.kind.ts'
import { hashPassword } from './identity/secrets.ts'
import { serviceAccount, type ServiceAccount } from './identity/service-account.kind.ts'
import { tenant, type Tenant } from './identity/tenant.kind.ts'
import * as inside from './inside/inside.verbs.ts'
import { network as sdn, type Network } from './inside/network.kind.ts'
import { scopedVariable } from './inside/scoped-variable.kind.ts'
import { vpnUser, type VpnUser } from './inside/vpn-user.kind.ts'
import { provider } from './network/provider.kind.ts'
import * as rules from './network/rules.verbs.ts'
import { securityGroup } from './network/security-group.kind.ts'
import { vpc, type Vpc } from './network/vpc.kind.ts'
import { changeWay } from './network/ways.verbs.ts'
import { volume, type Volume } from './storage/volume.kind.ts'
import type { Verbs } from './verbs.ts'

/** What is changed of a resource of any kind, as the native API is given it. */
export type GenericChange = {
  name?: string
  /** Merged; null removes one. */
  labels?: Record<string, string | null>
  /** Merged over the current one (RFC 7396). */
  spec?: unknown
  /** Refused `conflict` when it has moved. */
  generation?: number
}

/** Changes a resource of any kind, where that may be done by hand. */
export async function patchGeneric(
  context: VerbContext,
  verbs: Verbs,
  kind: AnyKind,
  id: string,
  change: GenericChange,
): Promise<Resource> {
  const { draft } = context
  const it = await toPatch(context, verbs, kind, id, change)
  const labels = mergeLabels(it.labels, change.labels)
  const merged =
    change.spec === undefined ? it.spec : withNulls(kind, mergePatch(it.spec, change.spec), change.spec)
  const own = CHANGES[kind.name]
  if (own) return await own({ it, merged, labels }, context, verbs)
  const wanted = (await SPECS[kind.name]?.(it, merged, context)) ?? merged
  const way = await changeWay(context, kind, it, wanted)
  return way ? draft.edit(kind, way, { labels }) : draft.edit(kind, it, { spec: wanted, labels })
}

/** The resource, seen to be one that the caller may change as it is now. */
async function toPatch(
  { caller }: VerbContext,
  verbs: Verbs,
  kind: AnyKind,
  id: string,
  { generation, name }: GenericChange,
): Promise<Resource> {
  authoriseFirst(caller, rightOver(kind), actionOf(kind.name, 'update'))
  if (NOT_BY_HAND.includes(kind.name))
    throw new CloudError('unsupported', `A ${kind.name} is not changed by hand`)
  const it = await verbs.get(kind, id)
  authorise(caller, rightOver(kind), actionOf(kind.name, 'update'), it)
  if (generation !== undefined && generation !== it.generation)
    throw new CloudError('conflict', `It has changed meanwhile: generation ${it.generation}`, {
      rule: 'wrong_state',
    })
  if (it.deletedAt !== undefined)
    throw new CloudError('conflict', 'It is being deleted', { rule: 'wrong_state' })
  if (name !== undefined && name !== it.name)
    throw new CloudError('invalid', 'cannot be changed', { field: 'name' })
  return it
}

type Asked = { readonly it: Resource; readonly merged: unknown; readonly labels: Record<string, string> }

/** Kinds whose change is more than another spec. */
const CHANGES: Readonly<
  Record<string, (asked: Asked, context: VerbContext, verbs: Verbs) => Promise<Resource>>
> = {
  async [provider.name]({ merged, labels }, { draft }, verbs) {
    const { provider: put } = await verbs.putProvider(checked(provider, merged))
    return draft.edit(provider, put, { labels })
  },
  [workload.name]: async ({ it, merged, labels }, context, verbs) =>
    await patchWorkload(context, verbs, it as Workload, checked(workload, merged), labels),
  [serviceAccount.name]: async ({ it, merged, labels }, context) =>
    await patchServiceAccount(context, it as ServiceAccount, checked(serviceAccount, merged), labels),
  async [role.name]({ it, merged, labels }, { draft }) {
    const edited = draft.edit(role, it as RoleResource, { spec: checked(role, merged), labels })
    await keepOwnersBy(draft, it as RoleResource)
    return edited
  },
  async [tenant.name]({ it, merged, labels }, context) {
    const edited = context.draft.edit(tenant, it as Tenant, { spec: checked(tenant, merged), labels })
    identity.tenantChanged(context, it as Tenant, edited)
    return await Promise.resolve(edited)
  },
}

async function leading(context: VerbContext, wanted: edge.Changed, it: Resource): Promise<edge.Changed> {
  await edge.checkChange(context, wanted, it)
  return wanted
}

/** The spec that one is given, seen to be right; a kind that is not here is held to its schema alone. */
const SPECS: Readonly<
  Record<string, (it: Resource, merged: unknown, context: VerbContext) => Promise<unknown>>
> = {
  async [volume.name](it, merged) {
    const wanted = checked(volume, merged)
    if (wanted.sizeGib < (it as Volume).spec.sizeGib)
      throw new CloudError('invalid', 'cannot become less', { field: 'spec.sizeGib' })
    return await Promise.resolve(wanted)
  },
  async [securityGroup.name](it, merged, context) {
    const wanted = checked(securityGroup, merged)
    await rules.checkRules(context, wanted, it.id)
    return wanted
  },
  [route.name]: async (it, merged, context) => await leading(context, checked(route, merged), it),
  [tunnel.name]: async (it, merged, context) => await leading(context, checked(tunnel, merged), it),
  async [certificate.name](it, merged, context) {
    if (it.owner !== undefined)
      throw new CloudError('conflict', 'It belongs to a tunnel or route, which keeps it as it is', {
        rule: 'wrong_state',
      })
    const wanted = checked(certificate, merged)
    const had = (it as Certificate).spec.key
    const key = wanted.key === had ? context.draft.open(it, 'key') : wanted.key
    await edge.checkCertificate(context, it.tenant, key === undefined ? wanted : { ...wanted, key })
    return wanted
  },
  async [vpc.name](it, merged) {
    if ((merged as Vpc['spec']).natAddress !== (it as Vpc).spec.natAddress)
      throw new CloudError('invalid', 'is given by the platform', { field: 'spec.natAddress' })
    return await Promise.resolve(merged)
  },
  async [membership.name](it, merged, context) {
    const wanted = checked(membership, merged)
    await account.needGrantable(context, wanted.role)
    if (wanted.user === (it as Membership).spec.user)
      await keepOwner(context.draft, it.tenant, wanted.user, wanted.role)
    return wanted
  },
  async [policy.name](it, merged, context) {
    const wanted = checked(policy, merged)
    await iam.checkAttached(context, it as Policy, wanted.attachedTo)
    return wanted
  },
  async [registryCredential.name](it, merged) {
    const wanted = checked(registryCredential, merged)
    const had = (it as RegistryCredential).spec
    // Who may change it need not know it, and could have it sent to a server of their own.
    if (wanted.server !== had.server && wanted.password === had.password)
      throw new CloudError(
        'invalid',
        `the password that is kept is for ${had.server}: give the one for this`,
        {
          field: 'spec.password',
        },
      )
    return await Promise.resolve(wanted)
  },
  [diskImage.name]: async (it, merged, context) =>
    await Promise.resolve(images.changeDiskImage(context, it as DiskImage, checked(diskImage, merged))),
  async [mailRelay.name](_, merged, { draft }) {
    const wanted = checked(mailRelay, merged)
    mail.checkRelay(wanted)
    await mail.wakeMessages(draft)
    return wanted
  },
  async [sdn.name](it, merged, context) {
    const { members } = checked(sdn, withMembers(objectOf(merged)))
    return { members: await inside.checkMembers(context, members, (it as Network).spec.members) }
  },
  async [scopedVariable.name](it, merged, context) {
    const wanted = checked(scopedVariable, merged)
    await inside.checkVariable(context, it.name, wanted)
    return wanted
  },
  async [vpnUser.name](it, merged) {
    const { password, ...rest } = objectOf(merged)
    for (const field of ['passwordHash', 'lastLoginAt'] as const)
      if (rest[field] !== (it as VpnUser).spec[field])
        throw new CloudError('invalid', 'is given by the platform', { field: `spec.${field}` })
    if (password === undefined) return rest
    return { ...rest, passwordHash: await hashPassword(newPassword({ password })) }
  },
}

// A workload's parts that new containers are needed for.
const REPLACES = [
  'image',
  'entrypoint',
  'command',
  'env',
  'user',
  'workdir',
  'capabilities',
  'memoryMib',
  'pidsMax',
  'health',
  'persistence',
  'stopGraceSeconds',
  'healing',
  'autoscaling',
  'deploymentVersion',
  'function',
] as const
const GIVEN = ['vip', 'externalAddress', 'attempt', 'change', 'egress', 'instance', 'volumes'] as const

async function patchWorkload(
  context: VerbContext,
  verbs: Verbs,
  it: Workload,
  wanted: Workload['spec'],
  labels: Record<string, string>,
): Promise<Resource> {
  const { draft } = context
  const differs = (field: keyof Workload['spec']): boolean =>
    JSON.stringify(it.spec[field]) !== JSON.stringify(wanted[field])
  for (const field of GIVEN)
    if (differs(field)) throw new CloudError('invalid', 'cannot be changed', { field: `spec.${field}` })
  if (differs('securityGroups')) await compute.checkGroups(context, it.tenant, wanted)
  const replaced = REPLACES.filter(differs)
  let current: Workload = it
  if (replaced.length)
    current = await verbs.configureWorkload(
      it.id,
      Object.fromEntries(replaced.map((field) => [field, wanted[field]])),
    )
  const {
    service: _service,
    role: _role,
    autoStart: _autoStart,
    published: _published,
    ...rest
  } = current.spec
  const published = await publishedPorts(context, wanted.published ?? [], it.spec.published)
  const { service, role, autoStart } = wanted
  const spec: Workload['spec'] = {
    ...rest,
    ...(service === undefined ? {} : { service }),
    ...(role === undefined ? {} : { role }),
    ...(autoStart === undefined ? {} : { autoStart }),
    ...(published.length ? { published } : {}),
    cpuMillicores: wanted.cpuMillicores,
    ports: wanted.ports,
    securityGroups: wanted.securityGroups,
    useRegistryCredentials: wanted.useRegistryCredentials,
    replicas: differs('replicas') ? wanted.replicas : current.spec.replicas,
    change: current.spec.change,
  }
  const change = replaced.length ? 'config' : 'scale'
  const isSame = isDeepStrictEqual(spec, current.spec)
  const edited = draft.edit(workload, current, { spec: isSame ? spec : { ...spec, change }, labels })
  if (differs('cpuMillicores')) await compute.resizeReplicas(context, edited)
  return edited
}

/** What people may change of a service account. */
async function patchServiceAccount(
  context: VerbContext,
  it: ServiceAccount,
  wanted: ServiceAccount['spec'],
  labels: Record<string, string>,
): Promise<Resource> {
  const { role: asked, enabled, description, ...given } = wanted
  for (const field of ['secrets', 'signingKey'] as const)
    if (JSON.stringify(given[field]) !== JSON.stringify(it.spec[field]))
      throw new CloudError('invalid', 'is given by the platform', { field: `spec.${field}` })
  return await iam.updateServiceAccount(context, it.id, {
    labels,
    enabled,
    ...(asked === it.spec.role ? {} : { role: asked }),
    ...(description === undefined ? {} : { description }),
  })
}

const mergeLabels = (
  now: Readonly<Record<string, string>>,
  change: Record<string, string | null> = {},
): Record<string, string> =>
  Object.fromEntries(
    Object.entries({ ...now, ...change }).filter((it): it is [string, string] => it[1] !== null),
  )

/** RFC 7396. */
function mergePatch(target: unknown, patch: unknown): unknown {
  if (patch === null || typeof patch !== 'object' || Array.isArray(patch)) return patch
  const base = target !== null && typeof target === 'object' && !Array.isArray(target) ? target : {}
  const merged: Record<string, unknown> = { ...base }
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete merged[key]
    else merged[key] = mergePatch(merged[key], value)
  }
  return merged
}

/** A null removes a field, but for one whose schema knows null as a value. */
function withNulls(kind: AnyKind, merged: unknown, patch: unknown): unknown {
  const { properties = {} } = kind.spec as {
    properties?: Record<string, { anyOf?: readonly { type?: string }[] }>
  }
  const nulls = Object.entries(objectOf(patch)).filter(
    ([field, value]) => value === null && properties[field]?.anyOf?.some((it) => it.type === 'null'),
  )
  return { ...(merged as Given), ...Object.fromEntries(nulls) }
}
