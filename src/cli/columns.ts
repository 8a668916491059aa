import type { Resource } from './client.ts'
import { age, bytes } from './table.ts'

type Names = ReadonlyMap<string, string>
type Column = { readonly title: string; readonly cell: (it: Resource, names: Names) => string }

const text = (value: unknown): string =>
  value === undefined || value === null ? '-' : typeof value === 'string' ? value : JSON.stringify(value)
const day = (at: unknown): string => (typeof at === 'number' ? new Date(at).toISOString().slice(0, 10) : '-')
const spec =
  (field: string): Column['cell'] =>
  (it) =>
    text(it.spec[field])
const status =
  (field: string): Column['cell'] =>
  (it) =>
    text(it.status[field])
const size =
  (field: string): Column['cell'] =>
  (it) => {
    const value = it.status[field]
    return typeof value === 'number' ? bytes(value) : '-'
  }
/** The name of a resource; its id where the name is not known. */
const nameOf = (id: unknown, names: Names): string => names.get(text(id)) ?? text(id)
const named =
  (field: string): Column['cell'] =>
  (it, names) =>
    nameOf(it.spec[field], names)
const yesNo =
  (field: string): Column['cell'] =>
  (it) =>
    it.spec[field] === true ? 'yes' : 'no'
const count =
  (field: string): Column['cell'] =>
  (it) =>
    String((it.spec[field] as readonly unknown[] | undefined)?.length ?? 0)

/** `30080:80`, host port first. */
const publishedPorts: Column['cell'] = (it) =>
  (
    (it.spec['published'] as readonly { host: number; container: number; protocol: string }[] | undefined) ??
    []
  )
    .map(({ host, container, protocol }) => `${host}:${container}${protocol === 'tcp' ? '' : `/${protocol}`}`)
    .join(',') || '-'

/** The state word of any resource: what is happening to it, before what its kind says. */
export function stateOf(it: Resource): string {
  if (it.deletedAt !== undefined) return 'deleting'
  const own = it.status['state'] ?? it.status['phase']
  if (it.overdue !== undefined) return `${text(own ?? 'unsettled')} (overdue)`
  if (own !== undefined) return text(own)
  return it.settled ? 'ready' : 'pending'
}

/** How much of something is on its way: `48 MiB of 120 MiB`; undefined when nothing is. */
export function arrivedOf(it: Resource): string | undefined {
  const { doneBytes, totalBytes } = (it.status['progress'] ?? {}) as Record<string, unknown>
  if (typeof doneBytes !== 'number') return undefined
  return `${bytes(doneBytes)}${typeof totalBytes === 'number' ? ` of ${bytes(totalBytes)}` : ''}`
}

const state: Column = {
  title: 'STATE',
  cell: (it) => {
    const arrived = it.deletedAt === undefined ? arrivedOf(it) : undefined
    return arrived === undefined ? stateOf(it) : `${stateOf(it)}, ${arrived}`
  },
}
const column = (title: string, cell: Column['cell']): Column => ({ title, cell })

const message = column('MESSAGE', status('message'))
const inVpc = column('VPC', named('vpc'))
const tenantColumn = column('TENANT', (it, names) => nameOf(it.tenant, names))

