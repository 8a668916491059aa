import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import type { Pod, TestTenant } from '../client.testing.ts'
import { FRONT_ADDRESS, type TestCloud } from '../cloud.testing.ts'
import { containersOf, run, udpFrom } from '../host.testing.ts'
import { listening, listeningAt } from '../probe.testing.ts'
import { say, talk, type Tunnel, type Visitor, visitorOf } from '../tunnel.testing.ts'
import { eventually } from '../wait.testing.ts'
import { PROVIDER } from './networks.ts'

const DOMAIN = PROVIDER.cloudflare_domain
/** What the probe sends back on, see its own text. */
const ECHO_PORT = 7007
const LOGIN = { user: 'guest', password: 'arcus-guest' }
const ACTIVE_WITHIN_MS = 10_000
const GONE_WITHIN_MS = 10_000
const UP_WITHIN_MS = 15_000
const HEALED_WITHIN_MS = 30_000
const UNKNOWN = /UNRECOGNIZED_NAME|unrecognized name/i

const label = (prefix: string): string => `${prefix}-${randomUUID().slice(0, 8)}`

const listed = async (t: TestTenant, path: string): Promise<string[]> =>
  (await t.call<Tunnel[]>('GET', path, 200)).map((it) => it.id).sort()

/** A tunnel is told to be active as soon as the edge serves it, mostly in the answer that made it. */
async function active(t: TestTenant, made: Tunnel): Promise<Tunnel> {
  return await eventually(
    `${made.hostname} is active`,
    async () => {
      const it = (await t.call<Tunnel[]>('GET', '/tunnels', 200)).find((one) => one.id === made.id)
      return it?.status === 'active' ? it : assert.fail(JSON.stringify(it))
    },
    ACTIVE_WITHIN_MS,
  )
}

/** What goes with something else that was deleted goes a moment later. */
async function dead(visitor: Visitor, hostname: string): Promise<void> {
  await eventually(
    `${hostname} is dead`,
    async () => UNKNOWN.test(await visitor.refusal(hostname)),
    GONE_WITHIN_MS,
  )
}

/** A pod is told to run a moment before the front door leads to it: what it is asked first is asked until it answers. */
async function answers(visitor: Visitor, hostname: string): Promise<void> {
  await eventually(
    `${hostname} answers`,
    async () => {
      const { status, body } = await visitor.get(hostname)
      return status === 200 || assert.fail(`${status} ${body}`)
    },
    UP_WITHIN_MS,
  )
}

const podOf = async (t: TestTenant, name: string, fields: Record<string, unknown> = {}): Promise<Pod> =>
  await t.running(await t.pod(await t.subnet(await t.vpc('production')), name, fields))

