import assert from 'node:assert/strict'
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { silentLog } from '#lib/log.ts'
import type { Links } from './attach.ts'
import { type NetworkPlugin, networkPlugin } from './plugin.ts'
import { testAttachment } from './wish.testing.ts'

const [first, second, third] = ['a', 'b', 'c'].map((it) => it.repeat(64))
const { plan, subnet } = testAttachment

describe("Docker's network plugin", () => {
  let folder: string
  let plugin: NetworkPlugin
  const made: string[] = []
  const stopped: AbortSignal[] = []
  const links: Links = {
    hasSubnet: () => true,
    onPlan: () => () => {},
    inForce: () => Promise.resolve(),
    attachment: (id) => (id === plan.id ? testAttachment : undefined),
    createLink(id) {
      made.push(`create ${id}`)
      return Promise.resolve({ containerLink: 'veth-of-it' })
    },
    plugIn: () => Promise.resolve(),
    giveIpv6(id, namespace, waits, signal) {
      made.push(`IPv6 of ${id}, ${waits} in ${namespace}`)
      if (signal) stopped.push(signal)
      return new Promise((_, reject) => {
        signal?.addEventListener('abort', () => reject(signal.reason as Error))
      })
    },
    removeLink(id) {
      made.push(`remove ${id}`)
      return Promise.resolve()
    },
    dockerStarted: () => Promise.resolve(),
  }
  const open = (): Promise<NetworkPlugin> =>
    networkPlugin({
      name: 'test',
      directory: join(folder, 'state'),
      links,
      log: silentLog,
      socketFolder: join(folder, 'run'),
      specFolder: join(folder, 'etc'),
    })
  const call = (
    verb: string,
    body: unknown = {},
  ): Promise<{ status: number; answer: Record<string, unknown> }> =>
    new Promise((resolve, reject) => {
      const ask = request(
        { socketPath: join(folder, 'run/test.sock'), method: 'POST', path: `/${verb}` },
        (it) => {
          let text = ''
          it.on('data', (chunk) => (text += String(chunk)))
          it.on('end', () =>
            resolve({ status: it.statusCode ?? 0, answer: JSON.parse(text) as Record<string, unknown> }),
          )
        },
      )
      ask.on('error', reject)
      ask.end(typeof body === 'string' ? body : JSON.stringify(body))
    })
  const endpoint = (id: string | undefined, change: object = {}) => ({
    NetworkID: 'n',
    EndpointID: id,
    Interface: { Address: `${plan.address}/24`, AddressIPv6: `${plan.address6}/128`, MacAddress: '' },
    Options: { 'arcus.attachment': plan.id },
    ...change,
  })

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'arcus-plugin-'))
    plugin = await open()
  })
  after(async () => {
    await plugin.close()
    await plugin.forget()
    assert.deepEqual(await readdir(join(folder, 'etc')), [])
    await rm(folder, { recursive: true })
  })

  test('Docker finds it by its spec file and learns what it can', async () => {
    const spec = await readFile(join(folder, 'etc/test.spec'), 'utf8')
    assert.equal(spec, `unix://${join(folder, 'run/test.sock')}\n`)
    const { answer } = await call('Plugin.Activate')
    assert.deepEqual(answer, { Implements: ['NetworkDriver', 'IpamDriver'] })
    assert.equal((await call('NetworkDriver.GetCapabilities')).answer['Scope'], 'local')
  })

  test('pools of two subnets may overlap; addresses are those Docker names', async () => {
    const pool = async (of: string) =>
      (await call('IpamDriver.RequestPool', { Pool: '10.0.0.0/24', Options: { 'arcus.subnet': of } })).answer[
        'PoolID'
      ]
    const [one, other] = [await pool('subnet-1'), await pool('subnet-2')]
    assert.notEqual(one, other)
    const { answer } = await call('IpamDriver.RequestAddress', { PoolID: one, Address: '10.0.0.9' })
    assert.equal(answer['Address'], '10.0.0.9/24')
    const refusal = await call('IpamDriver.RequestAddress', { PoolID: one })
    assert.match(String(refusal.answer['Err']), /from the plan/)
  })

  test('an endpoint is an attachment of the plan, with its address', async () => {
    assert.deepEqual((await call('NetworkDriver.CreateEndpoint', endpoint(first))).answer, {
      Interface: { MacAddress: plan.mac },
    })
    const { answer } = await call('NetworkDriver.Join', { NetworkID: 'n', EndpointID: first })
    assert.deepEqual(answer['InterfaceName'], { SrcName: 'veth-of-it', DstPrefix: 'eth' })
    assert.deepEqual([answer['Gateway'], answer['GatewayIPv6']], [subnet.gateway, 'fe80::1'])
    for (const wrong of [
      endpoint(second, { Options: {} }),
      endpoint(second, { Options: { 'arcus.attachment': 'unknown' } }),
      endpoint(second, { Interface: { Address: '10.0.0.77/24' } }),
      endpoint('../../etc/passwd'),
    ]) {
      const { status, answer: refusal } = await call('NetworkDriver.CreateEndpoint', wrong)
      assert.equal(status, 500)
      assert.equal(typeof refusal['Err'], 'string')
    }
  })

  test('where Docker has no IPv6 address the container is given it in its namespace, also by the next agent', async () => {
    const alone = { Address: `${plan.address}/24`, AddressIPv6: '', MacAddress: '' }
    await call('NetworkDriver.CreateEndpoint', endpoint(second, { Interface: alone }))
    for (const _ of ['the agent that made the endpoint', 'the one after it']) {
      made.length = 0
      const { answer } = await call('NetworkDriver.Join', { EndpointID: second, SandboxKey: '/run/netns/x' })
      assert.deepEqual([answer['Gateway'], answer['GatewayIPv6']], [subnet.gateway, undefined])
      assert.deepEqual(made, [`create ${plan.id}`, `IPv6 of ${plan.id}, starting in /run/netns/x`])
      assert.equal(stopped.at(-1)?.aborted, false)
      await plugin.close()
      assert.equal(stopped.at(-1)?.aborted, true)
      plugin = await open()
    }
    await call('NetworkDriver.Join', { EndpointID: second, SandboxKey: '/run/netns/x' })
    // The start failed, or the container ended at once.
    await call('NetworkDriver.Leave', { EndpointID: second })
    assert.equal(stopped.at(-1)?.aborted, true)
    await call('NetworkDriver.DeleteEndpoint', { EndpointID: second })
  })

  test('it knows its endpoints after a restart; one that was replaced takes nothing down', async () => {
    await plugin.close()
    plugin = await open()
    await call('NetworkDriver.CreateEndpoint', endpoint(third))
    await call('NetworkDriver.Join', { EndpointID: third })
    made.length = 0
    await call('NetworkDriver.Leave', { EndpointID: first })
    assert.deepEqual(made, [])
    await plugin.close()
    plugin = await open()
    await call('NetworkDriver.Leave', { EndpointID: third })
    assert.deepEqual(made, [`remove ${plan.id}`])
    await call('NetworkDriver.DeleteEndpoint', { EndpointID: third })
    assert.deepEqual(await readdir(join(folder, 'state/endpoints')), [])
  })

  test('what Docker finds it by is missed when somebody removed it, and made again', async () => {
    const [socket, spec] = [join(folder, 'run/test.sock'), join(folder, 'etc/test.spec')]
    assert.deepEqual(await plugin.look(), [])
    await rm(socket)
    await rm(spec)
    const repairs = await plugin.look()
    assert.deepEqual(
      repairs.map((it) => it.finding.detail),
      [`socket ${socket} of Docker's plugin missing`, `${spec}, by which Docker finds the plugin, missing`],
    )
    for (const it of repairs) await it.fix?.(AbortSignal.timeout(1000))
    assert.deepEqual(await plugin.look(), [])
    assert.equal((await call('Plugin.Activate')).status, 200)
    assert.equal(await readFile(spec, 'utf8'), `unix://${socket}\n`)
  })

  test('nonsense is refused', async () => {
    assert.match(String((await call('NetworkDriver.Explode')).answer['Err']), /no call/)
    assert.equal((await call('Plugin.constructor')).status, 500)
    assert.equal((await call('constructor')).status, 500)
    assert.equal((await call('NetworkDriver.Join', '{"broken')).status, 500)
    assert.equal(
      (await call('NetworkDriver.Join', 'x'.repeat(2_000_000)).catch(() => ({ status: 500 }))).status,
      500,
    )
  })
})
