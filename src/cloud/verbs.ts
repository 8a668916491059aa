import { isDeepStrictEqual } from 'node:util'
import type { Static, TSchema } from 'typebox'
import { CloudError } from '#lib/errors.ts'
import type { Kind } from '#engine/kind.ts'
import { type AnyKind, PLATFORM, type Resource } from '#engine/resource.ts'
import { checkSpec } from '#engine/shape.ts'
import * as compute from './compute/compute.verbs.ts'
import * as images from './compute/disk-image.verbs.ts'
import { diskImage, type DiskImage } from './compute/disk-image.kind.ts'
import * as instance from './compute/instance.verbs.ts'
import { registryCredential, type RegistryCredential } from './compute/registry-credential.kind.ts'
import { publishedPorts } from './compute/published.verbs.ts'
import type { Replica } from './compute/replica.kind.ts'
import { sshKey, type SshKey } from './compute/ssh-key.kind.ts'
import { workload, type Workload } from './compute/workload.kind.ts'
import { acme, type Acme } from './edge/acme.kind.ts'
import { certificate, type Certificate } from './edge/certificate.kind.ts'
import { domain, type Domain } from './edge/domain.kind.ts'
import * as edge from './edge/edge.verbs.ts'
import { route, type Route } from './edge/route.kind.ts'
import { serviceTunnel, type ServiceTunnel } from './edge/service-tunnel.kind.ts'
import { tunnel, type Tunnel } from './edge/tunnel.kind.ts'
import { credential, type Credential } from './identity/credential.kind.ts'
import * as account from './identity/account.verbs.ts'
import * as identity from './identity/identity.verbs.ts'
import * as iam from './identity/iam.verbs.ts'
import { mailRelay, type MailRelay } from './identity/mail-relay.kind.ts'
import * as mail from './identity/mail.verbs.ts'
import { membership, type Membership } from './identity/membership.kind.ts'
import { keepOwner, keepOwnersBy } from './identity/owners.ts'
import { policy, type Policy } from './identity/policy.kind.ts'
import { role, type RoleResource } from './identity/role.kind.ts'
import { serviceAccount, type ServiceAccount } from './identity/service-account.kind.ts'
import { tenant, type Tenant } from './identity/tenant.kind.ts'
import { type Role, user, type User } from './identity/user.kind.ts'
import { hashPassword } from './identity/secrets.ts'
import * as inside from './inside/inside.verbs.ts'
import { integration, type Integration } from './inside/integration.kind.ts'
import { network as sdn, type Network } from './inside/network.kind.ts'
import { scopedVariable, type ScopedVariable } from './inside/scoped-variable.kind.ts'
import { vpnUser, type VpnUser } from './inside/vpn-user.kind.ts'
import * as network from './network/network.verbs.ts'
import { provider, type Provider } from './network/provider.kind.ts'
import { routeTable, type RouteTable } from './network/route-table.kind.ts'
import { checkPeered } from './network/peering.verbs.ts'
import { leaveBalancers } from './network/balancer.verbs.ts'
import { freeElasticIps } from './network/gateway.verbs.ts'
import * as rules from './network/rules.verbs.ts'
import { securityGroup, type SecurityGroup } from './network/security-group.kind.ts'
import { subnet, type Subnet } from './network/subnet.kind.ts'
import { vpc, type Vpc } from './network/vpc.kind.ts'
import { changeWay, createWay, removeWay, WAY_VERBS, type WayVerbs } from './network/ways.verbs.ts'
import { snapshot, type Snapshot } from './storage/snapshot.kind.ts'
import * as storage from './storage/storage.verbs.ts'
import { volume, type Volume } from './storage/volume.kind.ts'
import { binder, type Unbound } from './bound.ts'
import {
  actionOf,
  type Caller,
  type Right,
  authorise,
  authoriseFirst,
  ownTenant,
  tenantFor,
} from './access.ts'
import type { VerbContext } from './context.ts'
import { type Given, known, text } from './given.ts'
import { once, type Repeatable } from './once.ts'

export type NewGeneric = { name: string; labels?: Record<string, string>; spec: unknown }
export type GenericChange = {
  name?: string
  /** Merged; null removes one. */
  labels?: Record<string, string | null>
  /** Merged over the current one (RFC 7396). */
  spec?: unknown
  /** Refused `conflict` when it has moved. */
  generation?: number
}

/**
 * What can be done, within one commit. Each verb checks access, existence (`not_found`), consistency (`invalid`), quota
 * (`exhausted`, rule quota) and state (`conflict`), and returns the resource as it will be.
 */
