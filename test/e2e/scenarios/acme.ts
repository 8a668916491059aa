import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { TestCloud } from '../cloud.testing.ts'
import { listening } from '../probe.testing.ts'
import { startPebble } from '../pebble.testing.ts'
import { type Tunnel, visitorOf } from '../tunnel.testing.ts'
import { eventually } from '../wait.testing.ts'

const ISSUED_WITHIN_MS = 30_000
const TOLD_WITHIN_MS = 20_000

type Shown<Status> = { readonly id: string; readonly name: string; readonly status: Status }
type Certificate = Shown<{
  readonly state: string
  readonly message?: string
  readonly issuer?: string
  readonly names?: readonly string[]
  readonly fingerprint256?: string
  readonly nextTryAt?: number
}>

/** Alone, since every tunnel made meanwhile gets its certificate from this authority. */
export function acmeScenario(cloud: () => TestCloud): void {
  test('certificates by ACME: issued, served by name, not renewed and why, renewed', async () => {
    const { native, front, call, admin } = cloud()
    await using pebble = await startPebble(front.http)
    const spec = { directory: pebble.directory, trust: pebble.trust, challenge: 'http-01', byDefault: true }
    const account = await native<Shown<object>>('POST', '/acme', 201, { body: { name: 'pebble', spec } })
    const t = await cloud().tenant()
    const as = { tenant: t.id }
    const pod = await t.running(await t.pod(await t.subnet(await t.vpc('production')), 'web'))
    await listening(pod)
    await using visitor = await visitorOf(cloud(), await pebble.root())
    const certificate = async (name: string, what: string, fits: (it: Certificate) => boolean) =>
      await eventually(
        `certificate ${name} ${what}`,
        async () => {
          const { items } = await native<{ items: Certificate[] }>('GET', '/certificate', 200, as)
          const it = items.find((one) => one.name === name)
          return it && fits(it) ? it : assert.fail(JSON.stringify(items.map((one) => one.status)))
        },
        ISSUED_WITHIN_MS,
      ).catch((error: Error) => {
        throw new Error(`${error.message}\n${pebble.log()}`)
      })

    // A tunnel gets its own.
    const wanted = { subdomain: `${t.name}-own`, protocol_type: 'http', service_port: 80 }
    const made = await t.call<Tunnel>('POST', `/tunnels?pod_id=${pod.id}`, 201, wanted)
    const own = await certificate(made.hostname, 'is issued', (it) => it.status.state === 'issued')
    assert.match(own.status.issuer ?? '', /Pebble/)
    assert.equal((await visitor.get(made.hostname)).status, 200)
    const served = await visitor.certificate(made.hostname)
    assert.equal(served.subjectaltname, `DNS:${made.hostname}`)
    assert.equal(served.fingerprint256, own.status.fingerprint256)
    assert.ok(!JSON.stringify(own).includes('PRIVATE KEY'))

    // One made by hand, for a name and then for two while the authority is away.
    const domain = `${t.name}.example.net`
    const [one, two] = [`one.${domain}`, `two.${domain}`]
    await call('POST', `/tenants/${t.id}/domains`, 201, { domain }, { admin: admin.token })
    const { id } = await native<Certificate>('POST', '/certificate', 201, {
      ...as,
      body: { name: 'by-hand', spec: { names: [one], source: 'acme' } },
    })
    const first = await certificate('by-hand', 'is issued', (it) => it.status.state === 'issued')
    await native('POST', '/tunnel', 201, {
      ...as,
      body: { name: 'one', spec: { workload: pod.id, protocol: 'http', hostname: one, certificate: id } },
    })
    const shown = async (name: string, fingerprint?: string): Promise<boolean> =>
      (await visitor.certificate(name)).fingerprint256 === fingerprint
    await eventually('it is served', () => shown(one, first.status.fingerprint256), TOLD_WITHIN_MS)
    pebble.shut()
    await native('PATCH', `/certificate/${id}`, 200, { ...as, body: { spec: { names: [one, two] } } })
    const failed = await certificate('by-hand', 'tells why', (it) => it.status.nextTryAt !== undefined)
    assert.equal(failed.status.state, 'issued')
    assert.match(
      failed.status.message ?? '',
      /^not renewed: the authority .*ECONNREFUSED.*; tried again in 10 s$/,
    )
    assert.ok(await shown(one, first.status.fingerprint256), 'the old one stays in force')
    await pebble.open()
    const renewed = await certificate('by-hand', 'is renewed', (it) => it.status.names?.length === 2)
    assert.equal(renewed.status.message, undefined)
    assert.notEqual(renewed.status.fingerprint256, first.status.fingerprint256)
    await eventually('the new one is served', () => shown(one, renewed.status.fingerprint256), TOLD_WITHIN_MS)
    assert.equal((await visitor.get(one)).status, 200)

    // What the authority does not do is said in words.
    await native('POST', '/certificate', 201, {
      ...as,
      body: { name: 'any', spec: { names: [`*.${domain}`], source: 'acme' } },
    })
    const refused = await certificate('any', 'is refused', (it) => it.status.state === 'error')
    assert.match(
      refused.status.message ?? '',
      /^not issued: the authority offers no http-01 .* tried again in /,
    )
    await native('DELETE', `/acme/${account.id}`, 202)
    await t.remove()
  })
}
