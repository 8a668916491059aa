import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import type { Subnet, Vpc } from '../client.testing.ts'
import type { TestCloud } from '../cloud.testing.ts'
import { httpFrom, listenIn, tcpFrom, type Outside } from '../host.testing.ts'
import { askProbe, fetchFrom, listening, placeOf } from '../probe.testing.ts'
import { eventually } from '../wait.testing.ts'

/** What the cloud of these scenarios hands out, as its first test configures it. */
export const PROVIDER = {
  external_subnet_cidr: '203.0.113.0/24',
  external_subnet_gateway: '203.0.113.1',
  peering_subnet_cidr: '172.30.0.0/24',
  // Where the network outside has its resolver, see makeOutside.
  pod_dns_nameservers: ['198.18.77.7'],
  pod_dns_ndots: 3,
  cloudflare_domain: 'apps.example.test',
}
export const EXTERNAL = /^203\.0\.113\.\d+$/

/** Runs first and alone: the pool cannot be replaced while its addresses are in use. */
export function providerScenario(cloud: () => TestCloud): void {
  test('provider configuration: none, made, masked, replaced, refused', async () => {
    const { call, admin, tenant } = cloud()
    const as = { admin: admin.token }
    await call('GET', '/provider-config', 404, undefined, as)
    await call('GET', '/provider-config', 401)
    await call('POST', '/provider-config', 400, { ...PROVIDER, external_subnet_gateway: '203.0.114.1' }, as)
    await call('POST', '/provider-config', 400, { ...PROVIDER, peering_subnet_cidr: '203.0.113.128/25' }, as)
    await call('POST', '/provider-config', 201, { ...PROVIDER, cloudflare_api_token: 'cf-secret' }, as)
    const masked = await call<{ cloudflare_api_token: string }>('GET', '/provider-config', 200, undefined, as)
    assert.equal(masked.cloudflare_api_token, '********')
    await call('POST', '/provider-config', 200, { ...PROVIDER, cloudflare_api_token: '********' }, as)
    const kept = await call<{ cloudflare_api_token: string }>('GET', '/provider-config', 200, undefined, as)
    assert.equal(kept.cloudflare_api_token, '********', 'the mask sent back keeps the token')
    await call('POST', '/provider-config', 200, PROVIDER, as)
    const cleared = await call<{ cloudflare_api_token: null }>('GET', '/provider-config', 200, undefined, as)
    assert.equal(cleared.cloudflare_api_token, null)

    const t = await tenant()
    const subnet = await t.subnet(await t.vpc('production'))
    await t.pod(subnet, 'web', {
      container_image: 'idle:latest',
      external_access: true,
      external_inbound: true,
    })
    const elsewhere = { external_subnet_cidr: '198.51.100.128/25', external_subnet_gateway: '198.51.100.129' }
    await call('POST', '/provider-config', 409, { ...PROVIDER, ...elsewhere }, as)
    await t.remove()
  })
}