export type Verbs = WayVerbs & {
  createTenant(input: {
    name: string
    description: string | null
    password?: string
  }): Promise<{ tenant: Tenant; token: string }>
  deleteTenant(id: string): Promise<Tenant>
  addDomain(tenant: string, domain: string): Promise<Domain>
  /** A further credential of the caller's tenant, in a role; the token is returned once. */
  issueCredential(input: {
    name: string
    role: Role
    expiresAt?: number
  }): Promise<{ credential: Credential; token: string }>
  /** One more key of the caller: a user's acts wherever the user does; the text is returned once. */
  createKey(name: string): Promise<account.MadeKey>
  /** A new text for one of the caller's keys; the old one opens nothing from then on. */
  rotateKey(id: string): Promise<account.MadeKey>
  revokeKey(id: string): Promise<void>
  /** A tenant that the calling user owns. */
  createOwnTenant(input: { title: string; slug: string }): Promise<Tenant>
  /** What the calling key sees from then on, in every dialect. */
  switchTenant(id: string): Promise<void>
  addMember(input: account.NewMember): Promise<Membership>
  /** What `make` makes, once for the key of a client: see once.ts. */
  once<S extends TSchema, T extends TSchema>(
    what: string,
    kind: Kind<S, T>,
    given: Repeatable | undefined,
    make: () => Promise<Resource<Static<S>, Static<T>>>,
  ): Promise<Resource<Static<S>, Static<T>>>
  /** Roles, policies and service accounts of the caller's tenant: see iam.verbs.ts. */
  readonly iam: Iam
  createUser(input: {
    name: string
    password: string
    admin: boolean
    memberships: User['spec']['memberships']
  }): Promise<User>
  /** Replaces the whole configuration; `cloudflareToken` undefined keeps the stored one. `created` on the first. */
  putProvider(
    input: Omit<Provider['spec'], 'cloudflareToken'> & { cloudflareToken?: string },
  ): Promise<{ provider: Provider; created: boolean }>
  createVpc(input: network.NewVpc): Promise<Vpc>
  renameVpc(id: string, name: string): Promise<Vpc>
  createSubnet(input: network.NewSubnet): Promise<Subnet>
  createWorkload(input: compute.NewWorkload): Promise<Workload>
  /** A repeat is fine while it is being deleted. */
  deleteWorkload(id: string): Promise<Workload>
  /** One replica more or less; refused `conflict` while autoscaling, stopped or being deleted, and outside 1..`max`. */
  scaleWorkload(id: string, by: 1 | -1, max: number): Promise<Workload>
  /** New containers in every slot; also starts a stopped one. */
  restartWorkload(id: string): Promise<Workload>
  /** Applies Circloud's rules of healing and autoscaling (§4.3); an empty change does nothing. */
  configureWorkload(id: string, change: compute.WorkloadChange): Promise<Workload>
  /** Refused `conflict` while it is being deleted; see the verbs of the same names in compute. */
  startReplica(id: string, run?: compute.FunctionRun): Promise<Replica>
  stopReplica(id: string): Promise<Replica>
  /** In the tenant's default VPC when none is named, which is made when first needed. */
  launchInstance(
    input: Omit<instance.NewInstance, 'vpc' | 'subnet'> & { readonly vpc?: string; readonly subnet?: string },
  ): Promise<Workload>
  /** See the verbs of the same names in compute. */
  startInstance(id: string): Promise<Workload>
  stopInstance(id: string): Promise<Workload>
  pauseInstance(id: string): Promise<Workload>
  resumeInstance(id: string): Promise<Workload>
  resizeInstance(id: string, type: string): Promise<Workload>
  updateInstance(id: string, change: instance.InstanceChange): Promise<Workload>
  createSshKey(input: { name: string; publicKey: string; labels?: Record<string, string> }): Promise<SshKey>
  createVolume(input: Parameters<typeof storage.createVolume>[1]): Promise<Volume>
  deleteVolume(id: string): Promise<Volume>
  attachVolume(input: { volume: string; path: string; instance: string }): Promise<string>
  detachVolume(id: string): Promise<void>
  createSnapshot(input: Parameters<typeof storage.createSnapshot>[1]): Promise<Snapshot>
  restoreSnapshot(input: { id: string; name: string }): Promise<Volume>
  /** See the verbs of the same names in compute. */
  createDiskImage(input: images.NewDiskImage): Promise<DiskImage>
  deleteDiskImage(id: string): Promise<DiskImage>
  imageToUpload(id: string): Promise<DiskImage>
  imageUploaded(id: string): Promise<DiskImage>
  addRegistryCredential(input: {
    name: string
    server: string
    username: string
    password: string
  }): Promise<RegistryCredential>
  /** With a certificate of its own where TLS ends at the edge and none is named; refused `already_exists` for a hostname in use. */
  createTunnel(input: edge.NewTunnel): Promise<Tunnel>
  deleteTunnel(id: string): Promise<Tunnel>
  createServiceTunnel(input: Parameters<typeof edge.createServiceTunnel>[1]): Promise<ServiceTunnel>
  createRoute(input: edge.NewRoute): Promise<Route>
  createCertificate(input: Parameters<typeof edge.createCertificate>[1]): Promise<Certificate>
  /** Generic verbs of the native API: each goes to the kind's own verb where there is one; fields the platform fills may be left out. */
  create(kind: AnyKind, input: NewGeneric): Promise<Resource>
  patch(kind: AnyKind, id: string, change: GenericChange): Promise<Resource>
  remove(kind: AnyKind, id: string): Promise<Resource>
  /** Found in the caller's tenant, else `not_found`. Sees what this commit made. */
  get<S extends TSchema, T extends TSchema>(
    kind: Kind<S, T>,
    id: string,
  ): Promise<Resource<Static<S>, Static<T>>>
  /** Those of the caller's tenant that match all terms and are not on their way out, oldest first. */
  list<S extends TSchema, T extends TSchema>(
    kind: Kind<S, T>,
    terms: readonly string[],
  ): Promise<readonly Resource<Static<S>, Static<T>>[]>
  /** By a name claimed in a scope: a tenant's id for VPCs, a VPC's id for subnets and workloads. */
  find<S extends TSchema, T extends TSchema>(
    kind: Kind<S, T>,
    scope: string,
    name: string,
  ): Promise<Resource<Static<S>, Static<T>> | undefined>
}

