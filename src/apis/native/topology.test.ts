import assert from 'node:assert/strict'
import { test } from 'node:test'
import { servedCloud, type ServedCloud } from './native.testing.ts'

type Body = any

const shop = [
  {
    kind: 'workload',
    name: 'web',
    labels: { tier: 'front' },
    spec: {
      vpc: 'production',
      subnet: 'front',
      image: 'nginx:latest',
      replicas: 2,
      env: { vpc: 'not a name' },
    },
  },
  { kind: 'subnet', name: 'front', spec: { vpc: 'production', cidr: '10.0.1.0/24' } },
  { kind: 'vpc', name: 'production', spec: { internet: true } },
]

const actions = ({ body }: { body: Body }): string[] => {
  assert.ok(body.items, JSON.stringify(body))
  return body.items.map((it: Body) => `${it.name} ${it.action}`)
}

async function setUp(): Promise<{
  served: ServedCloud
  apply: (resources: unknown) => Promise<Body>
  token: string
}> {
  const served = await servedCloud()
  const { token } = await served.it.tenant('acme')
  return {
    served,
    token,
    apply: async (resources) => await served.call('POST', '/topology', { token, body: { resources } }),
  }
}

test('a document in any order is made at once, and applied again changes nothing', async () => {
  const { served, apply, token } = await setUp()
  await using _ = served
  assert.deepEqual(actions(await apply(shop)), ['web created', 'front created', 'production created'])
  const { spec } = (await served.call('GET', '/workload/web', { token })).body
  assert.equal(spec.vpc, (await served.call('GET', '/vpc/production', { token })).body.id)
  assert.equal(spec.env.vpc, 'not a name')
  const before = (await served.call('GET', '/vpc', { token })).body.cursor
  assert.deepEqual(actions(await apply(shop)), ['web unchanged', 'front unchanged', 'production unchanged'])
  assert.equal((await served.call('GET', '/vpc', { token })).body.cursor, before)
})

test('only what differs is changed', async () => {
  const { served, apply, token } = await setUp()
  await using _ = served
  await apply(shop)
  const [web, ...rest] = shop
  const scaled = { ...web, labels: { tier: 'back' }, spec: { ...web?.spec, replicas: 3 } }
  assert.deepEqual(actions(await apply([scaled, ...rest])), [
    'web changed',
    'front unchanged',
    'production unchanged',
  ])
  const { body } = await served.call('GET', '/workload/web', { token })
  assert.deepEqual([body.spec.replicas, body.labels], [3, { tier: 'back' }])
  assert.deepEqual(actions(await apply([{ kind: 'workload', name: 'web', spec: { vpc: 'production' } }])), [
    'web unchanged',
  ])
})

test('a secret that is already so is unchanged', async () => {
  const { served, apply } = await setUp()
  await using _ = served
  const login = (password: string) => [
    {
      kind: 'registry-credential',
      name: 'private',
      spec: { server: 'registry.test', username: 'robot', password },
    },
  ]
  assert.deepEqual(actions(await apply(login('one'))), ['private created'])
  assert.deepEqual(actions(await apply(login('one'))), ['private unchanged'])
  assert.deepEqual(actions(await apply(login('two'))), ['private changed'])
})

test('a field that nobody knows, or that the platform fills, is refused: now and later', async () => {
  const { served, apply } = await setUp()
  await using _ = served
  const within = { vpc: 'production' }
  const wrong: [string, Body, string][] = [
    ['vpc', { internt: true }, 'internt'],
    ['vpc', { index: 3 }, 'index'],
    ['subnet', { ...within, cidr: '10.0.2.0/24', gatway: '10.0.2.1' }, 'gatway'],
    ['workload', { ...within, subnet: 'front', image: 'x', vip: '10.0.1.9' }, 'vip'],
    ['workload', { ...within, subnet: 'front', image: 'x', inbound: 'yes' }, 'inbound'],
    ['security-group', { ...within, rules: [], more: 1 }, 'more'],
    ['route-table', { ...within, subnets: [] }, 'routes'],
    ['registry-credential', { server: 's', username: 'u', password: 'p', email: 'e' }, 'email'],
  ]
  for (const [kind, spec, field] of wrong) {
    const { status, body } = await apply([...shop, { kind, name: 'other', spec }])
    assert.deepEqual([status, body.error?.field], [400, `resources.3.spec.${field}`], JSON.stringify(body))
  }
  await apply(shop)
  const later = await apply([{ kind: 'workload', name: 'web', spec: { ...within, replics: 4 } }])
  assert.deepEqual([later.status, later.body.error?.field], [400, 'resources.0.spec.replics'])
})

