import { randomBytes } from 'node:crypto'
import { CloudError } from '#lib/errors.ts'
import type { Draft } from '#engine/draft.ts'
import { ALL, type AnyKind, PLATFORM, type Resource } from '#engine/resource.ts'
import { authorise, authoriseFirst, ownTenant } from '#cloud/access.ts'
import { needPromise, type VerbContext } from '#cloud/context.ts'
import { workload, type Workload } from '#cloud/compute/workload.kind.ts'
import { provider } from '#cloud/network/provider.kind.ts'
import { vpc } from '#cloud/network/vpc.kind.ts'
import { certificate, type Certificate } from './certificate.kind.ts'
import { checkGiven } from './certificate.reconcile.ts'
import { acme } from './acme.kind.ts'
import { domain, type Domain, isUsable } from './domain.kind.ts'
import { endsTls } from './front.ts'
import { route, type Route } from './route.kind.ts'
import { serviceTunnel, type ServiceTunnel } from './service-tunnel.kind.ts'
import { HOSTNAME, tunnel, type Tunnel, type TunnelProtocol } from './tunnel.kind.ts'

/** Most tunnels, most routes, and most certificates made by hand that a tenant may have. */
export const TUNNELS_MAX = 500

export type NewTunnel = {
  readonly workload: string
  /** Absent: `<workload>-tunnel`, then `-tunnel-2` and so on. */
  readonly name?: string
  readonly labels?: Readonly<Record<string, string>>
  readonly protocol: TunnelProtocol
  readonly port: number
  readonly certificate?: string
} & Hostname

/** A whole hostname, or a label below a domain: the installation's default one unless one is named. */
export type Hostname =
  | { readonly hostname: string }
  | { readonly subdomain: string; readonly domain?: string }

/** A hostname that a tenant may use, with its domain that allows it; without one it is below the installation's own. */
type Allowed = { readonly hostname: string; readonly under?: string }

const CHALLENGE_BYTES = 16
/** Ports of datagram tunnels that a program of the machine has are for the driver to refuse; these are nobody's to take. */
const UDP_RESERVED = [53]

const invalid = (field: string, message: string): CloudError => new CloudError('invalid', message, { field })

const isBelow = (hostname: string, name: string): boolean => hostname.endsWith(`.${name}`)

async function allowed(
  { draft }: Pick<VerbContext, 'draft'>,
  tenant: string,
  wanted: Hostname,
): Promise<Allowed> {
  const [config] = await draft.list(provider, { tenant: PLATFORM, deleted: false })
  const shared = config?.spec.cloudflareDomain?.toLowerCase()
  const own = (await draft.list(domain, { tenant, deleted: false })).filter(isUsable)
  if ('subdomain' in wanted) {
    const name = wanted.domain?.toLowerCase() ?? shared
    if (!name)
      throw invalid('domain', 'there is no default domain: name one of your domains, or ask an administrator')
    return await allowed({ draft }, tenant, { hostname: `${wanted.subdomain}.${name}` })
  }
  const hostname = wanted.hostname.toLowerCase()
  const bare = hostname.replace(/^\*\./, '')
  const of = own.find((it) => bare === it.name || isBelow(bare, it.name))
  if (of) return { hostname, under: of.id }
  if (shared && isBelow(bare, shared) && !(await isHeld(draft, bare, shared))) return { hostname }
  throw invalid('domain', `${hostname} is below no domain that you may use`)
}

/** Whether a part of the installation's own domain that a hostname is in was given to a tenant. */
async function isHeld(draft: Draft, hostname: string, shared: string): Promise<boolean> {
  for (let name = hostname; isBelow(name, shared); name = name.slice(name.indexOf('.') + 1))
    if (await draft.claimed('domain', name)) return true
  return false
}

const tooMany = (what: string): CloudError =>
  new CloudError('exhausted', `A tenant has at most ${TUNNELS_MAX} ${what}`, { rule: 'quota' })