/** The verbs of `M` bound to a context. */
type Bound<M> = {
  readonly [K in keyof M]: M[K] extends (context: VerbContext, ...rest: infer A) => infer R
    ? (...rest: A) => R
    : never
}
export type Iam = Bound<typeof iam>

const iamOf = (context: VerbContext): Iam =>
  Object.fromEntries(
    Object.entries(iam).map(([name, verb]) => [
      name,
      (...rest: unknown[]) =>
        (verb as (context: VerbContext, ...rest: unknown[]) => unknown)(context, ...rest),
    ]),
  ) as Iam

const PASSWORD_LENGTH_MIN = 8
const PASSWORD_LENGTH_MAX = 1024
const PORT_DEFAULT = 80
// Made and changed only by the verbs and reconcilers that own them.
const NOT_BY_HAND = ['replica', 'credential', 'user', 'message']

const pickExternal = async (inner: VerbContext): Promise<string> => await network.pickExternal(inner)

const VERBS: Unbound<Verbs> = {
  createTenant: (context) => async (input) => await identity.createTenant(context, input),
  deleteTenant: (context) => async (id) => await identity.deleteTenant(context, id),
  issueCredential: (context) => async (input) =>
    await Promise.resolve(identity.issueCredential(context, input)),
  createKey: (context) => async (name) => await account.createKey(context, name),
  rotateKey: (context) => async (id) => await account.rotateKey(context, id),
  revokeKey: (context) => async (id) => await account.revokeKey(context, id),
  createOwnTenant: (context) => async (input) => await account.createOwnTenant(context, input),
  switchTenant: (context) => async (id) => await account.switchTenant(context, id),
  addMember: (context) => async (input) => await account.addMember(context, input),
  once: (context) => async (what, kind, given, make) => await once(context, what, kind, given, make),
  iam: (context) => iamOf(context),
  createUser: (context) => async (input) => await identity.createUser(context, input),
  addDomain: (context) => async (id, domain) => await identity.addDomain(context, id, domain),
  putProvider: (context) => async (input) => await network.putProvider(context, input),
  createVpc: (context) => async (input) => await network.createVpc(context, input),
  ...WAY_VERBS,
  renameVpc: (context) => async (id, name) => await network.renameVpc(context, id, name),
  createSubnet: (context) => async (input) => await network.createSubnet(context, input, checkPeered),
  createWorkload: (context) => async (input) => await compute.createWorkload(context, input, pickExternal),
  deleteWorkload: (context) => async (id) => {
    await freeElasticIps(context, { workload: id })
    await leaveBalancers(context, id)
    return await compute.deleteWorkload(context, id)
  },
  scaleWorkload: (context) => async (id, by, max) => await compute.scaleWorkload(context, id, by, max),
  restartWorkload: (context) => async (id) => await compute.restartWorkload(context, id),
  configureWorkload: (context) => async (id, change) => await compute.configureWorkload(context, id, change),
  startReplica: (context) => async (id, run) => await compute.startReplica(context, id, run),
  stopReplica: (context) => async (id) => await compute.stopReplica(context, id),
  launchInstance: (context, verbs) => async (input) => await launch(context, verbs, input, pickExternal),
  startInstance: (context) => async (id) => await instance.startInstance(context, id),
  stopInstance: (context) => async (id) => await instance.stopInstance(context, id),
  pauseInstance: (context) => async (id) => await instance.pauseInstance(context, id),
  resumeInstance: (context) => async (id) => await instance.resumeInstance(context, id),
  resizeInstance: (context) => async (id, type) => await instance.resizeInstance(context, id, type),
  updateInstance: (context) => async (id, change) => await instance.updateInstance(context, id, change),
  createSshKey: (context) => async (input) => await instance.createSshKey(context, input),
  createVolume: (context) => async (input) => await storage.createVolume(context, input),
  deleteVolume: (context) => async (id) => await storage.deleteVolume(context, id),
  attachVolume: (context) => async (input) => await instance.attachVolume(context, input),
  detachVolume: (context) => async (id) => await instance.detachVolume(context, id),
  createSnapshot: (context) => async (input) => await storage.createSnapshot(context, input),
  restoreSnapshot: (context) => async (input) => await storage.restoreSnapshot(context, input),
  createDiskImage: (context) => async (input) => await images.createDiskImage(context, input),
  deleteDiskImage: (context) => async (id) => await images.deleteDiskImage(context, id),
  imageToUpload: (context) => async (id) => await images.imageToUpload(context, id),
  imageUploaded: (context) => async (id) => await images.imageUploaded(context, id),
  addRegistryCredential: (context) => async (input) => await compute.addRegistryCredential(context, input),
  createTunnel: (context) => async (input) => await edge.createTunnel(context, input),
  deleteTunnel: (context) => async (id) => await edge.deleteTunnel(context, id),
  createServiceTunnel: (context) => async (input) => await edge.createServiceTunnel(context, input),
  createRoute: (context) => async (input) => await edge.createRoute(context, input),
  createCertificate: (context) => async (input) => await edge.createCertificate(context, input),
  create: (context, verbs) => async (kind, input) => await createGeneric(context, verbs, kind, input),
  patch: (context, verbs) => async (kind, id, change) => await patchGeneric(context, verbs, kind, id, change),
  remove: (context, verbs) => async (kind, id) => {
    const { draft, caller } = context
    authoriseFirst(caller, rightOver(kind), actionOf(kind.name, 'delete'))
    if (kind.name === 'replica') throw new CloudError('invalid', 'Scale its workload instead')
    if (kind.name === provider.name)
      throw new CloudError('unsupported', 'The configuration of the provider is changed, not removed')
    if (kind.name === tenant.name) return await verbs.deleteTenant(id)
    if (kind.name === vpc.name) return await verbs.deleteVpc(id)
    if (kind.name === workload.name) return await verbs.deleteWorkload(id)
    if (kind.name === volume.name) return await verbs.deleteVolume(id)
    if (kind.name === diskImage.name) return await verbs.deleteDiskImage(id)
    if (kind.name === role.name) return await verbs.iam.deleteRole(id)
    if (kind.name === serviceAccount.name) return await verbs.iam.deleteServiceAccount(id)
    const it = await verbs.get(kind, id)
    authorise(caller, rightOver(kind), actionOf(kind.name, 'delete'), it)
    if (it.deletedAt === undefined) {
      if (kind.name === membership.name) await keepOwner(draft, it.tenant, (it as Membership).spec.user)
      await removeWay(context, it)
      draft.mark(it)
      if (kind.name === mailRelay.name) await mail.wakeMessages(draft)
    }
    return it
  },
  get:
    ({ draft, caller }) =>
    async (kind, id) => {
      const it = await draft.get(kind, tenantFor(caller, kind), id)
      if (!it) throw new CloudError('not_found', `${title(kind.name)} not found`)
      return it
    },
  list:
    ({ draft, caller }) =>
    async (kind, terms) =>
      await draft.list(kind, { tenant: tenantFor(caller, kind), terms, deleted: false }),
  find:
    ({ draft, caller }) =>
    async (kind, scope, name) => {
      const claim = await draft.claimed(`${kind.name}-name:${scope}`, name)
      return claim && (await draft.get(kind, tenantFor(caller, kind), claim.owner))
    },
}

