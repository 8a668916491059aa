import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isCloudError } from '#lib/errors.ts'
import type { AnyKind, Key } from '#engine/resource.ts'
import { certificate } from './certificate.kind.ts'
import { domain, type Domain } from './domain.kind.ts'
import { route } from './route.kind.ts'
import { tunnel } from './tunnel.kind.ts'
import { CLOUDFLARE, routesOf, tunnelTo, type World, world } from './edge.testing.ts'

/** Everything that leads in, carried by the edge and by Cloudflare, under a domain of either kind; settled. */
async function everything(it: World) {
  await it.cloud.act(it.admin, 'test', (verbs) => verbs.putProvider(CLOUDFLARE))
  const wished = (await it.cloud.act(it.acme, 'test', (verbs) =>
    verbs.create(domain as never, { name: 'own.example', spec: {} }),
  )) as Domain
  it.world.records.set('_arcus.own.example', [`arcus-domain=${wished.spec.challenge}`])
  await it.settle(15_000)
  await tunnelTo(it)
  await tunnelTo(it, { protocol: 'tcp', hostname: 'db.own.example', name: 'db', port: 5432 })
  await tunnelTo(it, { protocol: 'udp', hostname: 'game.acme.example', name: 'game', port: 7000 })
  const spec = { names: ['*.own.example'], source: 'internal' as const }
  const wildcard = await it.cloud.act(it.acme, 'test', (verbs) =>
    verbs.createCertificate({ name: 'all', spec }),
  )
  const led = await it.cloud.act(it.acme, 'test', (verbs) =>
    verbs.createRoute({
      name: 'shop',
      spec: {
        vpc: it.web.spec.vpc,
        hostname: 'shop.own.example',
        pathPrefix: '/',
        stripPrefix: false,
        protocol: 'http',
        plain: true,
        targets: [{ workload: it.web.id, port: 80, weight: 1 }],
        certificate: wildcard.id,
      },
    }),
  )
  await it.settle()
  assert.deepEqual([routesOf(it).length, it.world.cloudflare.pointed.size], [4, 2])
  const kinds: readonly AnyKind[] = [tunnel, route, certificate, domain]
  const made = (await Promise.all(kinds.map((kind) => it.cloud.all(it.acme, kind)))).flat()
  return { led, keys: made.map((one) => `${one.kind}/${one.id}` as Key) }
}

/** Pools that tunnels, routes, certificates and domains of a tenant are counted and named in. */
const poolsOf = (tenant: string): readonly string[] => [
  'hostname',
  'edge-udp-port',
  'domain',
  `domain:${tenant}`,
  'route:shop.own.example',
  ...['tunnel', 'route'].map((kind) => `${kind}-name:${tenant}`),
  ...['tunnels', 'routes', 'certificates', 'domains'].map((what) => `${what}:${tenant}`),
]

test('nothing of what led to a tenant is left once it is gone: no claim, no work, at the edge or at Cloudflare', async () => {
  await using it = await world()
  const { keys } = await everything(it)
  const held = await Promise.all(poolsOf(it.acme.tenant).map((pool) => it.engine.store.claims(pool)))
  assert.ok(
    held.every((one) => one.length > 0),
    'each pool is used',
  )
  await it.cloud.act(it.admin, 'test', (verbs) => verbs.deleteTenant(it.acme.tenant))
  await it.settle(120_000)
  for (const key of keys) {
    assert.equal(await it.engine.store.get(key.split('/')[1] ?? ''), undefined, key)
    assert.equal(await it.engine.store.queue(key), undefined, key)
  }
  for (const pool of poolsOf(it.acme.tenant)) assert.deepEqual(await it.engine.store.claims(pool), [], pool)
  assert.deepEqual([it.front.fronts.size, it.front.certificates.size], [0, 0])
  const { pointed, ingress } = it.world.cloudflare
  assert.deepEqual([[...pointed], [...ingress.values()]], [[], [[]]])
  assert.deepEqual(await it.cloud.leaks(it.admin, AbortSignal.timeout(10_000)), [])
})

for (const what of ['pod', 'VPC'] as const)
  test(`nothing of what led to a ${what} is left once it is gone, and hostnames are free again`, async () => {
    await using it = await world()
    const { led } = await everything(it)
    const remove = async (): Promise<unknown> =>
      await it.cloud.act(it.acme, 'test', async (verbs): Promise<unknown> =>
        what === 'pod' ? await verbs.deleteWorkload(it.web.id) : await verbs.deleteVpc(it.web.spec.vpc),
      )
    await assert.rejects(
      remove,
      (error: unknown) => isCloudError(error) && error.details.rule === 'in_use',
      'a route holds it',
    )
    await it.cloud.act(it.acme, 'test', (verbs) => verbs.remove(route as never, led.id))
    await remove()
    await it.settle(60_000)
    const { pointed } = it.world.cloudflare
    assert.deepEqual([await it.cloud.all(it.acme, tunnel), it.front.fronts.size, pointed.size], [[], 0, 0])
    const left = await it.cloud.all(it.acme, certificate)
    assert.deepEqual(
      left.map((one) => one.name),
      ['all'],
      'the one that was made by hand stays',
    )
    assert.deepEqual([...it.front.certificates.keys()], [left[0]?.id])
    for (const pool of ['hostname', 'edge-udp-port', 'route:shop.own.example', `tunnels:${it.acme.tenant}`])
      assert.deepEqual(await it.engine.store.claims(pool), [], pool)
    assert.deepEqual(await it.cloud.leaks(it.admin, AbortSignal.timeout(10_000)), [])
  })
