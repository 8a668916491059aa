import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { TestTenant } from './client.testing.ts'
import { ARCUS } from '../program.ts'
import { startCloud, type TestCloud } from './cloud.testing.ts'
import { contractOf } from './contract.testing.ts'
import { assertNothingLeft, hostSnapshot } from './host.testing.ts'
import { INSIDE_PROGRAM, type InsideAnswer, type InsideCall } from './inside.testing.ts'
import { eventually, everyStep } from './wait.testing.ts'

// The command line against a real cloud, as a person or a script calls it.
const COMMAND_MS = 90_000

const CYCLE = new URL('../contracts/cycle.json', import.meta.url)
const AT = '2026-03-27T11:15:00Z'

/** What the workloads' own operations need to succeed, or the status that says why they cannot here. */
function goodCalls(of: { instance: string; container: string; image: string }) {
  const machine = { how: { query: `virtual-machine-id=${'0'.repeat(24)}` }, status: 404 }
  const disconnects = Object.fromEntries(
    ['no_error', 'request_invalid', 'timeout_idle', 'router_none', 'router_nomatch'].map((it) => [it, 0]),
  )
  const metrics = {
    disconnects: { ...disconnects, destination_unavailable: 0, unknown_error: 0 },
    connections: 1,
    requests: 1,
    bytes_transmitted: 1,
    bytes_received: 1,
  }
  const counted = { time: AT, started: AT, dataset_id: 1, current: { metrics }, cumulative: { metrics } }
  const contents = { instance_id: of.instance, container_id: of.container }
  const power = { how: {}, status: 403 }
  const calls: Readonly<Record<string, { how: Omit<InsideCall, 'key'>; status?: number }>> = {
    'GET /v1/hub/integrations': { how: { query: 'identifier=offsite' } },
    'GET /v1/virtual-machine': machine,
    'GET /v1/virtual-machine/domains': machine,
    'GET /v1/virtual-machine/gateways': machine,
    'GET /v1/object-cache': { how: { query: 'scope=instance&key=k' } },
    'POST /v1/object-cache': { how: { body: { scope: 'instance', expires: '1m', key: 'k', value: 'v' } } },
    'POST /v1/environment/services/lb/telemetry/snapshots': { how: { body: { 'port-80': counted } } },
    'POST /v1/monitoring/metrics': {
      how: { body: [{ metric: 'a', type: 'gauge', points: [{ time: AT, values: [1] }] }] },
    },
    'POST /v1/monitoring/events': { how: { body: [{ event: 'a', type: 'info', priority: 'low' }] } },
    'POST /v1/conductor/tasks': { how: { body: { action: 'container.instance.start', contents } } },
    'POST /v1/server/images/download': { how: { body: { image_id: of.image } } },
    'POST /v1/server/power/poweroff': power,
    'POST /v1/server/power/reboot': power,
    'POST /v1/vpn/login': { how: { headers: { authorization: `Basic ${btoa('ada:long enough')}` } } },
  }
  return calls
}

const TOPOLOGY = `
resources:
  - { kind: vpc, name: production, spec: { internet: true } }
  - { kind: subnet, name: web, spec: { vpc: production, cidr: 10.100.1.0/24, gateway: 10.100.1.1 } }
  - kind: workload
    name: web
    labels: { tier: front }
    spec:
      vpc: production
      subnet: web
      image: arcus-probe:latest
      replicas: 2
      ports: [{ protocol: tcp, port: 80 }]
`

type Ran = { code: number | null; out: string; err: string }
type Shown = { items: { name: string; labels: Record<string, string>; status: { state: string } }[] }

