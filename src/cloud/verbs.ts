import type { Static, TSchema } from 'typebox'
import { CloudError } from '#lib/errors.ts'
import type { Kind } from '#engine/kind.ts'
import { type AnyKind, type Resource } from '#engine/resource.ts'
import * as compute from './compute/compute.verbs.ts'
import * as images from './compute/disk-image.verbs.ts'
import { diskImage, type DiskImage } from './compute/disk-image.kind.ts'
import * as instance from './compute/instance.verbs.ts'
import type { RegistryCredential } from './compute/registry-credential.kind.ts'
import type { Replica } from './compute/replica.kind.ts'
import type { SshKey } from './compute/ssh-key.kind.ts'
import { workload, type Workload } from './compute/workload.kind.ts'
import type { Certificate } from './edge/certificate.kind.ts'
import type { Domain } from './edge/domain.kind.ts'
import * as edge from './edge/edge.verbs.ts'
import type { Route } from './edge/route.kind.ts'
import type { ServiceTunnel } from './edge/service-tunnel.kind.ts'
import type { Tunnel } from './edge/tunnel.kind.ts'
import type { Credential } from './identity/credential.kind.ts'
import * as account from './identity/account.verbs.ts'
import * as identity from './identity/identity.verbs.ts'
import * as iam from './identity/iam.verbs.ts'
import { mailRelay } from './identity/mail-relay.kind.ts'
import * as mail from './identity/mail.verbs.ts'
import { membership, type Membership } from './identity/membership.kind.ts'
import { keepOwner, keepOwnersWithout } from './identity/owners.ts'
import { role } from './identity/role.kind.ts'
import { serviceAccount } from './identity/service-account.kind.ts'
import { tenant, type Tenant } from './identity/tenant.kind.ts'
import { type Role, user, type User } from './identity/user.kind.ts'
import * as network from './network/network.verbs.ts'
import { provider, type Provider } from './network/provider.kind.ts'
import { checkPeered } from './network/peering.verbs.ts'
import { leaveBalancers } from './network/balancer.verbs.ts'
import { freeElasticIps } from './network/gateway.verbs.ts'
import { subnet, type Subnet } from './network/subnet.kind.ts'
import { vpc, type Vpc } from './network/vpc.kind.ts'
import { removeWay, WAY_VERBS, type WayVerbs } from './network/ways.verbs.ts'
import type { Snapshot } from './storage/snapshot.kind.ts'
import * as storage from './storage/storage.verbs.ts'
import { volume, type Volume } from './storage/volume.kind.ts'
import { binder, type Unbound } from './bound.ts'
import { actionOf, type Caller, authorise, authoriseFirst, ownTenant, tenantFor } from './access.ts'
import type { VerbContext } from './context.ts'
import { createGeneric, type NewGeneric } from './generic.create.ts'
import { type GenericChange, patchGeneric } from './generic.change.ts'
import { rightOver } from './generic.ts'
import { once, type Repeatable } from './once.ts'

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
      if (kind.name === membership.name) {
        await keepOwner(draft, it.tenant, (it as Membership).spec.user)
        await account.leaveList(draft, it as Membership)
      }
      await removeWay(context, it)
      draft.mark(it)
      if (kind.name === user.name) await keepOwnersWithout(draft, it as User)
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

const title = (kind: string): string =>
  kind === 'vpc'
    ? 'VPC'
    : kind === 'workload'
      ? 'Pod'
      : kind[0]?.toUpperCase() + kind.slice(1).replaceAll('-', ' ')
