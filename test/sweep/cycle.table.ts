import { objectId, objectIdOf } from '#lib/object-id.ts'
import type { Hands, SweptDialect } from './dialect.ts'
import type { Seeded } from './world.ts'

async function asBalancer(hands: Hands, { ids, tenant }: Seeded): Promise<void> {
  const body = { spec: { service: 'loadbalancer' } }
  await hands.native('PATCH', `/workload/${ids['workload']}`, { body, tenant: tenant.id })
  await hands.settle()
}

const CONTAINER = [
  '/v1/container',
  '/v1/container/instances',
  '/v1/containers/certificates',
  '/v1/containers/domains',
]
const MACHINE = ['/v1/virtual-machine', '/v1/virtual-machine/domains', '/v1/virtual-machine/gateways']
const AT = '2030-01-02T03:04:05Z'
const metrics = {
  disconnects: {
    no_error: 0,
    request_invalid: 0,
    timeout_idle: 0,
    router_none: 0,
    router_nomatch: 0,
    destination_unavailable: 0,
    unknown_error: 0,
  },
  connections: 0,
  requests: 0,
  bytes_transmitted: 0,
  bytes_received: 0,
}
const counted = { metrics }
const envelope = {
  type: 'object',
  required: ['error', 'data'],
  properties: {
    error: {
      type: 'object',
      required: ['status', 'code', 'title'],
      properties: {
        status: { type: 'integer' },
        code: { type: 'string', pattern: '^[45]\\d\\d\\.[a-z0-9.-]+$' },
        title: { type: 'string', minLength: 1 },
        detail: { type: 'string', minLength: 1 },
        source: { type: 'string', pattern: '^/' },
      },
      additionalProperties: false,
    },
    data: { type: 'null' },
  },
  additionalProperties: false,
} as const

export const cycle: SweptDialect = {
  name: 'cycle',
  inside: true,
  later: 503,
  contract: { file: new URL('../contracts/cycle.json', import.meta.url), except: () => false },
  headers: ({ key }, token) => ({
    'x-cycle-token': token,
    ...(key === 'POST /v1/vpn/login' ? { authorization: `Basic ${btoa('ada:wrong')}` } : {}),
  }),
  need: ({ method }) => (method === 'GET' ? 'read' : 'write'),
  statuses: { unauthenticated: 401, forbidden: 403, foreign: [404] },
  refusal: {
    anyOf: [
      envelope,
      // A VPN login that is refused has no error (section 7).
      {
        type: 'object',
        required: ['data'],
        properties: { data: { const: false } },
        additionalProperties: false,
      },
    ],
  },
  messageOf: (body) => {
    const { error } = body as { error?: { title: string; detail?: string } }
    return error ? [error.title, error.detail ?? ''].join(' ') : 'refused'
  },
  known: ({ ids }) => ({
    container: objectId(ids['workload'] ?? ''),
    instance: objectId(ids['replica'] ?? ''),
    integration: objectId(ids['integration'] ?? ''),
  }),
  queries: {
    ...Object.fromEntries(
      CONTAINER.map((path) => [`GET ${path}`, ({ container = '' }) => `container-id=${container}`]),
    ),
    ...Object.fromEntries(
      MACHINE.map((path) => [`GET ${path}`, () => `virtual-machine-id=${'0'.repeat(24)}`]),
    ),
    'GET /v1/hub/integrations': ({ integration = '' }) => `identifier=${integration}`,
    'GET /v1/object-cache': () => 'scope=instance&key=nothing',
  },
  bodies: {
    'POST /v1/conductor/tasks': ({ container = '', instance = '' }) => ({
      action: 'container.instance.start',
      contents: { container_id: container, instance_id: instance },
    }),
    'POST /v1/server/images/download': () => ({ image_id: objectIdOf('nginx:latest') }),
    'POST /v1/environment/services/lb/telemetry/snapshots': () => ({
      'port-443': { time: AT, started: AT, dataset_id: 1, current: counted, cumulative: counted },
    }),
    'POST /v1/monitoring/metrics': () => [
      {
        metric: 'orders',
        type: 'count',
        labels: { region: 'eu' },
        tags: ['a'],
        points: [{ time: AT, values: [1] }],
      },
    ],
    'POST /v1/monitoring/events': () => [{ event: 'backlog', type: 'info', priority: 'low', text: null }],
    'POST /v1/object-cache': (_, unique) => ({
      scope: 'container',
      expires: '10m',
      key: unique,
      value: '{}',
    }),
  },
  before: {
    'POST /v1/environment/services/lb/telemetry/snapshots': asBalancer,
  },
  always: {
    // There are none, nothing is kept under that key, no container has power over the machine, and Ada is nobody.
    ...Object.fromEntries(MACHINE.map((path) => [`GET ${path}`, 404])),
    'GET /v1/object-cache': 404,
    'POST /v1/server/power/poweroff': 403,
    'POST /v1/server/power/reboot': 403,
    'POST /v1/vpn/login': 403,
  },
  sockets: ['GET /v1/notifications'],
}
