import { CloudError } from '#lib/errors.ts'
import { type AnyKind, PLATFORM, type Resource } from '#engine/resource.ts'
import { actionOf, authorise, ownTenant } from './access.ts'
import type { NewWorkload } from './compute/compute.verbs.ts'
import { diskImage } from './compute/disk-image.kind.ts'
import { registryCredential } from './compute/registry-credential.kind.ts'
import { sshKey } from './compute/ssh-key.kind.ts'
import { workload } from './compute/workload.kind.ts'
import type { VerbContext } from './context.ts'
import { acme } from './edge/acme.kind.ts'
import { certificate } from './edge/certificate.kind.ts'
import { domain } from './edge/domain.kind.ts'
import * as edge from './edge/edge.verbs.ts'
import { route } from './edge/route.kind.ts'
import { serviceTunnel } from './edge/service-tunnel.kind.ts'
import { tunnel } from './edge/tunnel.kind.ts'
import { NOT_BY_HAND, rightOver, withMembers } from './generic.ts'
import { checked, flag, type Given, known, newPassword, objectOf, text, textOrNull } from './given.ts'
import { mailRelay } from './identity/mail-relay.kind.ts'
import * as mail from './identity/mail.verbs.ts'
import { membership } from './identity/membership.kind.ts'
import { policy } from './identity/policy.kind.ts'
import { role } from './identity/role.kind.ts'
import { hashPassword } from './identity/secrets.ts'
import { serviceAccount } from './identity/service-account.kind.ts'
import { tenant } from './identity/tenant.kind.ts'
import { user } from './identity/user.kind.ts'
import * as inside from './inside/inside.verbs.ts'
import { integration } from './inside/integration.kind.ts'
import { network as sdn } from './inside/network.kind.ts'
import { scopedVariable } from './inside/scoped-variable.kind.ts'
import { vpnUser } from './inside/vpn-user.kind.ts'
import * as network from './network/network.verbs.ts'
import { provider } from './network/provider.kind.ts'
import { routeTable } from './network/route-table.kind.ts'
import * as rules from './network/rules.verbs.ts'
import { securityGroup } from './network/security-group.kind.ts'
import { subnet } from './network/subnet.kind.ts'
import { vpc, type Vpc } from './network/vpc.kind.ts'
import { createWay } from './network/ways.verbs.ts'
import { snapshot } from './storage/snapshot.kind.ts'
import { volume } from './storage/volume.kind.ts'
import type { Verbs } from './verbs.ts'

/** A resource of any kind, as the native API is given it. */
export type NewGeneric = { name: string; labels?: Record<string, string>; spec: unknown }

type Common = { readonly name: string; readonly labels?: Record<string, string> }
type Make = (spec: Given, common: Common, verbs: Verbs, context: VerbContext) => Promise<Resource>

const PORT_DEFAULT = 80
const MAIL_PORT_DEFAULT = 587

/** Makes a resource of any kind of what a caller gave: the kind's own verb, where it has one, with defaults filled in. */
export async function createGeneric(
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
  const make = MAKES[kind.name]
  const made = make ? await make(spec, common, verbs, context) : await createWay(context, kind, common, spec)
  if (made) return made
  if (NOT_BY_HAND.includes(kind.name))
    throw new CloudError('unsupported', `A ${kind.name} is not made by hand`)
  authorise(context.caller, 'operate', actionOf(kind.name, 'create'))
  return context.draft.create(kind, {
    tenant: kind.scope === 'platform' ? PLATFORM : ownTenant(context.caller),
    ...common,
    spec,
  })
}