/**
 * A tunnel or route shares its hostname with nothing of another kind or tenant; asked under the hostname's guard. Below the
 * installation's own domain names are whose takes them first, one by one, and who had a certificate made for one has it.
 */
async function alone(
  draft: Draft,
  tenant: string,
  { hostname, under }: Allowed,
  mayShare: (it: Resource) => boolean,
): Promise<void> {
  await draft.guard(`hostname:${hostname}`, tenant === PLATFORM ? undefined : tenant)
  const query = { tenant: ALL, terms: [`hostname:${hostname}`], deleted: false } as const
  const taken: Resource[] = []
  for (const kind of [tunnel, serviceTunnel, route] as unknown as AnyKind[])
    taken.push(...(await draft.list(kind, query)).filter((it) => !mayShare(it)))
  if (under === undefined) {
    if (hostname.startsWith('*.'))
      throw invalid('hostname', 'all below is only for a domain of your own; name each hostname')
    const made = (await draft.list(certificate, query)).filter((it) => it.spec.source !== 'given')
    taken.push(...made.filter((it) => it.tenant !== tenant))
  }
  if (taken.length)
    throw new CloudError('already_exists', `${hostname} is in use: choose another subdomain`, {
      field: 'hostname',
    })
}

async function named(draft: Draft, pool: string, of: Workload): Promise<string> {
  for (let count = 1; count <= TUNNELS_MAX + 1; count++) {
    const name = `${of.name.slice(0, 52)}-tunnel${count === 1 ? '' : `-${count}`}`
    if (!(await draft.claimed(pool, name))) return name
  }
  throw tooMany('tunnels')
}

export async function createTunnel(context: VerbContext, input: NewTunnel): Promise<Tunnel> {
  const { draft, caller } = context
  authorise(caller, 'write', 'tunnel:create', {
    kind: 'tunnel',
    ...(input.name === undefined ? {} : { name: input.name }),
  })
  needPromise(context, 'fabric', 'tunnels')
  const tenant = ownTenant(caller)
  const of = await draft.get(workload, tenant, input.workload)
  if (!of) throw new CloudError('not_found', 'Pod not found')
  if (of.deletedAt !== undefined)
    throw new CloudError('conflict', 'Pod is being deleted', { rule: 'wrong_state' })
  if (input.protocol === 'udp' && UDP_RESERVED.includes(input.port))
    throw invalid('port', `${input.port} is the platform's own for UDP: choose another port`)
  const wanted = await allowed(context, tenant, input)
  const { hostname, under } = wanted
  if (hostname.startsWith('*.'))
    throw invalid('hostname', 'a tunnel has one hostname; use a route for all below')
  await alone(draft, tenant, wanted, () => false)
  const given = await usableCertificate(context, tenant, hostname, input.certificate)
  const name = input.name ?? (await named(draft, `tunnel-name:${tenant}`, of))
  const made = draft.create(tunnel, {
    tenant,
    name,
    ...(input.labels ? { labels: input.labels } : {}),
    spec: {
      workload: of.id,
      vpc: of.spec.vpc,
      protocol: input.protocol,
      hostname,
      port: input.port,
      ...(given === undefined ? {} : { certificate: given }),
      ...(under === undefined ? {} : { under }),
    },
  })
  count(draft, tenant, 'tunnels', made.id)
  if (endsTls(made) && given === undefined) await ensureCertificate(draft, made)
  return made
}

/** What a tenant asked to go is not there any more for a second asking: `not_found`. */
export async function deleteTunnel({ draft, caller }: VerbContext, id: string): Promise<Tunnel> {
  authoriseFirst(caller, 'write', 'tunnel:delete')
  const it = await draft.get(tunnel, ownTenant(caller), id)
  if (!it || it.deletedAt !== undefined) throw new CloudError('not_found', 'Tunnel not found')
  authorise(caller, 'write', 'tunnel:delete', it)
  draft.mark(it)
  return it
}