const COLUMNS: Readonly<Record<string, readonly Column[]>> = {
  tenant: [
    column('STATE', (it) =>
      it.deletedAt === undefined && it.spec['suspended'] === true ? 'suspended' : stateOf(it),
    ),
    column('DESCRIPTION', spec('description')),
  ],
  vpc: [
    state,
    column('INTERNET', yesNo('internet')),
    column('CIDR', spec('cidr')),
    column('IPV6', spec('range6')),
    column('EXTERNAL', spec('natAddress')),
  ],
  subnet: [state, inVpc, column('CIDR', spec('cidr')), column('GATEWAY', spec('gateway'))],
  workload: [
    state,
    column('READY', (it) => `${text(it.status['ready'])}/${text(it.status['desired'])}`),
    inVpc,
    column('ADDRESS', spec('vip')),
    column('EXTERNAL', spec('externalAddress')),
    column('PORTS', publishedPorts),
    column('IMAGE', spec('image')),
  ],
  replica: [
    state,
    column('READY', (it) => (it.status['ready'] === true ? 'yes' : 'no')),
    column('RESTARTS', status('restarts')),
    column('WORKLOAD', named('workload')),
    column('ADDRESS', spec('address')),
    message,
  ],
  'mail-relay': [column('HOST', spec('host')), column('PORT', spec('port')), column('TLS', spec('tls'))],
  message: [
    state,
    column('TO', spec('to')),
    column('SUBJECT', spec('subject')),
    column('TRIES', status('tries')),
    message,
  ],
  'security-group': [state, inVpc, column('RULES', count('rules'))],
  'route-table': [state, inVpc, column('SUBNETS', count('subnets')), column('ROUTES', count('routes'))],
  'internet-gateway': [inVpc],
  'elastic-ip': [state, column('ADDRESS', spec('address')), column('WORKLOAD', named('workload'))],
  'nat-gateway': [
    state,
    inVpc,
    column('SUBNET', named('subnet')),
    column('ADDRESS', spec('address')),
    message,
  ],
  peering: [state, inVpc, column('PEER', named('peer')), message],
  'load-balancer': [
    state,
    inVpc,
    column('ADDRESS', spec('address')),
    column('PORT', spec('port')),
    column('ALGORITHM', spec('algorithm')),
    column('TARGETS', count('targets')),
  ],
  zone: [state, inVpc, column('TTL', spec('defaultTtlSeconds')), message],
  record: [
    state,
    column('ZONE', named('zone')),
    column('TYPE', spec('type')),
    column('CONTENT', spec('content')),
    column('TTL', spec('ttlSeconds')),
  ],
  volume: [
    state,
    column('GIB', spec('sizeGib')),
    column('WORKLOAD', (it, names) => nameOf(it.status['workload'], names)),
    message,
  ],
  snapshot: [state, column('VOLUME', spec('volumeName')), column('GIB', spec('sizeGib')), message],
  image: [
    state,
    column('OS', (it) => `${text(it.spec['os'])} ${text(it.spec['version'])}`),
    column('PUBLIC', yesNo('public')),
    column('FORMAT', status('format')),
    column('SIZE', size('sizeBytes')),
    message,
  ],
  'ssh-key': [column('FINGERPRINT', spec('fingerprint'))],
  domain: [state],
  tunnel: [
    state,
    column('HOSTNAME', spec('hostname')),
    column('PROTOCOL', spec('protocol')),
    column('WORKLOAD', named('workload')),
    column('PORT', spec('port')),
    message,
  ],
  'service-tunnel': [
    state,
    column('HOSTNAME', spec('hostname')),
    column('SERVICE', spec('service')),
    column('PORT', spec('port')),
    message,
  ],
  route: [
    state,
    column('HOSTNAME', spec('hostname')),
    column('PATH', spec('pathPrefix')),
    column('PROTOCOL', spec('protocol')),
    column('TARGETS', count('targets')),
    message,
  ],
  certificate: [
    state,
    column('NAMES', (it) => ((it.spec['names'] as readonly string[] | undefined) ?? []).join(',')),
    column('SOURCE', spec('source')),
    column('UNTIL', (it) => day(it.status['notAfter'])),
    message,
  ],
  user: [column('ADMIN', yesNo('admin')), column('TENANTS', count('memberships'))],
  membership: [column('USER', spec('user')), column('ROLE', spec('role'))],
  role: [column('PERMISSIONS', count('permissions')), column('DESCRIPTION', spec('description'))],
  policy: [column('STATEMENTS', count('statements')), column('ATTACHED', count('attachedTo'))],
  'service-account': [
    column('ROLE', spec('role')),
    column('ENABLED', yesNo('enabled')),
    column('SECRETS', count('secrets')),
  ],
  credential: [
    column('SCOPE', spec('scope')),
    column('ROLE', spec('role')),
    column('TENANT', named('tenant')),
  ],
  network: [column('VPCS', count('members'))],
  'scoped-variable': [
    inVpc,
    column('ACCESS', (it) => Object.keys((it.spec['access'] as object | undefined) ?? {}).join(',')),
    column('SOURCE', (it) =>
      it.spec['url'] === undefined ? (it.spec['value'] === undefined ? 'secret' : 'value') : 'url',
    ),
  ],
  'vpn-user': [inVpc, column('LAST LOGIN', (it) => day(it.spec['lastLoginAt']))],
  integration: [column('VENDOR', spec('vendor')), column('REGION', spec('region'))],
  'registry-credential': [column('SERVER', spec('server')), column('USER', spec('username'))],
}

/** Kinds whose names a table of this kind shows in place of ids. */
export const REFERRED: Readonly<Record<string, readonly string[]>> = {
  subnet: ['vpc'],
  workload: ['vpc'],
  replica: ['workload'],
  volume: ['workload'],
  tunnel: ['workload'],
  'security-group': ['vpc'],
  'route-table': ['vpc'],
  'scoped-variable': ['vpc'],
  'vpn-user': ['vpc'],
  'internet-gateway': ['vpc'],
  'elastic-ip': ['workload'],
  'nat-gateway': ['vpc', 'subnet'],
  peering: ['vpc'],
  'load-balancer': ['vpc'],
  zone: ['vpc'],
  record: ['zone'],
  credential: ['tenant'],
}

/** Only an administrator who named no tenant sees several. */
export const severalTenants = (items: readonly Resource[]): boolean =>
  new Set(items.map((it) => it.tenant)).size > 1

/** Header and rows of resources of one kind: what matters of it, generic where nothing is said above. */
export function rowsOf(
  kind: string,
  items: readonly Resource[],
  how: { readonly names: Names; readonly nowMs: number },
): { readonly header: readonly string[]; readonly rows: readonly (readonly string[])[] } {
  const columns = [...(severalTenants(items) ? [tenantColumn] : []), ...(COLUMNS[kind] ?? [state])]
  return {
    header: ['NAME', ...columns.map((it) => it.title), 'AGE', 'ID'],
    rows: items.map((it) => [
      it.name,
      ...columns.map((one) => one.cell(it, how.names)),
      age(it.createdAt, how.nowMs),
      it.id,
    ]),
  }
}