describe('command line', { concurrency: false }, () => {
  let cloud: TestCloud
  let tenant: TestTenant
  let home: string
  let host: Set<string>
  let file: string

  /** Runs the command line with nothing of this machine's settings. */
  const arcus = (...args: string[]): Promise<Ran> =>
    new Promise((resolve, reject) => {
      const env = { PATH: process.env['PATH'], HOME: home, ARCUS_URL: cloud.url, ARCUS_TOKEN: tenant.token }
      const child = spawn(ARCUS, args, { env, stdio: ['ignore', 'pipe', 'pipe'], timeout: COMMAND_MS })
      let [out, err] = ['', '']
      child.stdout.on('data', (text: Buffer) => (out += text.toString()))
      child.stderr.on('data', (text: Buffer) => (err += text.toString()))
      child.once('error', reject)
      child.once('close', (code) => resolve({ code, out, err }))
    })
  const fine = async (...args: string[]): Promise<string> => {
    const { code, out, err } = await arcus(...args)
    assert.equal(code, 0, `arcus ${args.join(' ')} ended with ${code}: ${out}${err}`)
    return out
  }

  before(async () => {
    host = await hostSnapshot()
    cloud = await startCloud()
    tenant = await cloud.tenant('cli')
    home = mkdtempSync(join(tmpdir(), 'arcus-cli-'))
    file = join(home, 'topology.yaml')
    writeFileSync(file, TOPOLOGY)
  })
  after(async () => {
    if (home) rmSync(home, { recursive: true, force: true })
    await everyStep(
      () => tenant?.remove(),
      () => cloud?.emptied(),
      () => cloud?.[Symbol.asyncDispose](),
      () => assertNothingLeft(host),
    )
  })

  test('apply makes a whole topology and waits for it; applied again it changes nothing', async () => {
    assert.match(await fine('apply', '-f', file, '--dry-run'), /workload\/web created \(dry run\)/)
    assert.equal((await arcus('get', 'workload', 'web')).code, 1, 'a dry run made nothing')
    const first = await fine('apply', '-f', file, '--wait', '60')
    assert.deepEqual(first.match(/\S+ created/g), [
      'vpc/production created',
      'subnet/web created',
      'workload/web created',
    ])
    const second = await fine('apply', '-f', file)
    assert.deepEqual(second.match(/\S+ unchanged/g)?.length, 3, second)
    writeFileSync(file, TOPOLOGY.replace('replicas: 2', 'replicas: 1'))
    assert.match(await fine('apply', '-f', file, '--wait', '60'), /workload\/web changed/)
  })

  test('get and describe show it, also through the other API', async () => {
    const { items } = JSON.parse(await fine('get', 'workload', '-l', 'tier=front', '-o', 'json')) as Shown
    assert.deepEqual(
      items.map((it) => [it.name, it.labels['tier'], it.status.state]),
      [['web', 'front', 'running']],
    )
    assert.match(await fine('get', 'pods'), /^NAME.*\n.*web.*running/s)
    assert.match(await fine('describe', 'workload', 'web'), /arcus-probe/)
    const pods = await tenant.call<{ name: string; replica_count: number }[]>('GET', '/pods', 200)
    assert.deepEqual(
      pods.map((it) => [it.name, it.replica_count]),
      [['web', 1]],
    )
    assert.match(await fine('explain', 'workload', 'web'), /is settled/)
  })

  test('logs, exec and stats reach the container', async () => {
    assert.match(await fine('logs', 'web'), /listening on port 80/)
    assert.match(await fine('exec', 'web', '--', '/bin/hostname'), /web/)
    assert.equal((await arcus('exec', 'web', '--', '/bin/sh', '-c', 'exit 7')).code, 7)
    await eventually('a sample is there', async () => /\d+m\b/.test(await fine('stats', 'web')), 20_000)
  })

  test('every operation of its own API answers inside a container', async () => {
    const as = { tenant: tenant.id }
    const { items } = await cloud.native<{ items: { id: string; kind: string }[] }>('GET', '/vpc', 200, as)
    const vpc = items[0]?.id ?? ''
    const spec = { role: 'orchestrator', service: 'loadbalancer' }
    await cloud.native('PATCH', '/workload/web', 200, { ...as, body: { spec } })
    const vpn = { enabled: true, vpnUsers: true, users: false }
    await cloud.native('PATCH', `/vpc/${vpc}`, 200, { ...as, body: { spec: { vpn } } })
    const user = { name: 'ada', spec: { vpc, password: 'long enough' } }
    await cloud.native('POST', '/vpn-user', 201, { ...as, body: user })
    const integration = { name: 'offsite', spec: { vendor: 'somebody', secret: 'a secret' } }
    await cloud.native('POST', '/integration', 201, { ...as, body: integration })
    await fine('apply', '-f', file, '--wait', '60')
    const run = async (calls: readonly InsideCall[]) =>
      JSON.parse(
        await fine('exec', 'web', '--', '/bin/node', '-e', INSIDE_PROGRAM, JSON.stringify(calls)),
      ) as {
        answers: InsideAnswer[]
        metadata: { id: string }
        instance: string
        ipv6: string
      }
    const {
      answers: first,
      metadata,
      ipv6,
    } = await run([{ key: 'GET /v1/container/instances' }, { key: 'GET /v1/container' }])
    const [instances, container] = first.map((it) => (it.body as { data: unknown }).data)
    const [self] = instances as [{ id: string; environment: { ipv6: { ip: string } } }]
    assert.equal(self.environment.ipv6.ip, ipv6)
    const { id, image } = container as { id: string; image: { id: string } }
    const { paths } = JSON.parse(readFileSync(CYCLE, 'utf8')) as { paths: Record<string, object> }
    const keys = Object.entries(paths).flatMap(([path, item]) =>
      Object.keys(item).map((method) => `${method.toUpperCase()} ${path}`),
    )
    const good = goodCalls({ instance: self.id, container: id, image: image.id })
    // What is kept is asked for after it.
    const calls = keys
      .toSorted((a, b) => b.localeCompare(a))
      .map((key): InsideCall => ({ key, ...good[key]?.how }))
    const seen = await run([...calls, { key: 'GET /v1/notifications', upgrade: true }])
    assert.equal(seen.instance, self.id)
    const check = contractOf(CYCLE, 'ErrorEnvelope')
    for (const { key, status, body } of seen.answers) {
      const [method = '', path = ''] = key.split(' ')
      const expected = path === '/v1/notifications' ? 101 : (good[key]?.status ?? 200)
      assert.equal(status, expected, `${key}: ${JSON.stringify(body)}`)
      if (status !== 101) check(method, path, status, body)
      if (key === 'GET /v1/environment') assert.equal((body as { data: { id: string } }).data.id, metadata.id)
    }
    assert.equal(seen.answers.length, 35)
  })

  test('a refusal is one sentence and an exit code', async () => {
    const missing = await arcus('get', 'workload', 'nowhere')
    assert.equal(missing.code, 1)
    assert.match(missing.err, /no workload nowhere/)
    assert.equal((await arcus('get', 'nonsense')).code, 2)
    assert.equal((await arcus('leaks')).code, 1, 'only for administrators')
    assert.equal((await arcus('get', 'workload', '--url', 'http://127.0.0.1:9')).code, 3)
    const broken = join(home, 'broken.yaml')
    writeFileSync(
      broken,
      'resources: [{ kind: workload, name: lost, spec: { vpc: nowhere, subnet: web, image: x } }]',
    )
    assert.equal((await arcus('apply', '-f', broken)).code, 1)
    assert.equal((await arcus('get', 'workload', 'lost')).code, 1)
  })

  test('delete --wait ends when everything is gone, and leaks says so', async () => {
    await fine('delete', '-f', file, '--wait', '60')
    for (const kind of ['vpc', 'subnet', 'workload', 'replica']) {
      const { items } = JSON.parse(await fine('get', kind, '-o', 'json')) as Shown
      assert.deepEqual(items, [], kind)
    }
    await cloud.noLeaks()
    const { code, err } = await arcus('leaks', '--token', cloud.admin.token)
    assert.equal(code, 0, err)
  })
})
