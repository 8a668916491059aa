import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TestCloud } from '../cloud.testing.ts'
import { httpFrom, listenIn, type Outside, type Place, tcpFrom } from '../host.testing.ts'
import { listening, placeOf } from '../probe.testing.ts'
import { cloudTenant, type Instance } from '../thecloud.testing.ts'
import { eventually } from '../wait.testing.ts'
import { EXTERNAL } from './networks.ts'

/** What the probe answers besides HTTP. */
const ECHO_PORT = 7007
const HEARD_PORT = 8017
const SETTLES_MS = 20_000
const EVERYWHERE = '0.0.0.0/0'
const WEB = '10.50.1.0/24'
const DATA = '10.50.2.0/24'

type Id = { readonly id: string }
type Address = Id & { readonly public_ip: string }

export function twoTierScenario(cloud: () => TestCloud, beyond: () => Outside): void {
  test('two tiers: what each reaches, from every side, and how it is taken down', async () => {
    const outside = beyond()
    const { t, call, data, launch } = await cloudTenant(cloud())
    const make = async <T extends Id = Id>(path: string, body: object): Promise<T> =>
      await data<T>('POST', path, body)
    const gone = async (path: string): Promise<void> =>
      void (await eventually(
        `${path} is deleted`,
        async () => (await call('DELETE', path)).status < 300,
        SETTLES_MS,
      ))
    const refused = async (status: number, method: string, path: string, body?: object): Promise<void> => {
      const said = await call(method, path, body)
      assert.equal(said.status, status, `${method} ${path} ${said.status} ${said.text}`)
    }

    const vpc = await make('/vpcs', { name: 'shop', cidr_block: '10.50.0.0/16' })
    const [web, inner] = [
      await make(`/vpcs/${vpc.id}/subnets`, { name: 'web', cidr_block: WEB }),
      await make(`/vpcs/${vpc.id}/subnets`, { name: 'data', cidr_block: DATA }),
    ]
    const gateway = await make('/internet-gateways', { name: 'out' })
    await data('POST', `/internet-gateways/${gateway.id}/attach`, { vpc_id: vpc.id })
    const [own, shared] = [await make<Address>('/elastic-ips', {}), await make<Address>('/elastic-ips', {})]
    for (const it of [own, shared]) assert.match(it.public_ip, EXTERNAL)
    const nat = await make('/nat-gateways', { subnet_id: web.id, eip_id: shared.id })
    const table = await make('/route-tables', { vpc_id: vpc.id, name: 'inner' })
    const route = { destination_cidr: EVERYWHERE, target_type: 'nat', target_id: nat.id }
    const led = await make(`/route-tables/${table.id}/routes`, route)
    await data('POST', `/route-tables/${table.id}/associate`, { subnet_id: inner.id })

    const groupWith = async (name: string, rules: readonly object[]): Promise<Id> => {
      const group = await make('/security-groups', { name, vpc_id: vpc.id })
      const all = { protocol: 'all', direction: 'egress', cidr: EVERYWHERE }
      for (const rule of [all, ...rules]) await data('POST', `/security-groups/${group.id}/rules`, rule)
      return group
    }
    const tcp = (port: number, cidr: string): object => ({
      direction: 'ingress',
      protocol: 'tcp',
      port_min: port,
      port_max: port,
      cidr,
    })
    const front = await groupWith('front', [tcp(80, EVERYWHERE)])
    const back = await groupWith('back', [tcp(ECHO_PORT, WEB)])
    const machine = async (name: string, subnet: Id, group: Id): Promise<Instance> => {
      const it = await launch(name, { image: 'arcus-probe:latest', vpc_id: vpc.id, subnet_id: subnet.id })
      await data('POST', '/security-groups/attach', { instance_id: it.id, group_id: group.id })
      return it
    }
    const [shop, base] = await Promise.all([machine('shop', web, front), machine('base', inner, back)])
    await listening({ ...shop, name: 'shop' }, { ...base, name: 'base' })
    await data('POST', `/elastic-ips/${own.id}/associate`, { instance_id: shop.id })
    const [inShop, inBase] = [
      await placeOf({ ...shop, name: 'shop' }),
      await placeOf({ ...base, name: 'base' }),
    ]

    const opens = async (from: Place, host: string, port: number): Promise<boolean> =>
      (await tcpFrom(from, host, port, { timeoutMs: 1500 })) === 'connected'
    const within = async (what: string, isSo: () => Promise<boolean>): Promise<void> =>
      void (await eventually(what, isSo, SETTLES_MS))
    const there = { namespace: outside.namespace }
    await within('the shop is reached from outside', async () => await opens(there, own.public_ip, 80))
    const [page] = await httpFrom(outside, `http://${own.public_ip}/hostname`)
    assert.ok(page && 'status' in page && page.status === 200, JSON.stringify(page))
    await within('the shop reaches its base', async () => await opens(inShop, base.private_ip, ECHO_PORT))
    for (const [from, host, port] of [
      [there, own.public_ip, ECHO_PORT],
      [there, shared.public_ip, 80],
      [there, shared.public_ip, ECHO_PORT],
      [there, base.private_ip, ECHO_PORT],
      [inShop, base.private_ip, 80],
      [inBase, shop.private_ip, ECHO_PORT],
    ] as const)
      assert.equal(await opens(from, host, port), false, `${JSON.stringify(from)} reached ${host}:${port}`)
    assert.ok(await opens(inBase, shop.private_ip, 80), 'everybody may ask the shop')
    await using _listener = await listenIn(outside, {
      do: 'http-listen',
      host: outside.far,
      port: HEARD_PORT,
    })
    const sourceOf = async (from: Place): Promise<string> =>
      JSON.stringify(await httpFrom(from, `http://${outside.far}:${HEARD_PORT}/`))
    await within('the base gets out', async () => (await sourceOf(inBase)).includes(shared.public_ip))
    assert.ok((await sourceOf(inShop)).includes(own.public_ip))

    const rules = (
      await data<{ rules: (Id & { port_min?: number })[] }>('GET', `/security-groups/${back.id}`)
    ).rules
    const rule = rules.find((it) => it.port_min === ECHO_PORT)
    await data('DELETE', `/security-groups/rules/${rule?.id}`)
    await within('the base is closed', async () => !(await opens(inShop, base.private_ip, ECHO_PORT)))

    // What is in use stays, whatever the order.
    await refused(409, 'DELETE', `/vpcs/${vpc.id}`)
    await refused(409, 'DELETE', `/subnets/${inner.id}`)
    await refused(409, 'DELETE', `/security-groups/${back.id}`)
    await refused(409, 'DELETE', `/elastic-ips/${own.id}`)
    await refused(409, 'DELETE', `/elastic-ips/${shared.id}`)
    await refused(400, 'DELETE', `/internet-gateways/${gateway.id}`)
    // Circloud's contract has no such refusal: it knows nothing of gateways.
    const asCircloud = async (): Promise<Response> =>
      await fetch(`${cloud().url}/circloud/vpcs/${vpc.id}`, {
        method: 'DELETE',
        headers: { 'x-auth-token': t.token },
      })
    const hidden = await asCircloud()
    assert.equal(hidden.status, 409)
    assert.match(await hidden.text(), /gateway/)

    await data('DELETE', `/route-tables/${table.id}/routes/${led.id}`)
    await data('DELETE', `/nat-gateways/${nat.id}`)
    await gone(`/elastic-ips/${shared.id}`)
    await within('nobody gets out by the gateway', async () => !(await sourceOf(inBase)).includes('200'))
    await data('POST', `/elastic-ips/${own.id}/disassociate`)
    await within('the shop is reached no more', async () => !(await opens(there, own.public_ip, 80)))
    await gone(`/elastic-ips/${own.id}`)
    await data('POST', `/internet-gateways/${gateway.id}/detach`)
    await data('DELETE', `/internet-gateways/${gateway.id}`)
    await within('Circloud deletes it with its machines', async () => {
      const { status } = await call('GET', `/vpcs/${vpc.id}`)
      if (status === 200) await asCircloud()
      return status === 404
    })
    for (const it of [shop, base])
      await within(
        'its machines are gone',
        async () => (await call('GET', `/instances/${it.id}`)).status === 404,
      )
    await t.remove()
  })
}
