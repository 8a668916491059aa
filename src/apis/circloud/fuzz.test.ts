import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { testDialect } from './circloud.testing.ts'

const RUNS = 150
const SEED = 20260105

// Words that get past one check or another, so that the deeper ones are met too.
const seeds = [
  'web',
  'production',
  'a',
  'A',
  '',
  '-',
  'x'.repeat(64),
  '10.100.1.0/24',
  '10.100.1.1',
  '10.0.0.0/8',
  '0.0.0.0/0',
  '10.1.0.0/16',
  '10.1.0.1',
  '255.255.255.255',
  '1.2.3',
  'nginx:latest',
  'nginx@sha256:0',
  'a b',
  '../..',
  '/data',
  '/',
  '/a/../b',
  '\0',
  '\ud800',
  '__proto__',
  'constructor',
  'toString',
  'https://index.docker.io/v1/',
  'example.com',
  '********',
  '💣',
  "'; drop table resource; --",
]
const fields = [
  'tenant_id',
  'token',
  'name',
  'description',
  'password',
  'username',
  'enable_internet',
  'vpc_id',
  'subnet_id',
  'cidr',
  'gateway_ip',
  'container_image',
  'replica_count',
  'service_port',
  'use_registry_credentials',
  'external_access',
  'external_inbound',
  'auto_healing',
  'auto_scaling',
  'autoscale_min_replicas',
  'autoscale_max_replicas',
  'autoscale_cpu_target_millicores',
  'persistent',
  'persistent_mount_path',
  'tunnels',
  'gpu',
  'domain',
  'server',
  'vpcs',
  'subnets',
  'pods',
  'vpc_name',
  'subnet_name',
  'external_subnet_cidr',
  'external_subnet_gateway',
  'peering_subnet_cidr',
  'pod_dns_nameservers',
  'pod_dns_ndots',
  'cloudflare_account_id',
  'cloudflare_api_token',
  'cloudflare_domain',
  'constructor',
  '',
]

test('no body makes a bug of it, and a refused one changes nothing', async () => {
  await using it = await testDialect()
  const acme = await it.tenant('acme')
  const net = await it.network(acme, 'first')
  const known = { tenant_id: acme.id, token: acme.token, vpc_id: net.vpc, subnet_id: net.subnet }
  const made = await acme.call('POST', '/pods', { ...known, name: 'pod', container_image: 'nginx' })
  const pod = made.body.id as string

  const leaf = fc.oneof(
    fc.constantFrom(...seeds, ...Object.values(known)),
    fc.boolean(),
    fc.constant(null),
    fc.integer({ min: -2, max: 70_000 }),
    fc.double(),
    fc.string({ unit: 'binary', maxLength: 20 }),
  )
  const record = (value: fc.Arbitrary<unknown>) =>
    fc.dictionary(fc.constantFrom(...fields), value, { maxKeys: 8 })
  const value = fc.oneof(
    { weight: 4, arbitrary: leaf },
    fc.array(fc.oneof(leaf, record(leaf)), { maxLength: 3 }),
    record(leaf),
  )
  const right: Record<string, object> = {
    '/tenants': { name: 'x', password: 'p' },
    [`/tenants/${acme.id}/domains`]: { domain: 'a.example' },
    '/provider-config': {
      external_subnet_cidr: '203.0.113.0/24',
      external_subnet_gateway: '203.0.113.1',
      peering_subnet_cidr: '172.30.0.0/24',
    },
    '/vpcs': { ...known, name: 'v', enable_internet: true },
    '/subnets': { ...known, name: 's', cidr: '10.7.0.0/24', gateway_ip: '10.7.0.1' },
    '/pods': { ...known, name: 'p', container_image: 'nginx' },
    [`/pods/${pod}/config`]: {},
    [`/pods/${pod}/replicas`]: {},
    [`/pods/${pod}/restart`]: {},
    [`/tenants/${acme.id}/registry-credentials`]: { name: 'r', server: 's', username: 'u', password: 'p' },
    [`/tenants/${acme.id}/topology`]: {
      vpcs: [{ name: 'tv', enable_internet: true }],
      subnets: [{ name: 'ts', vpc_name: 'tv', cidr: '10.8.0.0/24', gateway_ip: '10.8.0.1' }],
      pods: [{ name: 'tp', vpc_name: 'tv', subnet_name: 'ts', container_image: 'nginx' }],
    },
  }
  let succeeded = 0
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...Object.keys(right)),
      record(value),
      fc.boolean(),
      async (path, extra, whole) => {
        const body = whole ? { ...right[path], ...extra } : extra
        const before = await it.snapshot()
        const { status, body: answer } = await it.ask(path.endsWith('/config') ? 'PATCH' : 'POST', path, {
          auth: acme.token,
          admin: it.world.credentials.token,
          body,
          unchecked: true,
        })
        assert.ok(status < 500, `${path} answered ${status}: ${JSON.stringify(answer)}`)
        if (status >= 400) {
          assert.equal(typeof answer.detail, 'string')
          assert.equal(await it.snapshot(), before, `${path} ${status}: ${JSON.stringify(answer)}`)
        } else succeeded++
      },
    ),
    { numRuns: RUNS, seed: SEED },
  )
  assert.ok(succeeded > RUNS / 20, `only ${succeeded} of ${RUNS} bodies were good`)
})

test('no path makes a bug of it', async () => {
  await using it = await testDialect()
  const acme = await it.tenant('acme')
  const piece = fc.oneof(
    fc.constantFrom(
      'pods',
      'vpcs',
      'tenants',
      'config',
      'replicas',
      'restart',
      acme.id,
      'registry-credentials',
      'topology',
      '..',
      '%00',
      '%',
      '%ff',
      '*',
      ':pod_id',
      '?a=%zz',
      '#',
    ),
    fc.string({ maxLength: 12 }).map(encodeURIComponent),
  )
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom('GET', 'POST', 'DELETE', 'PATCH', 'PUT', 'OPTIONS'),
      fc.array(piece, { maxLength: 5 }),
      async (method, pieces) => {
        const answer = await it.ask(method, `/${pieces.join('/')}`, {
          auth: acme.token,
          body: {},
          unchecked: true,
        })
        assert.ok(answer.status < 500, `${method} /${pieces.join('/')} answered ${answer.status}`)
        if (answer.status >= 400) assert.equal(typeof answer.body.detail, 'string')
      },
    ),
    { numRuns: RUNS, seed: SEED },
  )
})
