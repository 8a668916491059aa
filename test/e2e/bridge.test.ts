import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { Pod, Subnet, TestTenant } from './client.testing.ts'
import { startCloud, type TestCloud } from './cloud.testing.ts'
import { assertNothingLeft, hostSnapshot, reachableFrom } from './host.testing.ts'
import { fetchFrom, listening, placeOf } from './probe.testing.ts'
import { everyStep } from './wait.testing.ts'

// The whole product where Docker's own bridges are all there is. What its packets do is in test/network/bridge.test.ts.
describe('a cloud on bridges of Docker', { concurrency: false }, () => {
  let cloud: TestCloud
  let host: Set<string>
  let a: TestTenant
  let b: TestTenant
  let subnet: Subnet
  let web: Pod
  let client: Pod
  let foreign: Pod

  before(async () => {
    host = await hostSnapshot()
    cloud = await startCloud({ network: 'docker-bridge' })
    ;[a, b] = await Promise.all([cloud.tenant(), cloud.tenant()])
    const theirs = await b.vpc('one').then((it) => b.subnet(it, '10.212.1.0/24'))
    subnet = await a.vpc('one').then((it) => a.subnet(it, '10.211.1.0/24'))
    ;[web, client, foreign] = (await Promise.all([
      a.pod(subnet, 'web', { replica_count: 2 }).then((it) => a.running(it)),
      a.pod(subnet, 'client', { external_access: true }).then((it) => a.running(it)),
      b.pod(theirs, 'foreign', { external_access: true }).then((it) => b.running(it)),
    ])) as [Pod, Pod, Pod]
    await listening(web, client, foreign)
  })
  after(async () => {
    await everyStep(
      () => Promise.all([a?.remove(), b?.remove()]),
      () => cloud?.emptied(),
      () => cloud?.[Symbol.asyncDispose](),
      () => assertNothingLeft(host),
    )
  })

  test('a pod has no VIP, and its name leads to its replicas', async () => {
    assert.equal(web.vip, null)
    assert.equal(web.dns_name, 'web.one.internal')
    for (const name of ['web', 'web.one.internal'])
      assert.match((await fetchFrom(client, `http://${name}/hostname`))?.body ?? 'no answer', /^web-[01]\s*$/)
  })

  test("another tenant's pod neither knows the name nor reaches an address", async () => {
    assert.equal(await fetchFrom(foreign, 'http://web.one.internal/hostname'), undefined)
    const targets = [...web.ip_addresses, ...client.ip_addresses]
    assert.deepEqual(await reachableFrom(await placeOf(client), targets, 80), targets, 'at home they answer')
    assert.deepEqual(await reachableFrom(await placeOf(foreign), targets, 80), [])
  })

  test('what bridges cannot do is refused with the reason', async () => {
    const own = { tenant_id: a.id, token: a.token, vpc_id: subnet.vpc_id }
    const refused = async (path: string, body: object, reason: RegExp): Promise<void> => {
      const { detail } = await a.call<{ detail: string }>('POST', path, 400, { ...own, ...body })
      assert.match(detail, reason)
    }
    const second = { name: 'second', cidr: '10.213.1.0/24', gateway_ip: '10.213.1.1' }
    await refused('/subnets', second, /^vpc_id: .*several subnets/)
    const elsewhere = await a.vpc('two')
    const overlapping = { ...second, vpc_id: elsewhere.id, cidr: '10.212.0.0/16', gateway_ip: '10.212.0.1' }
    await refused('/subnets', overlapping, /^cidr: .*overlaps another VPC/)
    const open = { external_access: true, external_inbound: true }
    const pod = { subnet_id: subnet.id, name: 'open', container_image: 'arcus-probe:latest', ...open }
    await refused('/pods', pod, /^external_inbound: .*external addresses/)
  })
})