export function tunnelScenarios(cloud: () => TestCloud): void {
  test('15 tunnels and 7 balancing through one', async () => {
    const { call, admin } = cloud()
    await using visitor = await visitorOf(cloud())
    const [t, other] = [await cloud().tenant(), await cloud().tenant()]
    const pod = await podOf(t, 'web', { replica_count: 2 })
    await listening(pod)
    const path = `/pods/${pod.id}/tunnel`
    const wanted = {
      tunnel_name: 'web-app',
      subdomain: label('app'),
      protocol_type: 'http',
      service_port: 80,
    }
    const made = await t.call<Tunnel>('POST', path, 201, wanted)
    assert.deepEqual(
      [made.hostname, made.pod_id, made.domain],
      [`${wanted.subdomain}.${DOMAIN}`, pod.id, DOMAIN],
    )
    await active(t, made)
    const page = await visitor.get(made.hostname)
    assert.equal(page.status, 200)
    assert.match(page.body, /^arcus-probe /)
    const names = new Set<string>()
    for (let i = 0; i < 40; i++) names.add((await visitor.get(made.hostname, '/hostname')).body)
    assert.equal(names.size, 2, `answered by ${[...names].join(', ')}`)

    await t.call('POST', path, 409, { ...wanted, subdomain: label('app') })
    await t.call('POST', path, 409, { ...wanted, tunnel_name: 'another' })
    await t.call('POST', path, 400, {
      ...wanted,
      tunnel_name: 'files',
      subdomain: label('ftp'),
      protocol_type: 'ftp',
    })
    await t.call('POST', `/pods/${randomUUID()}/tunnel`, 404, { ...wanted, tunnel_name: 'nowhere' })
    const domain = `${t.name}.example.org`
    const foreign = { ...wanted, tunnel_name: 'own-domain', subdomain: 'shop', domain }
    await t.call('POST', path, 400, foreign)
    await call('POST', `/tenants/${t.id}/domains`, 201, { domain }, { admin: admin.token })
    const own = await active(t, await t.call<Tunnel>('POST', path, 201, foreign))
    assert.equal((await visitor.get(own.hostname)).status, 200)

    // Another tenant can neither take it, nor end it, nor see it.
    const theirs = await podOf(other, 'theirs')
    await other.call('POST', `/pods/${theirs.id}/tunnel`, 409, wanted)
    await other.call('POST', `/pods/${theirs.id}/tunnel`, 400, { ...foreign, subdomain: 'stolen' })
    await other.call('POST', path, 404, { ...wanted, subdomain: label('app') })
    await other.call('DELETE', `/tunnels/${made.id}`, 404)
    await other.call('GET', `/pods/${pod.id}/tunnels`, 404)
    assert.deepEqual(await listed(other, '/tunnels'), [])
    assert.equal((await visitor.get(made.hostname)).status, 200, 'it is as it was')

    // A name that nobody has gets no certificate, and none is shown for a connection to another.
    assert.match(await visitor.refusal(`${label('no')}.${DOMAIN}`), UNKNOWN)
    assert.equal((await visitor.get(made.hostname, '/', { host: own.hostname })).status, 421)

    await t.call('DELETE', `/tunnels/${made.id}`, 204)
    assert.match(await visitor.refusal(made.hostname), UNKNOWN)
    assert.equal((await visitor.get(own.hostname)).status, 200, 'the other one goes on')
    await t.call('DELETE', `/tunnels/${made.id}`, 404)
    // Free again, for anybody.
    const taken = await other.call<Tunnel>('POST', `/pods/${theirs.id}/tunnel`, 201, wanted)
    await listening(theirs)
    await active(other, taken)
    assert.equal((await visitor.get(taken.hostname, '/hostname')).body, 'theirs-0')
    await Promise.all([t.remove(), other.remove()])
    await dead(visitor, own.hostname)
  })

  test('16 auto-named and inline', async () => {
    await using visitor = await visitorOf(cloud())
    const t = await cloud().tenant()
    const subnet = await t.subnet(await t.vpc('production'))
    const inline = { subdomain: label('inline'), protocol_type: 'http' }
    const pod = await t.running(await t.pod(subnet, 'shop', { tunnels: [inline] }))
    await listening(pod)
    const [shown, ...more] = await t.call<Tunnel[]>('GET', `/pods/${pod.id}/tunnels`, 200)
    assert.ok(shown && more.length === 0)
    assert.deepEqual([shown.hostname, shown.service_port], [`${inline.subdomain}.${DOMAIN}`, 80])
    await active(t, shown)
    await answers(visitor, shown.hostname)

    const auto = (): Record<string, unknown> => ({
      subdomain: label('auto'),
      protocol_type: 'http',
      service_port: 80,
    })
    const path = `/tunnels?pod_id=${pod.id}`
    const [first, second] = [
      await t.call<Tunnel>('POST', path, 201, auto()),
      await t.call<Tunnel>('POST', path, 201, auto()),
    ]
    for (const it of [first, second]) assert.match(it.tunnel_name, /^shop-tunnel/)
    assert.notEqual(first.tunnel_name, second.tunnel_name)
    await active(t, second)
    assert.equal((await visitor.get(second.hostname)).status, 200)
    await t.call('POST', '/tunnels', 400, auto())
    await t.call('POST', `/tunnels?pod_id=${randomUUID()}`, 404, auto())
    const all = [shown.id, first.id, second.id].sort()
    assert.deepEqual(await listed(t, `/pods/${pod.id}/tunnels`), all)
    assert.deepEqual(await listed(t, '/tunnels'), all)

    const clash = {
      tenant_id: t.id,
      token: t.token,
      vpc_id: subnet.vpc_id,
      subnet_id: subnet.id,
      name: 'clashing',
      container_image: 'arcus-probe:latest',
      tunnels: [{ subdomain: label('fine'), protocol_type: 'http' }, inline],
    }
    await t.call('POST', '/pods', 409, clash)
    assert.deepEqual(
      (await t.call<Pod[]>('GET', '/pods', 200)).map((it) => it.name),
      ['shop'],
    )
    assert.deepEqual(await listed(t, '/tunnels'), all, 'nor any of its tunnels')
    await t.call('DELETE', `/pods/${pod.id}`, 204)
    assert.deepEqual(await listed(t, '/tunnels'), [])
    await dead(visitor, shown.hostname)
    await t.remove()
  })

  test('17 tcp, ssh and udp', async () => {
    await using visitor = await visitorOf(cloud())
    const t = await cloud().tenant()
    const subnet = await t.subnet(await t.vpc('production'))
    const [echo, services] = (await Promise.all([
      t.pod(subnet, 'echo').then((it) => t.running(it)),
      t.pod(subnet, 'services', { container_image: 'arcus-services:latest' }).then((it) => t.running(it)),
    ])) as [Pod, Pod]
    await Promise.all([listening(echo), listeningAt(services, 22), listeningAt(services, 6379)])
    const open = async (pod: Pod, protocol_type: string, service_port: number): Promise<string> => {
      const body = { tunnel_name: `${protocol_type}-${service_port}`, subdomain: label(protocol_type) }
      const made = await t.call<Tunnel>('POST', `/pods/${pod.id}/tunnel`, 201, {
        ...body,
        protocol_type,
        service_port,
      })
      return (await active(t, made)).hostname
    }
    const hosts = {
      tcp: await open(echo, 'tcp', ECHO_PORT),
      udp: await open(echo, 'udp', ECHO_PORT),
      ssh: await open(services, 'ssh', 22),
      redis: await open(services, 'tcp', 6379),
    }
    await t.call('POST', `/pods/${services.id}/tunnel`, 409, {
      tunnel_name: 'same-port',
      subdomain: label('udp'),
      protocol_type: 'udp',
      service_port: ECHO_PORT,
    })
    const text = randomUUID()
    assert.equal(await visitor.webSocket(hosts.tcp, text), text)
    {
      await using client = await visitor.connected(hosts.tcp)
      const { socket, heard } = await talk(client.port, text, new RegExp(text))
      assert.equal(heard, text)
      socket.destroy()
    }
    {
      await using client = await visitor.connected(hosts.redis)
      const { socket, heard } = await talk(client.port, 'PING\r\n', /\r\n/)
      assert.equal(heard, '+PONG\r\n')
      const key = `*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$36\r\n${text}\r\n`
      assert.equal(await say(socket, key, /\r\n/), '+OK\r\n')
      socket.destroy()
      const later = await talk(client.port, '*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n', /\r\n.+\r\n/)
      assert.equal(later.heard, `$36\r\n${text}\r\n`, 'over another connection')
      later.socket.destroy()
    }
    {
      await using client = await visitor.connected(hosts.ssh)
      const { socket, heard } = await talk(client.port, '', /\r\n/)
      assert.match(heard, /^SSH-2\.0-OpenSSH_/)
      socket.destroy()
    }
    assert.equal(await visitor.ssh(hosts.ssh, LOGIN, 'id -un; cat /etc/hostname'), 'guest\nservices-0\n')
    await assert.rejects(visitor.ssh(hosts.ssh, { ...LOGIN, password: 'wrong' }, 'true'), /Permission denied/)

    assert.deepEqual(await udpFrom({ pid: process.pid }, FRONT_ADDRESS, ECHO_PORT, text), { answer: text })
    assert.equal((await visitor.get(hosts.tcp)).status, 426, 'a browser is told what it needs')
    await t.remove()
    // Its door closes a moment after the deletion was answered.
    await eventually(
      'nobody answers at its port',
      async () => 'error' in (await udpFrom({ pid: process.pid }, FRONT_ADDRESS, ECHO_PORT, text)),
      GONE_WITHIN_MS,
    )
  })

  test('an origin restarted, and one killed, under load: no request is lost', async (context) => {
    await using visitor = await visitorOf(cloud())
    const t = await cloud().tenant()
    const pod = await podOf(t, 'web', { replica_count: 2, auto_healing: true })
    await listening(pod)
    const wanted = { subdomain: label('load'), protocol_type: 'http', service_port: 80 }
    const { hostname } = await active(
      t,
      await t.call<Tunnel>('POST', `/tunnels?pod_id=${pod.id}`, 201, wanted),
    )
    const ids = async (): Promise<string[]> => (await containersOf(pod.id)).map((it) => it.id.slice(0, 12))

    const before = await ids()
    const restarted = visitor.load(hostname, '/hostname', (body) => /^web-[01]$/.test(body))
    await t.call('POST', `/pods/${pod.id}/restart`, 200)
    await eventually(
      'both replicas are others',
      async () => {
        const now = await ids()
        return now.length === 2 && now.every((it) => !before.includes(it))
      },
      HEALED_WITHIN_MS,
    )
    await t.running(pod)
    const rolled = await restarted.end()
    context.diagnostic(`restart: ${JSON.stringify(rolled)}`)
    assert.deepEqual(rolled.failed, [])
    assert.ok(rolled.asked > 50)
    await listening(pod)

    const killed = visitor.load(hostname, '/hostname')
    const [first] = await containersOf(pod.id)
    assert.ok(first)
    await run('docker', 'kill', first.id)
    await eventually(
      'it was replaced',
      async () => {
        const now = await containersOf(pod.id)
        return now.length === 2 && now.every((it) => it.startedAt !== first.startedAt)
      },
      HEALED_WITHIN_MS,
    )
    await listening(pod)
    const seen = new Set<string>()
    await eventually(
      'both answer again',
      async () => seen.add((await visitor.get(hostname, '/hostname')).body).size >= 2,
      UP_WITHIN_MS,
    )
    const survived = await killed.end()
    context.diagnostic(`kill: ${JSON.stringify(survived)}`)
    assert.deepEqual(survived.failed, [])
    await t.remove()
  })
}