/** The verbs bound to one commit in the making. */
export const createVerbs: (context: VerbContext) => Verbs = binder(VERBS)

const DEFAULT_NETWORK = { name: 'default', cidr: '172.31.0.0/20', gateway: '172.31.0.1' }

/** Where an instance goes: into the subnet that is named, else the first of its VPC, else the tenant's default one. */
async function placeOf(
  verbs: Verbs,
  caller: Caller,
  asked: { vpc?: string; subnet?: string },
): Promise<Subnet> {
  if (asked.subnet !== undefined) {
    const it = await verbs.get(subnet, asked.subnet)
    if (asked.vpc !== undefined && it.spec.vpc !== asked.vpc)
      throw new CloudError('invalid', 'is not in this VPC', { field: 'subnet_id' })
    return it
  }
  const { name, cidr, gateway } = DEFAULT_NETWORK
  const inVpc =
    asked.vpc === undefined
      ? ((await verbs.find(vpc, ownTenant(caller), name)) ??
        (await verbs.createVpc({ name, internet: true })))
      : await verbs.get(vpc, asked.vpc)
  const [first] = await verbs.list(subnet, [`vpc:${inVpc.id}`])
  if (first) return first
  if (asked.vpc !== undefined)
    throw new CloudError('invalid', 'has no subnet; make one first', { field: 'vpc_id' })
  return await verbs.createSubnet({ vpc: inVpc.id, name, cidr, gateway })
}