test('the provider’s configuration is a resource too, its token never shown', async () => {
  await using served = await servedCloud()
  const spec = {
    externalCidr: '203.0.113.0/24',
    externalGateway: '203.0.113.1',
    peeringCidr: '192.168.250.0/24',
    nameservers: ['10.9.9.9'],
    ndots: 2,
    cloudflareAccountId: null,
    cloudflareDomain: null,
    cloudflareToken: 'never shown',
  }
  const apply = async (more: object = {}): Promise<Body> =>
    await served.call('POST', '/topology', {
      body: { resources: [{ kind: 'provider', name: 'provider', spec: { ...spec, ...more } }] },
    })
  const made = await apply()
  assert.deepEqual(actions(made), ['provider created'])
  assert.doesNotMatch(JSON.stringify(made.body), /never shown/)
  assert.deepEqual(actions(await apply()), ['provider unchanged'])
  assert.deepEqual(actions(await apply({ ndots: 3 })), ['provider changed'])
  const patched = await served.call('PATCH', '/provider/provider', {
    body: { labels: { a: 'b' }, spec: { ndots: 4 } },
  })
  assert.deepEqual([patched.status, patched.body.spec.ndots, patched.body.labels], [200, 4, { a: 'b' }])
  assert.equal((await served.call('POST', '/provider', { body: { name: 'provider', spec } })).status, 409)
  const { token } = await served.it.tenant('acme')
  assert.equal((await served.call('PATCH', '/provider/provider', { token, body: {} })).status, 404)
})

test('so is the mail relay, whose username is nobody of the installation', async () => {
  await using served = await servedCloud()
  const apply = async (more: object = {}): Promise<Body> => {
    const login = { username: 'cloud', password: 'never shown' }
    const spec = { host: 'smtp.example.com', ...login, from: 'cloud@example.com', ...more }
    return await served.call('POST', '/topology', {
      body: { resources: [{ kind: 'mail-relay', name: 'relay', spec }] },
    })
  }
  const made = await apply()
  assert.deepEqual(actions(made), ['relay created'])
  assert.doesNotMatch(JSON.stringify(made.body), /never shown/)
  assert.deepEqual(actions(await apply()), ['relay unchanged'])
  assert.deepEqual(actions(await apply({ port: 2525 })), ['relay changed'])
})

test('one wrong item, and nothing of the document is made', async () => {
  const { served, apply, token } = await setUp()
  await using _ = served
  const wrong: [Body, string, RegExp][] = [
    [
      { kind: 'subnet', name: 'back', spec: { vpc: 'production', cidr: '10.0.1.128/25' } },
      'conflict',
      /subnet back/,
    ],
    [
      { kind: 'subnet', name: 'back', spec: { vpc: 'elsewhere', cidr: '10.0.2.0/24' } },
      'invalid',
      /no vpc elsewhere/,
    ],
    [{ kind: 'subnet', name: 'front', spec: { vpc: 'production', cidr: '10.0.3.0/24' } }, 'invalid', /twice/],
    [
      { kind: 'workload', name: 'x', spec: { vpc: 'production', subnet: 'nope', image: 'a' } },
      'invalid',
      /no subnet nope/,
    ],
    [{ kind: 'vpc', name: 'other', spec: { internet: 3 } }, 'invalid', /vpc other: spec.internet/],
  ]
  for (const [item, code, message] of wrong) {
    const { body } = await apply([...shop, item])
    assert.equal(body.error?.code, code, JSON.stringify(body))
    assert.match(body.error.message, message)
    assert.match(body.error.field ?? 'resources.3', /^resources\.\d/)
  }
  for (const kind of ['vpc', 'subnet', 'workload'])
    assert.equal((await served.call('GET', `/${kind}`, { token })).body.total, 0, kind)
})