/** Counted by the store, so that concurrent verbs keep the maximum. */
function count(
  draft: Draft,
  tenant: string,
  what: 'tunnels' | 'routes' | 'certificates' | 'domains',
  owner: string,
): void {
  const pool = `${what}:${tenant}`
  draft.pool(pool, TUNNELS_MAX, tenant)
  draft.claim(
    { pool, value: owner, ends: 'deletion', amount: 1, refusal: tooMany(what).message, rule: 'quota' },
    owner,
  )
}

/** The certificate of its own that a tunnel or route without a named one is served with; goes with it. */
export async function ensureCertificate(
  draft: Draft,
  it: Tunnel | Route | ServiceTunnel,
): Promise<Certificate> {
  const [authority] = await draft.list(acme, { tenant: PLATFORM, deleted: false })
  return draft.create(certificate, {
    tenant: it.tenant,
    name: it.spec.hostname,
    owner: it.id,
    spec: { names: [it.spec.hostname], source: authority?.spec.byDefault ? 'acme' : 'internal' },
  })
}

/** A domain of the caller's tenant: an administrator's word is enough, a tenant proves it by a TXT record. */
export async function createDomain(
  { draft, caller }: VerbContext,
  input: { readonly name: string; readonly labels?: Readonly<Record<string, string>> },
): Promise<Domain> {
  authorise(caller, 'write', 'domain:create', { kind: 'domain', name: input.name })
  const name = input.name.toLowerCase()
  if (!new RegExp(HOSTNAME).test(name)) throw invalid('name', 'must be a domain name of at least two labels')
  const isAdmin = caller.scope === 'admin'
  const holder = await draft.claimed('domain', name)
  if (holder) throw new CloudError('already_exists', 'Domain already exists', { field: 'name' })
  const made = draft.create(domain, {
    ...input,
    name,
    tenant: ownTenant(caller),
    spec: isAdmin
      ? { proof: 'admin' }
      : { proof: 'dns', challenge: randomBytes(CHALLENGE_BYTES).toString('hex') },
  })
  count(draft, made.tenant, 'domains', made.id)
  return made
}

/** The named certificate, seen to be the tenant's and to cover the hostname. */
async function usableCertificate(
  { draft }: VerbContext,
  tenant: string,
  hostname: string,
  id: string | undefined,
): Promise<string | undefined> {
  if (id === undefined) return undefined
  const it = await draft.get(certificate, tenant, id)
  if (!it || it.deletedAt !== undefined) throw new CloudError('not_found', 'Certificate not found')
  if (!it.spec.names.some((name) => covers(name, hostname)))
    throw invalid('certificate', `certificate ${it.name} is not for ${hostname}`)
  return it.id
}

/** A certificate for names below domains that the tenant may use. */
export async function createCertificate(
  context: VerbContext,
  input: {
    readonly name: string
    readonly labels?: Readonly<Record<string, string>>
    readonly spec: Certificate['spec']
  },
): Promise<Certificate> {
  const { draft, caller } = context
  authorise(caller, 'write', 'certificate:create', { kind: 'certificate', name: input.name })
  const tenant = ownTenant(caller)
  await checkCertificate(context, tenant, input.spec)
  const made = draft.create(certificate, { ...input, tenant })
  count(draft, tenant, 'certificates', made.id)
  return made
}

/** Refuses names that are not the tenant's to have, and chain and key that are missing, wrong or not to be given. */
export async function checkCertificate(
  context: VerbContext,
  tenant: string,
  spec: Certificate['spec'],
): Promise<void> {
  for (const hostname of spec.names) {
    const wanted = await allowed(context, tenant, { hostname })
    // Whoever brings a key has it already.
    if (spec.source !== 'given' && wanted.under === undefined)
      await alone(context.draft, tenant, wanted, (it) => it.tenant === tenant)
  }
  if (spec.source === 'given') checkGiven(spec, context.draft.now)
  else if (spec.chain !== undefined || spec.key !== undefined)
    throw invalid('spec.chain', 'is only for the source given')
}