async function launch(
  context: VerbContext,
  verbs: Verbs,
  input: Parameters<Verbs['launchInstance']>[0],
  pickExternal: compute.PickExternal,
): Promise<Workload> {
  const { caller } = context
  authoriseFirst(caller, 'write', 'instance:launch')
  const place = await placeOf(verbs, caller, input)
  const { spec } = await verbs.get(vpc, place.spec.vpc)
  const at = { vpc: place.spec.vpc, subnet: place.id }
  return await instance.launchInstance(context, { ...input, ...at }, pickExternal, spec.internet)
}

// Kinds that say who may act in a tenant.
const OWNERS = [credential, membership, role, policy, serviceAccount].map((it) => it.name)

const rightOver = (kind: AnyKind): Right =>
  kind.scope === 'platform' ? 'operate' : OWNERS.includes(kind.name) ? 'own' : 'write'

const title = (kind: string): string =>
  kind === 'vpc'
    ? 'VPC'
    : kind === 'workload'
      ? 'Pod'
      : kind[0]?.toUpperCase() + kind.slice(1).replaceAll('-', ' ')

async function createGeneric(
  context: VerbContext,
  verbs: Verbs,
  kind: AnyKind,
  input: NewGeneric,
): Promise<Resource> {
  const { name, labels } = input
  // Before anything is looked at: what there is already is not for everybody to know.
  authorise(context.caller, rightOver(kind), actionOf(kind.name, 'create'), { kind: kind.name, name })
  const spec = objectOf(input.spec)
  const common = { name, ...(labels ? { labels } : {}) }
  switch (kind.name) {
    case tenant.name: {
      known(spec, ['description', 'quotas'])
      const { tenant: made } = await verbs.createTenant({
        name,
        description: textOr(spec, 'description', null),
      })
      if (!labels && spec['quotas'] === undefined) return made
      const quotas = spec['quotas'] === undefined ? {} : { spec: { quotas: spec['quotas'] } }
      return await verbs.patch(kind, made.id, { ...(labels ? { labels } : {}), ...quotas })
    }
    case user.name: {
      known(spec, ['password', 'admin', 'memberships'], ['passwordHash'])
      const password = newPassword(spec)
      const memberships = spec['memberships'] ?? []
      const shape = checked(user, {
        passwordHash: '',
        admin: flag(spec, 'admin', false),
        memberships,
      }) as User['spec']
      return await verbs.createUser({ name, password, admin: shape.admin, memberships: shape.memberships })
    }
    case provider.name: {
      if (await network.currentProvider(context))
        throw new CloudError('already_exists', 'The provider is configured already')
      const input = { ...spec, cloudflareToken: spec['cloudflareToken'] ?? '' }
      return (await verbs.putProvider(checked(kind, input) as Provider['spec'])).provider
    }
    case membership.name: {
      known(spec, ['user', 'role'])
      const shape = checked(kind, spec) as Membership['spec']
      return await verbs.addMember({ ...common, user: { id: shape.user }, role: shape.role })
    }
    case role.name: {
      const shape = checked(kind, { description: '', permissions: [], ...spec }) as RoleResource['spec']
      return await verbs.iam.createRole({ ...common, ...shape })
    }
    case policy.name: {
      known(spec, ['description', 'statements'], ['attachedTo'])
      const shape = checked(kind, { ...spec, attachedTo: [] }) as Policy['spec']
      return await verbs.iam.createPolicy({ ...common, ...shape })
    }
    case serviceAccount.name: {
      known(spec, ['description', 'role'], ['secrets', 'signingKey', 'enabled'])
      const description = textOr(spec, 'description', null)
      const { account: made } = await verbs.iam.createServiceAccount({
        ...common,
        role: text(spec, 'role'),
        ...(description === null ? {} : { description }),
      })
      return made
    }
    case vpc.name: {
      known(spec, ['internet', 'cidr', 'vpn', 'deployments'], ['index', 'range6', 'natAddress', 'creator'])
      const { vpn, deployments } = spec as Partial<Vpc['spec']>
      return await verbs.createVpc({
        ...common,
        internet: flag(spec, 'internet', true),
        ...(spec['cidr'] === undefined ? {} : { cidr: text(spec, 'cidr') }),
        ...(vpn === undefined ? {} : { vpn }),
        ...(deployments === undefined ? {} : { deployments }),
      })
    }
    case subnet.name:
      known(spec, ['vpc', 'cidr', 'gateway'], ['index6', 'creator'])
      return await verbs.createSubnet({
        ...common,
        vpc: text(spec, 'vpc'),
        cidr: text(spec, 'cidr'),
        ...(spec['gateway'] === undefined ? {} : { gateway: text(spec, 'gateway') }),
      })
    case workload.name: {
      const { vpc: _vpc, subnet: _subnet, inbound: _inbound, ...rest } = spec
      known(spec, Object.keys({ ...workload.spec.properties, inbound: true }), [
        'vip',
        'externalAddress',
        'attempt',
        'change',
        'instance',
        'volumes',
      ])
      if (typeof rest['image'] !== 'string')
        throw new CloudError('invalid', 'is required', { field: 'spec.image' })
      return await verbs.createWorkload({
        ...common,
        vpc: text(spec, 'vpc'),
        subnet: text(spec, 'subnet'),
        inbound: flag(spec, 'inbound', false),
        // The draft checks it whole against the kind's schema.
        spec: rest as compute.NewWorkload['spec'],
      })
    }
    case sshKey.name:
      known(spec, ['publicKey'], ['fingerprint', 'creator'])
      return await verbs.createSshKey({ ...common, publicKey: text(spec, 'publicKey') })
    case volume.name: {
      known(spec, ['sizeGib'], ['from', 'creator'])
      return await verbs.createVolume({ ...common, ...(checked(kind, spec) as Volume['spec']) })
    }
    case snapshot.name: {
      known(spec, ['volume', 'description'], ['volumeName', 'sizeGib', 'creator'])
      const shape = checked(kind, { ...spec, volumeName: '', sizeGib: 1 }) as Snapshot['spec']
      const { volume: of, description } = shape
      return await verbs.createSnapshot({
        ...common,
        volume: of,
        ...(description === undefined ? {} : { description }),
      })
    }
    case diskImage.name: {
      known(spec, ['os', 'version', 'description', 'public', 'url'], ['source', 'uploads', 'creator'])
      return await verbs.createDiskImage({
        ...common,
        ...(checked(kind, { public: false, ...spec }) as DiskImage['spec']),
      })
    }
    case registryCredential.name:
      known(spec, ['server', 'username', 'password'])
      return await verbs.addRegistryCredential({
        name,
        server: text(spec, 'server'),
        username: text(spec, 'username'),
        password: text(spec, 'password'),
      })
    case tunnel.name: {
      known(spec, ['workload', 'protocol', 'hostname', 'port', 'certificate'], ['vpc', 'under'])
      const shape = checked(kind, { port: PORT_DEFAULT, ...spec, vpc: '' }) as Tunnel['spec']
      return await verbs.createTunnel({ ...common, ...shape })
    }
    case serviceTunnel.name: {
      known(spec, ['service', 'protocol', 'hostname', 'port'])
      const { api } = context.settings
      const shape = checked(kind, { protocol: 'https', port: api.port, ...spec }) as ServiceTunnel['spec']
      return await verbs.createServiceTunnel({ ...common, ...shape })
    }
    case route.name: {
      known(spec, Object.keys(route.spec.properties), ['under'])
      const shape = { pathPrefix: '/', stripPrefix: false, protocol: 'http', plain: false, ...spec }
      return await verbs.createRoute({ ...common, spec: checked(kind, shape) as Route['spec'] })
    }
    case domain.name:
      known(spec, [], ['proof', 'challenge'])
      return await edge.createDomain(context, common)
    case acme.name: {
      authorise(context.caller, 'operate', 'acme:create')
      const shape = { challenge: 'http-01', hmacKey: '', byDefault: true, ...spec }
      return context.draft.create(acme, {
        tenant: PLATFORM,
        ...common,
        spec: checked(kind, shape) as Acme['spec'],
      })
    }
    case mailRelay.name: {
      const shape = { port: 587, tls: 'starttls', password: '', ...spec }
      return await mail.createRelay(context, {
        ...common,
        spec: checked(kind, shape) as MailRelay['spec'],
      })
    }
    case certificate.name:
      return await verbs.createCertificate({
        ...common,
        spec: checked(kind, { source: 'internal', ...spec }) as Certificate['spec'],
      })
    case securityGroup.name:
      return await rules.createSecurityGroup(context, {
        ...common,
        spec: checked(kind, spec) as SecurityGroup['spec'],
      })
    case routeTable.name:
      return await verbs.createRouteTable({
        ...common,
        spec: checked(kind, spec) as RouteTable['spec'],
      })
    case sdn.name: {
      const { members } = checked(kind, withMembers({ members: [], ...spec })) as Network['spec']
      return await inside.createNetwork(context, { ...common, members })
    }
    case scopedVariable.name:
      return await inside.createVariable(context, {
        ...common,
        spec: checked(kind, spec) as ScopedVariable['spec'],
      })
    case vpnUser.name:
      known(spec, ['vpc', 'password'], ['passwordHash', 'lastLoginAt'])
      return await inside.createVpnUser(context, {
        ...common,
        vpc: text(spec, 'vpc'),
        passwordHash: await hashPassword(newPassword(spec)),
      })
    case integration.name:
      return inside.createIntegration(context, {
        ...common,
        spec: checked(kind, spec) as Integration['spec'],
      })
    default: {
      const way = await createWay(context, kind, common, spec)
      if (way) return way
      if (NOT_BY_HAND.includes(kind.name))
        throw new CloudError('unsupported', `A ${kind.name} is not made by hand`)
      authorise(context.caller, 'operate', actionOf(kind.name, 'create'))
      return context.draft.create(kind, {
        tenant: kind.scope === 'platform' ? PLATFORM : ownTenant(context.caller),
        ...common,
        spec,
      })
    }
  }
}