test('what cannot change is refused, naming it', async () => {
  const { served, apply } = await setUp()
  await using _ = served
  await apply(shop)
  const moved = await apply([
    { kind: 'subnet', name: 'front', spec: { vpc: 'production', cidr: '10.0.7.0/24' } },
  ])
  assert.deepEqual([moved.status, moved.body.error.code], [400, 'invalid'])
  assert.match(moved.body.error.field, /^resources\.0.*cidr/)
  const exposed = await apply([{ kind: 'workload', name: 'web', spec: { vpc: 'production', inbound: true } }])
  assert.match(exposed.body.error.message, /inbound/)
})

test('one name in two VPCs means the one of the same VPC', async () => {
  const { served, apply, token } = await setUp()
  await using _ = served
  const both = ['one', 'two'].flatMap((vpc) => [
    { kind: 'workload', name: 'web', spec: { vpc, subnet: 'front', image: 'nginx' } },
    { kind: 'subnet', name: 'front', spec: { vpc, cidr: '10.0.1.0/24' } },
    { kind: 'vpc', name: vpc, spec: {} },
  ])
  assert.equal((await apply(both)).status, 200)
  for (const vpc of ['one', 'two']) {
    const web = (await served.call('GET', `/workload/${vpc}%2Fweb`, { token })).body
    const front = (await served.call('GET', `/subnet/${vpc}%2Ffront`, { token })).body
    assert.equal(web.spec.subnet, front.id)
  }
  assert.ok((await apply(both)).body.items.every((it: Body) => it.action === 'unchanged'))
})

test('a published port that was asked for as any stays what it became', async () => {
  const { served, apply, token } = await setUp()
  await using _ = served
  const published = [{ host: 0, container: 80, protocol: 'tcp' }]
  const document = [
    { kind: 'vpc', name: 'production' },
    { kind: 'subnet', name: 'front', spec: { vpc: 'production', cidr: '10.0.1.0/24' } },
    {
      kind: 'workload',
      name: 'web',
      spec: { vpc: 'production', subnet: 'front', image: 'nginx', published },
    },
  ]
  const ports = async () => (await served.call('GET', '/workload/web', { token })).body.spec.published
  assert.equal((await apply(document)).status, 200)
  const became = await ports()
  assert.equal(became[0].host, 30_000)
  assert.ok((await apply(document)).body.items.every((it: Body) => it.action === 'unchanged'))
  assert.deepEqual(await ports(), became)
})

test('security groups may name themselves and each other', async () => {
  const { served, apply, token } = await setUp()
  await using _ = served
  const group = (name: string, ...peers: string[]) => ({
    kind: 'security-group',
    name,
    spec: {
      vpc: 'production',
      rules: peers.map((peer) => ({ direction: 'ingress', protocol: 'any', group: peer })),
    },
  })
  const document = [group('web', 'web', 'data'), group('data', 'web'), { kind: 'vpc', name: 'production' }]
  const made = await apply(document)
  assert.equal(made.status, 200, JSON.stringify(made.body))
  const [web, data] = ['web', 'data'].map((name) => made.body.items.find((it: Body) => it.name === name).id)
  const rules = (await served.call('GET', '/security-group/web', { token })).body.spec.rules
  assert.deepEqual(
    rules.map((it: Body) => it.group),
    [web, data],
  )
  assert.ok((await apply(document)).body.items.every((it: Body) => it.action === 'unchanged'))
})

test('two who apply one document at once make it once', async () => {
  const { served, apply, token } = await setUp()
  await using _ = served
  const answers = await Promise.all([apply(shop), apply(shop), apply(shop)])
  for (const { status, body } of answers) assert.equal(status, 200, JSON.stringify(body))
  for (const kind of ['vpc', 'subnet', 'workload'])
    assert.equal((await served.call('GET', `/${kind}`, { token })).body.total, 1, kind)
})

test('an administrator who named no tenant is told so', async () => {
  await using served = await servedCloud()
  const { status, body } = await served.call('POST', '/topology', { body: { resources: shop } })
  assert.equal(status, 400)
  assert.match(body.error.message, /Arcus-Tenant/)
})
