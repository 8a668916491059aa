import type { Json } from './ask.ts'
import type { Known, Need, SweptDialect } from './dialect.ts'
import type { Operation } from './document.ts'
import { GIVEN, keyWith, NEWCOMER, SSH_KEY } from './given.ts'
import { provide, singleton, WITH_DOMAIN, withoutRoute, withoutWays } from './provider.ts'

const OPERATE = [
  'GET /leaks',
  'POST /leaks/mend',
  'GET /missing',
  'POST /acme',
  'POST /mail-relay',
  'POST /service-tunnel',
  'POST /provider',
  'POST /message',
  'POST /user',
  'POST /tenant',
]
const OWN = ['credential', 'membership', 'role', 'policy', 'service-account']
  .flatMap((kind) => [`POST /${kind}`, `PATCH /${kind}/{id}`, `DELETE /${kind}/{id}`])
  .concat(
    // Also for who made it, which no key here did.
    ['PATCH /image/{id}', 'DELETE /image/{id}'],
  )

function need({ key, method, path, security }: Operation): Need {
  if (security.length === 0) return 'open'
  if (OPERATE.includes(key)) return 'operate'
  if (key === 'POST /access') return 'read'
  if (path === '/message/{id}/read') return 'operate'
  if (/^\/(user|message|mail-relay|provider|acme|service-tunnel)\/\{id\}/.test(path)) return 'hidden'
  if (OWN.includes(key)) return 'own'
  if (path === '/tenant/{id}' && method !== 'GET') return 'operate'
  return method === 'GET' && !path.endsWith('/exec') ? 'read' : 'write'
}

const AUTHORITY = { directory: 'https://authority.example/directory', byDefault: false }
const acme = singleton('acme', 'acme', AUTHORITY)
const MAIL_RELAY = { host: 'mail.example', from: 'cloud@example.com' }
const mailRelay = singleton('mail-relay', 'relay', MAIL_RELAY)
const serviceTunnel = singleton('service-tunnel', 'api', { service: 'api', hostname: 'api.cloud.example' })

/** Before each operation on one of which there is one: that it is there, or is not yet. */
const ofSingleton = (name: string, there: typeof acme) => ({
  [`POST /${name}`]: there(false),
  ...Object.fromEntries(
    ['GET /ID', 'GET /ID/explain', 'GET /ID/traffic', 'GET /ID/accesses', 'PATCH /ID', 'DELETE /ID'].map(
      (key) => [key.replace('/ID', `/${name}/{id}`), there(true)],
    ),
  ),
})

const spec = (name: string, it: Json): Json => ({ name, spec: it })
const at = (known: Known, key: string): string => known[key] ?? ''

const addressWith = (letters: string): string =>
  `https://images.example/a.iso?key=${encodeURIComponent(letters)}`

