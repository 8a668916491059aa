// Makes a sample of the data that the program of this checkout writes: `node test/upgrade/sample.ts NAME`.
import { execFileSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import { KINDS } from '#cloud/kinds.ts'
import { cloudProcess } from '../crash/process.testing.ts'
import { simulatedWorld } from '../crash/world.testing.ts'
import { SSH_KEY } from '../sweep/given.ts'
import { wholeOf } from './whole.testing.ts'

const SAMPLES = join(import.meta.dirname, 'samples')
const SETTLES_MS = 3000

const [name] = process.argv.slice(2)
if (name === undefined || !/^[\w.-]+$/.test(name)) throw new Error('usage: node test/upgrade/sample.ts NAME')
const folder = await mkdtemp(join(tmpdir(), 'arcus-sample-'))
const data = join(folder, 'data')
const world = await simulatedWorld(join(folder, 'world'))
const cloud = await cloudProcess({ data, world })

async function ask<T = { id: string }>(
  method: string,
  path: string,
  body?: unknown,
  token?: string,
): Promise<T> {
  const answer = await cloud.ask(method, path, body, token === undefined ? {} : { token })
  if (answer.status >= 300)
    throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`)
  return answer.body as T
}

type Make = (kind: string, its: string, spec: unknown) => Promise<string>

/** Ways between networks and out of them. */
async function ways(make: Make, vpc: string): Promise<void> {
  const other = await make('vpc', 'staging', { internet: false })
  const subnet = await make('subnet', 'out', { vpc: other, cidr: '10.200.1.0/24' })
  const gateway = { vpc: other }
  await make('internet-gateway', 'way', gateway)
  const elasticIp = await make('elastic-ip', 'nat', {})
  await make('elastic-ip', 'spare', {})
  await make('nat-gateway', 'nat', { subnet, elasticIp })
  await make('peering', 'pair', { vpc, peer: other })
}

/** What is reached by name, and the names. */
async function names(make: Make, of: { tenant: string; vpc: string; web: string }): Promise<void> {
  const domain = `${of.tenant}.sample.example`
  const platform = async (kind: string, name: string, spec: unknown): Promise<unknown> =>
    await ask('POST', `/native/${kind}`, { name, spec })
  await ask('POST', `/circloud/tenants/${of.tenant}/domains`, { domain })
  // At a port where nothing listens, on this machine.
  await platform('acme', 'acme', {
    directory: 'https://127.0.0.1:9/directory',
    byDefault: false,
    hmacKey: 'a key',
  })
  await platform('service-tunnel', 'api', { service: 'api', hostname: 'api.sample.example' })
  await make('certificate', 'own', { names: [`own.${domain}`], source: 'internal' })
  const tunnel = { workload: of.web, protocol: 'http', hostname: `tunnel.${domain}` }
  await make('tunnel', 'web', tunnel)
  const targets = [{ workload: of.web, port: 80, weight: 1 }]
  await make('route', 'web', { vpc: of.vpc, hostname: `route.${domain}`, targets })
  const zone = await make('zone', 'shop.internal', { vpc: of.vpc })
  await make('record', 'mail', { zone, type: 'MX', content: 'mail.sample.example', priority: 5 })
}

/** Who may what, and what is sent to them. */
async function people(make: Make): Promise<void> {
  const email = 'ann@sample.example'
  await ask('POST', '/thecloud/auth/register', { email, password: 'sample-password', name: 'ann' })
  await ask('POST', '/thecloud/auth/forgot-password', { email })
  await ask('POST', '/native/mail-relay', {
    name: 'relay',
    spec: {
      host: '127.0.0.1',
      port: 9,
      from: 'cloud@sample.example',
      username: 'arcus',
      password: 'sample-secret',
    },
  })
  const { items } = await ask<{ items: { id: string; name: string }[] }>('GET', '/native/user')
  await make('membership', 'ann', { user: items.find((it) => it.name === email)?.id, role: 'developer' })
  await make('role', 'looker', { permissions: ['vpc:read'] })
  await make('policy', 'nothing', {
    statements: [{ effect: 'Deny', action: ['nothing:at-all'], resource: ['*'] }],
  })
  await make('service-account', 'robot', { role: 'viewer' })
}

async function disks(make: Make): Promise<void> {
  const volume = await make('volume', 'data', { sizeGib: 1 })
  await make('snapshot', 'yesterday', { volume })
  await make('image', 'disk', { os: 'linux', version: '1' })
  await make('ssh-key', 'laptop', { publicKey: SSH_KEY })
}

/** What workloads find in their own API. */
async function insides(make: Make, vpc: string, web: string): Promise<void> {
  await make('network', 'all', { members: [{ vpc }] })
  const scope = { global: true, workloads: [web], names: ['web'] }
  await make('scoped-variable', 'TOKEN', { vpc, scope, access: { api: {} }, secret: 'sample-variable' })
  await make('vpn-user', 'ann', { vpc, password: 'sample-password' })
  await make('integration', 'store', { vendor: 'somebody', secret: 'sample-integration' })
}

/** One of every kind at least, in every state that rests. */
async function fill(): Promise<string> {
  await ask('POST', '/circloud/provider-config', {
    external_subnet_cidr: '100.64.0.0/16',
    external_subnet_gateway: '100.64.0.1',
    peering_subnet_cidr: '100.65.0.0/16',
    pod_dns_nameservers: ['192.0.2.53'],
    // No account with it: nothing outside is asked for what a sample has.
    cloudflare_domain: 'sample.example',
  })
  const { id: tenant, api_token: token } = await ask<{ id: string; api_token: string }>(
    'POST',
    '/circloud/tenants',
    { name: 'sample', password: 'sample-password', description: 'one of everything' },
  )
  await ask('POST', '/circloud/tenants', { name: 'empty', password: 'sample-password' })
  await ask('POST', `/circloud/tenants/${tenant}/domains`, { domain: 'shop.sample.example' })
  await ask(
    'POST',
    `/circloud/tenants/${tenant}/registry-credentials`,
    {
      name: 'registry',
      server: 'registry.sample.example',
      username: 'puller',
      password: 'sample-registry-secret',
      token,
    },
    token,
  )
  const make = async (kind: string, its: string, spec: unknown): Promise<string> =>
    (await ask('POST', `/native/${kind}`, { name: its, labels: { of: 'sample' }, spec }, token)).id
  const vpc = await make('vpc', 'production', { internet: true })
  const subnet = await make('subnet', 'web', { vpc, cidr: '10.100.1.0/24' })
  const group = await make('security-group', 'web', {
    vpc,
    rules: [
      { direction: 'ingress', protocol: 'tcp', fromPort: 80, toPort: 81, cidr: '10.0.0.0/8' },
      { direction: 'egress', protocol: 'any' },
    ],
  })
  await make('route-table', 'web', {
    vpc,
    subnets: [subnet],
    routes: [{ cidr: '198.51.100.0/24', target: 'blackhole' }],
  })
  const place = { vpc, subnet }
  const web = await make('workload', 'web', {
    ...place,
    image: 'nginx:1',
    replicas: 2,
    egress: true,
    inbound: true,
    securityGroups: [group],
    healing: true,
    env: { MODE: 'sample' },
    autoscaling: { enabled: true, min: 1, max: 4, cpuTargetMillicores: 250 },
    health: {
      check: { type: 'http', port: 80, path: '/' },
      intervalSeconds: 10,
      timeoutSeconds: 2,
      failuresMax: 3,
      startSeconds: 5,
    },
  })
  await make('workload', 'files', {
    ...place,
    image: 'files:1',
    persistence: { enabled: true, path: '/storage' },
    ports: [{ protocol: 'udp', port: 53 }],
    command: ['serve', '--all'],
  })
  await make('workload', 'broken', { ...place, image: 'missing:1' })
  await make('load-balancer', 'front', { vpc, port: 8080, targets: [{ workload: web, port: 80 }] })
  await ways(make, vpc)
  await names(make, { tenant, vpc, web })
  await people(make)
  await disks(make)
  await insides(make, vpc, web)
  await ask(
    'PATCH',
    `/native/workload/${web}`,
    { spec: { image: 'nginx:2', env: { MODE: 'changed' } } },
    token,
  )
  return token
}

try {
  await cloud.start()
  const token = await fill()
  await sleep(SETTLES_MS)
  // The first look after a start keeps a metric of each container.
  await cloud.kill('SIGTERM')
  await cloud.start()
  await sleep(SETTLES_MS)
  await cloud.kill('SIGTERM')
  const db = new DatabaseSync(join(data, 'arcus.sqlite'))
  const pools = (
    db.prepare('SELECT pool AS name FROM claim UNION SELECT name FROM pool').all() as { name: string }[]
  ).map((it) => it.name)
  db.close()
  const whole = await wholeOf(data, pools)
  const made = new Set((whole.resources as { kind: string }[]).map((it) => it.kind))
  const lacks = KINDS.map((it) => it.name).filter((it) => !made.has(it))
  if (lacks.length) throw new Error(`fill() makes no ${lacks.join(', ')}`)
  const file = new DatabaseSync(join(data, 'arcus.sqlite'))
  file.exec('PRAGMA wal_checkpoint(TRUNCATE)')
  file.close()
  const kept = { admin: cloud.token, tenant: token, ...whole }
  // The lock is of this run, and certificates are made anew where they lack.
  for (const it of ['lock', 'tls']) await rm(join(data, it), { force: true, recursive: true })
  execFileSync('tar', ['--owner=0', '--group=0', '-czf', join(SAMPLES, `${name}.tar.gz`), '-C', data, '.'])
  await writeFile(join(SAMPLES, `${name}.json`), `${JSON.stringify(kept, null, 1)}\n`)
} finally {
  await cloud.kill()
  await world[Symbol.asyncDispose]()
  await rm(folder, { recursive: true, force: true })
}