async function patchGeneric(
  context: VerbContext,
  verbs: Verbs,
  kind: AnyKind,
  id: string,
  change: GenericChange,
): Promise<Resource> {
  const { draft, caller } = context
  authoriseFirst(caller, rightOver(kind), actionOf(kind.name, 'update'))
  if (NOT_BY_HAND.includes(kind.name))
    throw new CloudError('unsupported', `A ${kind.name} is not changed by hand`)
  const it = await verbs.get(kind, id)
  authorise(caller, rightOver(kind), actionOf(kind.name, 'update'), it)
  if (change.generation !== undefined && change.generation !== it.generation)
    throw new CloudError('conflict', `It has changed meanwhile: generation ${it.generation}`, {
      rule: 'wrong_state',
    })
  if (it.deletedAt !== undefined)
    throw new CloudError('conflict', 'It is being deleted', { rule: 'wrong_state' })
  if (change.name !== undefined && change.name !== it.name)
    throw new CloudError('invalid', 'cannot be changed', { field: 'name' })
  const labels = mergeLabels(it.labels, change.labels)
  const merged =
    change.spec === undefined ? it.spec : withNulls(kind, mergePatch(it.spec, change.spec), change.spec)
  if (kind.name === provider.name)
    return draft.edit(
      provider,
      (await verbs.putProvider(checked(kind, merged) as Provider['spec'])).provider,
      { labels },
    )
  if (kind.name === workload.name)
    return await patchWorkload(
      context,
      verbs,
      it as Workload,
      checked(kind, merged) as Workload['spec'],
      labels,
    )
  if (
    kind.name === volume.name &&
    (checked(kind, merged) as Volume['spec']).sizeGib < (it as Volume).spec.sizeGib
  )
    throw new CloudError('invalid', 'cannot become less', { field: 'spec.sizeGib' })
  if (kind.name === securityGroup.name)
    await rules.checkRules(context, checked(kind, merged) as SecurityGroup['spec'], it.id)
  if (kind.name === route.name || kind.name === tunnel.name)
    await edge.checkChange(context, checked(kind, merged) as edge.Changed, it)
  if (kind.name === certificate.name) {
    if (it.owner !== undefined)
      throw new CloudError('conflict', 'It belongs to a tunnel or route, which keeps it as it is', {
        rule: 'wrong_state',
      })
    const wanted = checked(kind, merged) as Certificate['spec']
    const had = (it as Certificate).spec.key
    const key = wanted.key === had ? draft.open(it, 'key') : wanted.key
    await edge.checkCertificate(context, it.tenant, key === undefined ? wanted : { ...wanted, key })
  }
  if (kind.name === vpc.name && (merged as Vpc['spec']).natAddress !== (it as Vpc).spec.natAddress)
    throw new CloudError('invalid', 'is given by the platform', { field: 'spec.natAddress' })
  if (kind.name === membership.name) {
    const { user: of, role: wanted } = checked(kind, merged) as Membership['spec']
    await account.needGrantable(context, wanted)
    if (of === (it as Membership).spec.user) await keepOwner(draft, it.tenant, of, wanted)
  }
  if (kind.name === serviceAccount.name)
    return await patchServiceAccount(context, it as ServiceAccount, checked(kind, merged), labels)
  if (kind.name === diskImage.name) {
    const wanted = checked(kind, merged) as DiskImage['spec']
    return draft.edit(kind, it, { spec: images.changeDiskImage(context, it as DiskImage, wanted), labels })
  }
  const way = await changeWay(context, kind, it, merged)
  if (way) return draft.edit(kind, way, { labels })
  if (kind.name === mailRelay.name) {
    mail.checkRelay(checked(kind, merged) as MailRelay['spec'])
    await mail.wakeMessages(draft)
  }
  const spec = await insideChange(context, kind, it, merged)
  const edited = draft.edit(kind, it, { spec, labels })
  if (kind.name === role.name) await keepOwnersBy(draft, it as RoleResource)
  if (kind.name === tenant.name) identity.tenantChanged(context, it as Tenant, edited as Tenant)
  return edited
}