export function networkScenarios(cloud: () => TestCloud, beyond: () => Outside): void {
  test('5 VPC and subnet', async () => {
    const t = await cloud().tenant()
    const vpc = await t.vpc('production')
    const subnet = await t.subnet(vpc, '10.100.1.0/24')
    assert.deepEqual(
      (await t.call<Vpc[]>('GET', '/vpcs', 200)).map((it) => it.id),
      [vpc.id],
    )
    assert.deepEqual(
      (await t.call<Subnet[]>('GET', '/subnets', 200)).map((it) => it.id),
      [subnet.id],
    )
    await t.call('POST', '/vpcs', 409, {
      tenant_id: t.id,
      token: t.token,
      name: 'production',
      enable_internet: true,
    })
    const wanted = { tenant_id: t.id, token: t.token, vpc_id: vpc.id }
    const refused = (
      status: number,
      name: string,
      cidr: string,
      gateway_ip: string,
      vpc_id = vpc.id,
    ): Promise<unknown> => t.call('POST', '/subnets', status, { ...wanted, vpc_id, name, cidr, gateway_ip })
    await refused(400, 'far-gateway', '10.100.2.0/24', '10.200.0.1')
    await refused(400, 'host-bits', '10.100.1.5/24', '10.100.1.1')
    await refused(400, 'too-small', '10.100.2.0/30', '10.100.2.1')
    await refused(409, 'overlap', '10.100.1.128/25', '10.100.1.129')
    await refused(409, 'web', '10.100.3.0/24', '10.100.3.1')
    await refused(404, 'no-vpc', '10.100.2.0/24', '10.100.2.1', randomUUID())
    await refused(400, 'bad-vpc', '10.100.2.0/24', '10.100.2.1', 'not-an-id')
    await t.subnet(await t.vpc('staging'), '10.100.1.0/24')
    await eventually(
      'both VPCs are active',
      async () => (await t.call<Vpc[]>('GET', '/vpcs', 200)).every((it) => it.status === 'active'),
      20_000,
    )
    await t.remove()
  })

  test('8 DNS and isolation: two VPCs of one tenant and one of another, all with the same addresses', async () => {
    const [t, other] = [await cloud().tenant(), await cloud().tenant()]
    const [one, two, three] = await Promise.all([
      t.vpc('production').then((it) => t.subnet(it)),
      t.vpc('staging').then((it) => t.subnet(it)),
      other.vpc('production').then((it) => other.subnet(it)),
    ])
    const made = await Promise.all([
      t.pod(one, 'pod-a').then(async (a) => [a, await t.pod(one, 'pod-b')] as const),
      t.pod(two, 'pod-a').then(async (a) => [a, await t.pod(two, 'pod-c')] as const),
      other.pod(three, 'pod-a').then(async (a) => [a, await other.pod(three, 'pod-d')] as const),
    ])
    const [[a1, b], [a2, c], [a3, d]] = await Promise.all([
      Promise.all([t.running(made[0][0]), t.running(made[0][1])]),
      Promise.all([t.running(made[1][0]), t.running(made[1][1])]),
      Promise.all([other.running(made[2][0]), other.running(made[2][1])]),
    ])
    assert.deepEqual([a2.vip, a3.vip], [a1.vip, a1.vip], 'each VPC gives the same address first')

    // All three have one name and one address: only what was written into each tells them apart.
    const mark = '/read?path=/tmp/mark'
    for (const pod of [a1, a2, a3]) await askProbe(pod, `/write?path=/tmp/mark&data=${pod.id}`)
    for (const [from, own] of [
      [b, a1],
      [c, a2],
      [d, a3],
    ] as const) {
      for (const host of ['pod-a', own.dns_name, own.vip, own.ip_addresses[0]]) {
        const seen = await fetchFrom(from, `http://${host}${mark}`)
        assert.equal(seen?.body, own.id, `${from.name} asked ${host}: ${JSON.stringify(seen)}`)
      }
    }
    for (const [from, foreign] of [
      [b, 'pod-c'],
      [b, 'pod-d'],
      [b, c.dns_name],
      [c, 'pod-b'],
      [d, 'pod-b'],
    ] as const) {
      assert.equal(
        await fetchFrom(from, `http://${foreign}/hostname`),
        undefined,
        `${from.name} reached ${foreign}`,
      )
    }
    // An address that exists only in the first VPC leads nowhere in the others.
    const third = await t.running(await t.pod(one, 'pod-e'))
    await listening(third)
    assert.equal(await tcpFrom(await placeOf(b), third.vip, 80), 'connected')
    for (const from of [c, d]) {
      for (const address of [third.vip, ...third.ip_addresses]) {
        assert.notEqual(await tcpFrom(await placeOf(from), address, 80, { timeoutMs: 1500 }), 'connected')
      }
    }
    await Promise.all([t.remove(), other.remove()])
  })

  test('names outside go to the provider’s resolvers, with its ndots', async () => {
    const outside = beyond()
    assert.deepEqual(PROVIDER.pod_dns_nameservers, [outside.far])
    const at = { do: 'dns-listen', host: outside.far, port: 53, address: '192.0.2.55' } as const
    await using resolver = await listenIn(outside, at)
    const t = await cloud().tenant()
    const subnet = await t.subnet(await t.vpc('production'))
    const pod = await t.running(await t.pod(subnet, 'web'))
    assert.match((await askProbe(pod, '/read?path=/etc/resolv.conf')).body, /^options ndots:3$/m)
    const { body } = await askProbe(pod, '/resolve?name=www.example.test')
    assert.deepEqual((JSON.parse(body) as { addresses: string[] }).addresses, ['192.0.2.55'])
    assert.ok(resolver.heard.some((it) => it.text === 'www.example.test'))
    assert.notEqual((await askProbe(pod, '/resolve?name=nowhere.production.internal')).status, 200)
    assert.ok(!resolver.heard.some((it) => it.text.endsWith('.internal')), 'names of the VPC stay inside')
    await t.remove()
  })

  test('14 external access: own address in and out, from the host, another VPC and beyond', async () => {
    const outside = beyond()
    await using _echo = await listenIn(outside, { do: 'http-listen', host: outside.far, port: 8014 })
    const t = await cloud().tenant()
    const [one, two, closed] = await Promise.all([
      t.vpc('production').then((it) => t.subnet(it)),
      t.vpc('staging').then((it) => t.subnet(it)),
      t.vpc('closed', false).then((it) => t.subnet(it)),
    ])
    const body = (subnet: Subnet, fields: object): object => ({
      tenant_id: t.id,
      token: t.token,
      vpc_id: subnet.vpc_id,
      subnet_id: subnet.id,
      name: 'refused',
      container_image: 'arcus-probe:latest',
      ...fields,
    })
    await t.call('POST', '/pods', 400, body(one, { external_inbound: true }))
    await t.call('POST', '/pods', 400, body(closed, { external_access: true }))

    const [web, out, quiet, asker] = await Promise.all(
      [
        await t.pod(one, 'web', { external_access: true, external_inbound: true }),
        await t.pod(one, 'out', { external_access: true }),
        await t.pod(one, 'quiet'),
        await t.pod(two, 'asker', { external_access: true }),
      ].map((it) => t.running(it)),
    )
    assert.ok(web && out && quiet && asker)
    assert.match(web.external_ip ?? '', EXTERNAL)
    assert.equal(out.external_ip, null)

    await listening(web, asker)
    const own = (await askProbe(web, '/hostname')).body
    const fromHost = await fetch(`http://${web.external_ip}/hostname`, { signal: AbortSignal.timeout(5000) })
    assert.equal(await fromHost.text(), own, 'from the host')
    const [fromBeyond] = await httpFrom(outside, `http://${web.external_ip}/hostname`)
    assert.deepEqual(fromBeyond, { status: 200, body: own }, 'from a machine beyond the host')
    const fromVpc = await fetchFrom(asker, `http://${web.external_ip}/hostname`)
    assert.ok(fromVpc?.body.includes(own.trim()), `from another VPC: ${JSON.stringify(fromVpc)}`)
    const fromItself = await fetchFrom(web, `http://${web.external_ip}/hostname`)
    assert.ok(fromItself?.body.includes(own.trim()), `from the pod itself: ${JSON.stringify(fromItself)}`)

    const source = `http://${outside.far}:8014/`
    const seenOf = async (pod: typeof web): Promise<string | undefined> =>
      (await fetchFrom(pod, source))?.body
    assert.ok(
      (await seenOf(web))?.includes(web.external_ip!),
      'what leaves has the pod’s own external address',
    )
    const shared = await seenOf(out)
    assert.match(shared ?? '', /203\.0\.113\.\d+/, 'what leaves without an own address has one of the pool')
    assert.ok(!shared?.includes(web.external_ip!))
    assert.equal(await seenOf(quiet), undefined, 'no external_access: no way out')
    assert.notEqual(
      await tcpFrom({ namespace: outside.namespace }, web.external_ip!, 81, { timeoutMs: 1500 }),
      'connected',
    )

    await t.call('DELETE', `/pods/${web.id}`, 204)
    await eventually(
      'the external address is dead',
      async () =>
        (await tcpFrom({ namespace: outside.namespace }, web.external_ip!, 80, { timeoutMs: 500 })) !==
        'connected',
      20_000,
    )
    await t.remove()
  })
}