/** One creation of each kind. */
const CREATIONS: Readonly<Record<string, (known: Known, unique: string) => Json>> = {
  'POST /tenant': (_, name) => spec(name, { description: 'new', password: 'long enough' }),
  'POST /user': (known, name) =>
    spec(name, {
      password: 'long enough',
      admin: false,
      memberships: [{ tenant: at(known, 'tenant id'), role: 'viewer' }],
    }),
  'POST /membership': (known, name) => spec(name, { user: at(known, 'newcomer'), role: 'developer' }),
  'POST /role': (_, name) => spec(name, { permissions: ['vpc:read'] }),
  'POST /policy': (_, name) =>
    spec(name, { statements: [{ effect: 'Allow', action: ['vpc:read'], resource: ['*'] }] }),
  'POST /service-account': (_, name) => spec(name, { role: 'viewer' }),
  'POST /message': (_, name) => spec(name, { to: 'a@example.com', subject: 'a', text: 'a' }),
  'POST /credential': (_, name) => spec(name, { role: 'editor' }),
  'POST /provider': () => spec('provider', { ...WITH_DOMAIN, cloudflareToken: 'a token' }),
  'POST /domain': (_, name) => spec(`${name}.example`, {}),
  'POST /acme': () => spec('acme', { ...AUTHORITY, hmacKey: 'a key' }),
  'POST /mail-relay': () =>
    spec('relay', { ...MAIL_RELAY, host: '127.0.0.1', username: 'arcus', password: 'a password' }),
  'POST /certificate': (known, name) =>
    spec(name, { names: [at(known, 'tenant domain')], source: 'given', ...GIVEN }),
  'POST /tunnel': (known, name) =>
    spec(name, {
      workload: at(known, 'workload id'),
      protocol: 'http',
      hostname: `${name}.${at(known, 'tenant domain')}`,
    }),
  'POST /route': (known, name) =>
    spec(name, {
      vpc: at(known, 'vpc id'),
      hostname: `${name}.${at(known, 'tenant domain')}`,
      targets: [{ workload: at(known, 'workload id'), port: 80, weight: 1 }],
    }),
  'POST /service-tunnel': (_, name) => spec(name, { service: 'api', hostname: `${name}.cloud.example` }),
  'POST /registry-credential': (_, name) =>
    spec(name, { server: 'registry.test', username: 'robot', password: 'a password' }),
  'POST /vpc': (_, name) => spec(name, { internet: true }),
  'POST /subnet': (known, name) => spec(name, { vpc: at(known, 'vpc id'), cidr: '10.77.0.0/24' }),
  'POST /security-group': (known, name) =>
    spec(name, {
      vpc: at(known, 'vpc id'),
      rules: [{ direction: 'ingress', protocol: 'tcp', fromPort: 80 }],
    }),
  'POST /route-table': (known, name) =>
    spec(name, { vpc: at(known, 'vpc id'), subnets: [at(known, 'subnet id')], routes: [] }),
  'POST /internet-gateway': (_, name) => spec(name, {}),
  'POST /elastic-ip': (_, name) => spec(name, {}),
  'POST /nat-gateway': (known, name) =>
    spec(name, { subnet: at(known, 'spare subnet id'), elasticIp: at(known, 'spare elastic-ip id') }),
  'POST /peering': (known, name) => spec(name, { vpc: at(known, 'vpc id'), peer: at(known, 'spare vpc id') }),
  'POST /workload': (known, name) =>
    spec(name, {
      vpc: at(known, 'vpc id'),
      subnet: at(known, 'subnet id'),
      image: 'nginx',
      securityGroups: [at(known, 'security-group id')],
      published: [{ host: 0, container: 80, protocol: 'tcp' }],
    }),
  'POST /load-balancer': (known, name) =>
    spec(name, {
      vpc: at(known, 'vpc id'),
      port: 8080,
      targets: [{ workload: at(known, 'workload id'), port: 80 }],
    }),
  'POST /zone': (known, name) => spec(`${name}.internal`, { vpc: at(known, 'spare vpc id') }),
  'POST /record': (known, name) =>
    spec(name, { zone: at(known, 'zone id'), type: 'MX', content: 'mail.example', priority: 5 }),
  'POST /volume': (_, name) => spec(name, { sizeGib: 1 }),
  'POST /snapshot': (known, name) => spec(name, { volume: at(known, 'volume id') }),
  'POST /image': (_, name) =>
    spec(name, { os: 'linux', version: '1', url: 'https://images.example/a.iso?key=a-key' }),
  'POST /ssh-key': (_, name) => spec(name, { publicKey: SSH_KEY }),
  'POST /network': (known, name) => spec(name, { members: [{ vpc: at(known, 'vpc id') }] }),
  'POST /scoped-variable': (known, name) =>
    spec(name, {
      vpc: at(known, 'vpc id'),
      scope: { global: true, workloads: [at(known, 'workload id')], names: ['web'] },
      access: { env: { key: 'TOKEN' }, api: {}, file: { decode: false } },
      secret: 'a value',
    }),
  'POST /vpn-user': (known, name) => spec(name, { vpc: at(known, 'vpc id'), password: 'long enough' }),
  'POST /integration': (_, name) =>
    spec(name, {
      vendor: 'backblaze-b2',
      region: 'eu-central-003',
      apiKey: 'a key',
      secret: 'a secret',
      base64Config: 'YSBmaWxl',
    }),
  'POST /replica': (_, name) => spec(name, {}),
  'POST /topology': (known, name) => ({
    resources: [
      { kind: 'vpc', name },
      { kind: 'subnet', name: 'in', spec: { vpc: name, cidr: '10.8.0.0/24' } },
      { kind: 'subnet', name: `of-${name}`, spec: { vpc: at(known, 'vpc id'), cidr: '10.78.0.0/24' } },
    ],
  }),
}