/** A changed spec of a kind of the workloads' own API, made whole and looked at; others are as they were. */
async function insideChange(
  context: VerbContext,
  kind: AnyKind,
  it: Resource,
  merged: unknown,
): Promise<unknown> {
  switch (kind.name) {
    case sdn.name: {
      const { members } = checked(kind, withMembers(objectOf(merged))) as Network['spec']
      return { members: await inside.checkMembers(context, members, (it as Network).spec.members) }
    }
    case scopedVariable.name:
      await inside.checkVariable(context, it.name, checked(kind, merged) as ScopedVariable['spec'])
      return merged
    case vpnUser.name: {
      const { password, ...rest } = objectOf(merged)
      for (const field of ['passwordHash', 'lastLoginAt'] as const)
        if (rest[field] !== (it as VpnUser).spec[field])
          throw new CloudError('invalid', 'is given by the platform', { field: `spec.${field}` })
      if (password === undefined) return rest
      return { ...rest, passwordHash: await hashPassword(newPassword({ password })) }
    }
    default:
      return merged
  }
}

/** Members as a caller may name them, in the form that they are kept in. */
const withMembers = (spec: Given): Given =>
  Array.isArray(spec['members'])
    ? {
        ...spec,
        members: spec['members'].map((it: unknown) => (typeof it === 'object' ? { addedAt: 0, ...it } : it)),
      }
    : spec

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
  wanted: unknown,
  labels: Record<string, string>,
): Promise<Resource> {
  const { role: asked, enabled, description, ...given } = wanted as ServiceAccount['spec']
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

function objectOf(value: unknown): Given {
  if (value === undefined) return {}
  if (value === null || typeof value !== 'object' || Array.isArray(value))
    throw new CloudError('invalid', 'must be an object', { field: 'spec' })
  return { ...value }
}

function newPassword(spec: Given): string {
  const password = text(spec, 'password')
  if (password.length < PASSWORD_LENGTH_MIN || password.length > PASSWORD_LENGTH_MAX)
    throw new CloudError(
      'invalid',
      `must have at least ${PASSWORD_LENGTH_MIN} and at most ${PASSWORD_LENGTH_MAX} characters`,
      { field: 'spec.password' },
    )
  return password
}

function textOr(spec: Given, field: string, otherwise: null): string | null {
  return spec[field] === undefined || spec[field] === null ? otherwise : text(spec, field)
}

function flag(spec: Given, field: string, otherwise: boolean): boolean {
  const value = spec[field] ?? otherwise
  if (typeof value !== 'boolean')
    throw new CloudError('invalid', 'must be true or false', { field: `spec.${field}` })
  return value
}

/** The spec, seen to have the kind's shape; the field that is wrong is named. */
function checked(kind: AnyKind, spec: unknown): unknown {
  checkSpec(kind, spec)
  return spec
}
