import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Cloudflare, TOKEN } from '#drivers/cloudflare/cloudflare.testing.ts'
import { FRONT_ADDRESS, type TestCloud } from '../cloud.testing.ts'
import { startPebble } from '../pebble.testing.ts'
import { listening } from '../probe.testing.ts'
import { type Tunnel, visitorOf } from '../tunnel.testing.ts'
import { eventually } from '../wait.testing.ts'
import { PROVIDER } from './networks.ts'

const ISSUED_WITHIN_MS = 30_000
const TOLD_WITHIN_MS = 20_000
/** What the provider of DNS serves. */
export const ACME_ZONE = 'example.net'

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
export function acmeScenario(cloud: () => TestCloud, provider: () => Cloudflare): void {
  test('certificates by ACME: issued, served by name, not renewed and why, renewed, by DNS too', async () => {
    const { native, front, call, admin } = cloud()
    await using pebble = await startPebble(front.http, FRONT_ADDRESS, (name) => provider().texts(name))
    const spec = { directory: pebble.directory, trust: pebble.trust, challenge: 'http-01', byDefault: true }
    const account = await native<Shown<object>>('POST', '/acme', 201, { body: { name: 'pebble', spec } })
    const t = await cloud().tenant()
    const inTenant = { tenant: t.id }
    const pod = await t.running(await t.pod(await t.subnet(await t.vpc('production')), 'web'))
    await listening(pod)
    await using visitor = await visitorOf(cloud(), await pebble.root())
    const certificate = async (name: string, what: string, fits: (it: Certificate) => boolean) =>
      await eventually(
        `certificate ${name} ${what}`,
        async () => {
          const { items } = await native<{ items: Certificate[] }>('GET', '/certificate', 200, inTenant)
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
    const domain = `${t.name}.${ACME_ZONE}`
    const [one, two] = [`one.${domain}`, `two.${domain}`]
    await call('POST', `/tenants/${t.id}/domains`, 201, { domain }, { admin: admin.token })
    const { id } = await native<Certificate>('POST', '/certificate', 201, {
      ...inTenant,
      body: { name: 'by-hand', spec: { names: [one], source: 'acme' } },
    })
    const first = await certificate('by-hand', 'is issued', (it) => it.status.state === 'issued')
    await native('POST', '/tunnel', 201, {
      ...inTenant,
      body: { name: 'one', spec: { workload: pod.id, protocol: 'http', hostname: one, certificate: id } },
    })
    const shown = async (name: string, fingerprint?: string): Promise<boolean> =>
      (await visitor.certificate(name)).fingerprint256 === fingerprint
    await eventually('it is served', () => shown(one, first.status.fingerprint256), TOLD_WITHIN_MS)
    pebble.shut()
    await native('PATCH', `/certificate/${id}`, 200, { ...inTenant, body: { spec: { names: [one, two] } } })
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
      ...inTenant,
      body: { name: 'any', spec: { names: [`*.${domain}`], source: 'acme' } },
    })
    const refused = await certificate('any', 'is refused', (it) => it.status.state === 'error')
    assert.match(
      refused.status.message ?? '',
      /^not issued: the authority offers no http-01 .* tried again in /,
    )

    // What HTTP cannot prove, DNS does, in the zone that the provider's token opens.
    const as = { admin: admin.token }
    await call('POST', '/provider-config', 200, { ...PROVIDER, cloudflare_api_token: 'wrong' }, as)
    await native('PATCH', `/acme/${account.id}`, 200, { body: { spec: { challenge: 'dns-01' } } })
    await certificate('any', 'tells what the provider says', (it) =>
      /Cloudflare refused: Invalid access token/.test(it.status.message ?? ''),
    )
    await call('POST', '/provider-config', 200, { ...PROVIDER, cloudflare_api_token: TOKEN }, as)
    const any = await certificate('any', 'is issued', (it) => it.status.state === 'issued')
    assert.deepEqual(provider().records, [], 'nothing is left in the zone')
    await native('POST', '/route', 201, {
      ...inTenant,
      body: {
        name: 'below',
        spec: {
          vpc: pod.vpc_id,
          hostname: `*.${domain}`,
          pathPrefix: '/',
          stripPrefix: false,
          protocol: 'http',
          plain: false,
          targets: [{ workload: pod.id, port: 80, weight: 1 }],
          certificate: any.id,
        },
      },
    })
    await eventually('it is served', () => shown(`x.${domain}`, any.status.fingerprint256), TOLD_WITHIN_MS)
    assert.equal((await visitor.get(`x.${domain}`)).status, 200)
    assert.ok(!cloud().log().includes(TOKEN), 'the token is in no log')
    await call('POST', '/provider-config', 200, PROVIDER, as)
    await native('DELETE', `/acme/${account.id}`, 202)
    await t.remove()
  })
}