/** Whether a certificate's name is the hostname, or a wildcard of the level above it. */
export const covers = (name: string, hostname: string): boolean =>
  name === hostname || (name.startsWith('*.') && hostname.slice(hostname.indexOf('.')) === name.slice(1))

export async function createServiceTunnel(
  context: VerbContext,
  input: {
    readonly service: ServiceTunnel['spec']['service']
    readonly name?: string
    readonly protocol: 'http' | 'https'
    readonly port?: number
  } & Hostname,
): Promise<ServiceTunnel> {
  const { draft, caller, settings } = context
  authorise(caller, 'operate', 'service_tunnel:create')
  const wanted = await allowed(context, PLATFORM, input)
  const { hostname } = wanted
  await alone(draft, PLATFORM, wanted, () => false)
  const made = draft.create(serviceTunnel, {
    tenant: PLATFORM,
    name: input.name ?? `${input.service}-tunnel`,
    spec: {
      service: input.service,
      protocol: input.protocol,
      hostname,
      port: input.port ?? settings.api.port,
    },
  })
  await ensureCertificate(draft, made)
  return made
}

export type NewRoute = {
  readonly name: string
  readonly labels?: Readonly<Record<string, string>>
  readonly spec: Omit<Route['spec'], 'under'>
}

export async function createRoute(context: VerbContext, input: NewRoute): Promise<Route> {
  const { draft, caller } = context
  authorise(caller, 'write', 'route:create', { kind: 'route', name: input.name })
  needPromise(context, 'fabric', 'routes')
  const tenant = ownTenant(caller)
  const inVpc = await draft.get(vpc, tenant, input.spec.vpc)
  if (!inVpc || inVpc.deletedAt !== undefined) throw new CloudError('not_found', 'VPC not found')
  const wanted = await allowed(context, tenant, { hostname: input.spec.hostname })
  const { hostname, under } = wanted
  await checkTargets(context, tenant, input.spec)
  const carriesHttp = input.spec.protocol === 'http' || input.spec.protocol === 'https'
  if (!carriesHttp && (input.spec.pathPrefix !== '/' || input.spec.stripPrefix))
    throw invalid('spec.pathPrefix', `must be / for ${input.spec.protocol}, which has no paths`)
  await alone(
    draft,
    tenant,
    wanted,
    (it) =>
      it.kind === route.name &&
      it.tenant === tenant &&
      carriesHttp &&
      ['http', 'https'].includes((it as Route).spec.protocol) &&
      (it as Route).spec.pathPrefix !== input.spec.pathPrefix,
  )
  const given = await usableCertificate(context, tenant, hostname, input.spec.certificate)
  const made = draft.create(route, {
    tenant,
    name: input.name,
    ...(input.labels ? { labels: input.labels } : {}),
    spec: { ...input.spec, hostname, ...(under === undefined ? {} : { under }) },
  })
  count(draft, tenant, 'routes', made.id)
  if (endsTls(made) && given === undefined) await ensureCertificate(draft, made)
  return made
}

/** Refuses targets that are no workloads of the route's VPC. */
export async function checkTargets(
  { draft }: VerbContext,
  tenant: string,
  spec: Pick<Route['spec'], 'vpc' | 'targets'>,
): Promise<void> {
  for (const [at, target] of spec.targets.entries()) {
    const of = await draft.get(workload, tenant, target.workload)
    if (!of || of.deletedAt !== undefined || of.spec.vpc !== spec.vpc)
      throw invalid(`spec.targets.${at}.workload`, 'is no workload of this VPC')
  }
}

export type Changed = Route['spec'] | Tunnel['spec']

/** Refuses a change by which a tunnel or route would name what is not the tenant's or does not fit it. */
export async function checkChange(context: VerbContext, spec: Changed, it: Resource): Promise<void> {
  if ('targets' in spec) await checkTargets(context, it.tenant, spec)
  await usableCertificate(context, it.tenant, spec.hostname, spec.certificate)
}