const changed = { labels: { swept: 'yes' } }
const CHANGES = Object.fromEntries(
  Object.keys(CREATIONS)
    .filter((key) => key !== 'POST /topology')
    .map((key) => [`${key.replace('POST', 'PATCH')}/{id}`, () => changed]),
)

export const native: SweptDialect = {
  name: 'native',
  headers: (_, token) => ({ authorization: `Bearer ${token}` }),
  inTenant: (tenant) => ({ 'arcus-tenant': tenant }),
  need,
  statuses: { unauthenticated: 401, forbidden: 403, foreign: [404, 400] },
  refusal: {
    type: 'object',
    required: ['error'],
    properties: {
      error: {
        type: 'object',
        required: ['code', 'message', 'requestId'],
        properties: {
          code: { type: 'string', minLength: 1 },
          message: { type: 'string', minLength: 1 },
          requestId: { type: 'string', minLength: 1 },
        },
      },
    },
    additionalProperties: false,
  },
  messageOf: (body) => (body as { error?: { message?: unknown } }).error?.message,
  known: ({ ids, domain }) => ({
    newcomer: NEWCOMER,
    'tenant domain': domain,
    ...Object.fromEntries(Object.entries(ids).map(([kind, id]) => [`${kind} id`, id])),
    'provider id': 'provider',
    'acme id': 'acme',
    'mail-relay id': 'relay',
    'service-tunnel id': 'api',
  }),
  bodies: { ...CREATIONS, ...CHANGES },
  queries: {
    'GET /replica/{id}/exec': () => 'command=ls',
    'GET /usage': () => 'from=2026-01-01T00:00:00Z',
  },
  sockets: ['GET /replica/{id}/exec'],
  // Made and changed by the platform alone; the answer says by what to do it instead.
  always: {
    // There is one, and it stays: it is made once and changed from then on.
    'POST /provider': 409,
    'DELETE /provider/{id}': 400,
    'POST /replica': 400,
    'POST /message': 400,
    'PATCH /message/{id}': 400,
    'PATCH /replica/{id}': 400,
    'DELETE /replica/{id}': 400,
    'PATCH /credential/{id}': 400,
    'PATCH /user/{id}': 400,
  },
  before: {
    'DELETE /vpc/{id}': withoutWays,
    'DELETE /workload/{id}': withoutRoute,
    'DELETE /domain/{id}': async (hands, of) => {
      await withoutRoute(hands, of)
      await hands.native('DELETE', `/tunnel/${of.ids['tunnel']}`, { tenant: of.tenant.id })
      await hands.settle()
    },
    'DELETE /subnet/{id}': async (hands, of) => {
      const { tenant, ids } = of
      await withoutWays(hands, of)
      await hands.native('DELETE', `/workload/${ids['workload']}`, { tenant: tenant.id })
      await hands.settle()
    },
    ...ofSingleton('service-tunnel', serviceTunnel),
    ...ofSingleton('acme', acme),
    ...ofSingleton('mail-relay', mailRelay),
    'POST /provider': provide,
    'GET /provider/{id}': provide,
    'GET /provider/{id}/explain': provide,
    'PATCH /provider/{id}': provide,
    'DELETE /provider/{id}': provide,
  },
  secretForms: {
    'POST /certificate spec.key': keyWith,
    'PATCH /certificate/{id} spec.key': keyWith,
    'POST /image spec.url': addressWith,
    'PATCH /image/{id} spec.url': addressWith,
  },
  derivedSecrets: { 'user passwordHash': 'spec.password', 'vpn-user passwordHash': 'spec.password' },
  logins: { 'POST /login': (username, password) => ({ username, password }) },
  notSecret: ['spec.signingKey', 'spec.text'],
  undeniable: ['GET /kinds', 'GET /whoami', 'GET /watch'],
  madeSecrets: ['service-account signingKey', 'message text'],
}