/** By the kind's name; one that is not here is a way of the network, or made as it is given. */
const MAKES: Readonly<Record<string, Make>> = {
  async [tenant.name](spec, { name, labels }, verbs) {
    known(spec, ['description', 'quotas'])
    const description = textOrNull(spec, 'description')
    const { tenant: made } = await verbs.createTenant({ name, description })
    if (!labels && spec['quotas'] === undefined) return made
    const quotas = spec['quotas'] === undefined ? {} : { spec: { quotas: spec['quotas'] } }
    return await verbs.patch(tenant as unknown as AnyKind, made.id, {
      ...(labels ? { labels } : {}),
      ...quotas,
    })
  },
  async [user.name](spec, { name }, verbs) {
    known(spec, ['password', 'admin', 'memberships'], ['passwordHash'])
    const password = newPassword(spec)
    const admin = flag(spec, 'admin', false)
    const shape = checked(user, { passwordHash: '', admin, memberships: spec['memberships'] ?? [] })
    return await verbs.createUser({ name, password, admin, memberships: shape.memberships })
  },
  async [provider.name](spec, _, verbs, context) {
    if (await network.currentProvider(context))
      throw new CloudError('already_exists', 'The provider is configured already')
    const input = { ...spec, cloudflareToken: spec['cloudflareToken'] ?? '' }
    return (await verbs.putProvider(checked(provider, input))).provider
  },
  async [membership.name](spec, common, verbs) {
    known(spec, ['user', 'role'])
    const shape = checked(membership, spec)
    return await verbs.addMember({ ...common, user: { id: shape.user }, role: shape.role })
  },
  [role.name]: async (spec, common, verbs) =>
    await verbs.iam.createRole({
      ...common,
      ...checked(role, { description: '', permissions: [], ...spec }),
    }),
  async [policy.name](spec, common, verbs) {
    known(spec, ['description', 'statements'], ['attachedTo'])
    return await verbs.iam.createPolicy({ ...common, ...checked(policy, { ...spec, attachedTo: [] }) })
  },
  async [serviceAccount.name](spec, common, verbs) {
    known(spec, ['description', 'role'], ['secrets', 'signingKey', 'enabled'])
    const description = textOrNull(spec, 'description')
    const { account: made } = await verbs.iam.createServiceAccount({
      ...common,
      role: text(spec, 'role'),
      ...(description === null ? {} : { description }),
    })
    return made
  },
  async [vpc.name](spec, common, verbs) {
    known(spec, ['internet', 'cidr', 'vpn', 'deployments'], ['index', 'range6', 'natAddress', 'creator'])
    const { vpn, deployments } = spec as Partial<Vpc['spec']>
    return await verbs.createVpc({
      ...common,
      internet: flag(spec, 'internet', true),
      ...(spec['cidr'] === undefined ? {} : { cidr: text(spec, 'cidr') }),
      ...(vpn === undefined ? {} : { vpn }),
      ...(deployments === undefined ? {} : { deployments }),
    })
  },
  async [subnet.name](spec, common, verbs) {
    known(spec, ['vpc', 'cidr', 'gateway'], ['index6', 'creator'])
    return await verbs.createSubnet({
      ...common,
      vpc: text(spec, 'vpc'),
      cidr: text(spec, 'cidr'),
      ...(spec['gateway'] === undefined ? {} : { gateway: text(spec, 'gateway') }),
    })
  },
  async [workload.name](spec, common, verbs) {
    known(spec, Object.keys({ ...workload.spec.properties, inbound: true }), GIVEN_OF_WORKLOAD)
    const { vpc: _vpc, subnet: _subnet, inbound: _inbound, ...rest } = spec
    // Parts that may be given in part.
    for (const part of ['autoscaling', 'persistence']) objectOf(rest[part], `spec.${part}`)
    if (typeof rest['image'] !== 'string')
      throw new CloudError('invalid', 'is required', { field: 'spec.image' })
    return await verbs.createWorkload({
      ...common,
      vpc: text(spec, 'vpc'),
      subnet: text(spec, 'subnet'),
      inbound: flag(spec, 'inbound', false),
      // The draft checks it whole against the kind's schema.
      spec: rest as NewWorkload['spec'],
    })
  },
  async [sshKey.name](spec, common, verbs) {
    known(spec, ['publicKey'], ['fingerprint', 'creator'])
    return await verbs.createSshKey({ ...common, publicKey: text(spec, 'publicKey') })
  },
  async [volume.name](spec, common, verbs) {
    known(spec, ['sizeGib'], ['from', 'creator'])
    return await verbs.createVolume({ ...common, ...checked(volume, spec) })
  },
  async [snapshot.name](spec, common, verbs) {
    known(spec, ['volume', 'description'], ['volumeName', 'sizeGib', 'creator'])
    const { volume: of, description } = checked(snapshot, { ...spec, volumeName: '', sizeGib: 1 })
    return await verbs.createSnapshot({
      ...common,
      volume: of,
      ...(description === undefined ? {} : { description }),
    })
  },
  async [diskImage.name](spec, common, verbs) {
    known(spec, ['os', 'version', 'description', 'public', 'url'], ['source', 'uploads', 'creator'])
    return await verbs.createDiskImage({ ...common, ...checked(diskImage, { public: false, ...spec }) })
  },
  async [registryCredential.name](spec, { name }, verbs) {
    known(spec, ['server', 'username', 'password'])
    return await verbs.addRegistryCredential({
      name,
      server: text(spec, 'server'),
      username: text(spec, 'username'),
      password: text(spec, 'password'),
    })
  },
  async [tunnel.name](spec, common, verbs) {
    known(spec, ['workload', 'protocol', 'hostname', 'port', 'certificate'], ['vpc', 'under'])
    const shape = checked(tunnel, { port: PORT_DEFAULT, ...spec, vpc: '' })
    return await verbs.createTunnel({ ...common, ...shape })
  },
  async [serviceTunnel.name](spec, common, verbs, { settings }) {
    known(spec, ['service', 'protocol', 'hostname', 'port'])
    const shape = checked(serviceTunnel, { protocol: 'https', port: settings.api.port, ...spec })
    return await verbs.createServiceTunnel({ ...common, ...shape })
  },
  async [route.name](spec, common, verbs) {
    known(spec, Object.keys(route.spec.properties), ['under'])
    const shape = { pathPrefix: '/', stripPrefix: false, protocol: 'http', plain: false, ...spec }
    return await verbs.createRoute({ ...common, spec: checked(route, shape) })
  },
  async [domain.name](spec, common, _, context) {
    known(spec, [], ['proof', 'challenge'])
    return await edge.createDomain(context, common)
  },
  async [acme.name](spec, common, _, { caller, draft }) {
    authorise(caller, 'operate', 'acme:create')
    const shape = { challenge: 'http-01', hmacKey: '', byDefault: true, ...spec }
    return await Promise.resolve(
      draft.create(acme, { tenant: PLATFORM, ...common, spec: checked(acme, shape) }),
    )
  },
  async [mailRelay.name](spec, common, _, context) {
    const shape = { port: MAIL_PORT_DEFAULT, tls: 'starttls', password: '', ...spec }
    return await mail.createRelay(context, { ...common, spec: checked(mailRelay, shape) })
  },
  [certificate.name]: async (spec, common, verbs) =>
    await verbs.createCertificate({ ...common, spec: checked(certificate, { source: 'internal', ...spec }) }),
  [securityGroup.name]: async (spec, common, _, context) =>
    await rules.createSecurityGroup(context, { ...common, spec: checked(securityGroup, spec) }),
  [routeTable.name]: async (spec, common, verbs) =>
    await verbs.createRouteTable({ ...common, spec: checked(routeTable, spec) }),
  async [sdn.name](spec, common, _, context) {
    const { members } = checked(sdn, withMembers({ members: [], ...spec }))
    return await inside.createNetwork(context, { ...common, members })
  },
  [scopedVariable.name]: async (spec, common, _, context) =>
    await inside.createVariable(context, { ...common, spec: checked(scopedVariable, spec) }),
  async [vpnUser.name](spec, common, _, context) {
    known(spec, ['vpc', 'password'], ['passwordHash', 'lastLoginAt'])
    const passwordHash = await hashPassword(newPassword(spec))
    return await inside.createVpnUser(context, { ...common, vpc: text(spec, 'vpc'), passwordHash })
  },
  [integration.name]: async (spec, common, _, context) =>
    await Promise.resolve(inside.createIntegration(context, { ...common, spec: checked(integration, spec) })),
}

/** What of a workload is not for a caller to say. */
const GIVEN_OF_WORKLOAD = ['vip', 'externalAddress', 'attempt', 'change', 'instance', 'volumes']
