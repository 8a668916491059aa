import assert from 'node:assert/strict'
import { DIALECTS } from '#apis/dialects.ts'
import { createHttp } from '#apis/http.ts'
import { openOwnSockets } from '#apis/own-sockets.testing.ts'
import type { Caller } from '#cloud/access.ts'
import { testCloud, type TestCloud, testOrigin } from '#cloud/cloud.testing.ts'
import { credential } from '#cloud/identity/credential.kind.ts'
import { membership } from '#cloud/identity/membership.kind.ts'
import { message } from '#cloud/identity/message.kind.ts'
import { policy } from '#cloud/identity/policy.kind.ts'
import { serviceAccount } from '#cloud/identity/service-account.kind.ts'
import { type Role, user } from '#cloud/identity/user.kind.ts'
import { hashToken, newKey, newToken } from '#cloud/identity/secrets.ts'
import { replica } from '#cloud/compute/replica.kind.ts'
import { workload } from '#cloud/compute/workload.kind.ts'
import { vpnUser } from '#cloud/inside/vpn-user.kind.ts'
import { ALL, type AnyKind, PLATFORM } from '#engine/resource.ts'
import { createIds } from '#lib/ids.ts'
import { jsonLog } from '#lib/log.ts'
import { openAsker, type Asker } from './ask.ts'
import { type Operation, operationsOf, type OpenApi } from './document.ts'
import { BELOW, GIVEN, NEWCOMER, SSH_KEY } from './given.ts'
import { TABLES } from './dialects.ts'
import { handsOn } from './hands.ts'
import type { Hands, SweptDialect } from './dialect.ts'

/** A tenant with one resource of each kind, and the tokens of those who may act in it. */
export type Seeded = {
  readonly tenant: { readonly id: string; readonly name: string }
  readonly owner: string
  readonly editor: string
  readonly viewer: string
  /** Key of an owner of the tenant whom a policy denies everything. */
  readonly denied: string
  /** Id of one resource by its kind. */
  readonly ids: Readonly<Record<string, string>>
  readonly registryCredential: string
  /** A domain that the tenant may use. */
  readonly domain: string
  /** What its replica asks its own API with. */
  readonly instance: { readonly token: string; readonly socketPath: string }
}

export type Swept = { readonly table: SweptDialect; readonly operations: readonly Operation[] }

export type SweepWorld = AsyncDisposable & {
  readonly it: TestCloud
  readonly hands: Hands
  readonly url: string
  readonly asker: Asker
  readonly admin: string
  readonly dialects: readonly Swept[]
  /** Lines that were logged as errors: a bug each. */
  readonly bugs: readonly string[]
  /** A name nobody had before. */
  unique(): string
  seed(): Promise<Seeded>
  /** Runs a work of an administrator in a tenant, or in none. */
  act: TestCloud['cloud']['act']
  callerIn(tenant: string): Promise<Caller>
  /** Tokens that were good once, or are good for something else. */
  strangers(): Promise<Readonly<Record<'garbage' | 'revoked' | 'expired' | 'workload' | 'departed', string>>>
  /** Changes with every write of anything: resources, their queue and the records of what happened. */
  mark(): Promise<string>
  /** Everything of one tenant as the records hold it, secrets left out. */
  everythingOf(tenant: string): Promise<string>
}

const REGISTRY_PASSWORD = 'a password of the registry'

async function seedIn(
  world: Pick<SweepWorld, 'it' | 'unique' | 'callerIn'>,
  socketOf: (replica: string) => Promise<string>,
): Promise<Seeded> {
  const { it, unique } = world
  const name = unique()
  const { id, token } = await it.tenant(name)
  const caller = await world.callerIn(id)
  const kindNamed = (kind: string): AnyKind => {
    const found = it.cloud.kinds.get(kind)
    assert.ok(found, kind)
    return found
  }
  const ids: Record<string, string> = { tenant: id }
  const make = async (kind: string, spec: object, called = `${kind}-of-${name}`): Promise<void> => {
    const made = await it.cloud.act(
      caller,
      'seed',
      async (verbs) => await verbs.create(kindNamed(kind), { name: called, spec }),
    )
    ids[kind] = made.id
  }
  await make('vpc', { internet: true })
  await make('subnet', { vpc: ids['vpc'], cidr: '10.9.0.0/24' })
  const web = { image: 'nginx', replicas: 2, role: 'orchestrator' }
  await make('workload', { vpc: ids['vpc'], subnet: ids['subnet'], ...web }, 'web')
  await make('volume', { sizeGib: 1 })
  await make('snapshot', { volume: ids['volume'] })
  await make('image', { os: 'linux', version: '1' })
  await make('ssh-key', { publicKey: SSH_KEY })
  await it.cloud.act(caller, 'seed', async (verbs) => {
    const held = await verbs.createVolume({ name: `held-of-${name}`, sizeGib: 1 })
    ids['held-volume'] = held.id
    const volumes = [{ volume: held.id, path: '/data' }]
    // One without a way out takes no external address.
    const { id: of } = await verbs.createVpc({ name: `quiet-${name}`, internet: false })
    await verbs.createSubnet({ vpc: of, name: 'quiet', cidr: '10.8.0.0/24', gateway: '10.8.0.1' })
    ids['instance'] = (await verbs.launchInstance({ name: 'machine', image: 'nginx', volumes, vpc: of })).id
  })
  await make('security-group', { vpc: ids['vpc'], rules: [] })
  await it.cloud.act(caller, 'seed', async (verbs) => {
    const { rule } = await verbs.addSecurityRule(ids['security-group'] ?? '', {
      direction: 'ingress',
      protocol: 'icmp',
    })
    ids['security-rule'] = rule.id ?? ''
  })
  await make('route-table', { vpc: ids['vpc'], subnets: [], routes: [] })
  // In a VPC that is not the one that others are tried on, since it keeps its own from going.
  await it.cloud.act(caller, 'seed', async (verbs) => {
    const machine = await verbs.get(workload, ids['instance'] ?? '')
    const given = { name: unique(), port: 80, algorithm: 'round-robin' } as const
    const lb = await verbs.createBalancer({ ...given, vpc: machine.spec.vpc })
    ids['load-balancer'] = (await verbs.addTarget(lb.id, { workload: machine.id, port: 80, weight: 1 })).id
    const second = await verbs.launchInstance({ name: 'second', image: 'nginx', vpc: machine.spec.vpc })
    ids['no-target'] = second.id
  })
  await make('zone', { vpc: ids['vpc'] }, `${name}.internal`)
  await make('record', { zone: ids['zone'], type: 'A', content: '10.9.0.9' }, 'db')
  // Some of what a gateway or peering stands on, of which the seeded ones take their own.
  const spare = async (kind: string, spec: object): Promise<string> => {
    const seeded = ids[kind]
    await make(kind, spec, unique())
    const made = ids[kind] ?? ''
    if (seeded !== undefined) ids[kind] = seeded
    return made
  }
  await make('internet-gateway', {})
  await make('elastic-ip', {})
  const taken = await spare('elastic-ip', {})
  await make('nat-gateway', { subnet: ids['subnet'], elasticIp: taken })
  const peer = await spare('vpc', { internet: false })
  await make('peering', { vpc: ids['vpc'], peer })
  ids['spare elastic-ip'] = await spare('elastic-ip', {})
  ids['spare vpc'] = await spare('vpc', { internet: false })
  ids['spare subnet'] = await spare('subnet', { vpc: ids['vpc'], cidr: '10.10.0.0/24' })
  const gated = await spare('vpc', { internet: false })
  const apart = await spare('subnet', { vpc: gated, cidr: '10.9.0.0/24' })
  const machine = await spare('workload', { vpc: gated, subnet: apart, image: 'nginx' })
  await it.cloud.act(caller, 'seed', async (verbs) => {
    const { route } = await verbs.addRoute(ids['route-table'] ?? '', {
      cidr: '10.98.0.0/16',
      target: 'local',
    })
    ids['table-route'] = route.id ?? ''
    ids['attached-gateway'] = (await verbs.createInternetGateway({ name: unique(), vpc: gated })).id
    const address = await verbs.createElasticIp({ name: unique() })
    ids['associated-ip'] = (await verbs.associateElasticIp(address.id, machine)).id
  })
  const registry = { server: 'registry.test', username: 'robot', password: REGISTRY_PASSWORD }
  await make('registry-credential', registry)
  const domain = `${name}.${BELOW}`
  await it.cloud.act(it.admin, 'seed', async (verbs) => {
    ids['domain'] = (await verbs.addDomain(id, domain)).id
  })
  await make('certificate', { names: [domain], source: 'given', ...GIVEN })
  await make('tunnel', { workload: ids['workload'], protocol: 'http', hostname: `tunnel.${domain}` })
  const target = { workload: ids['workload'], port: 80, weight: 1 }
  await make('route', { vpc: ids['vpc'], hostname: `route.${domain}`, targets: [target] })
  await make('network', { members: [{ vpc: ids['vpc'] }] })
  await make('scoped-variable', {
    vpc: ids['vpc'],
    scope: { global: true, workloads: [], names: [] },
    access: { api: {} },
    secret: 'a value',
  })
  await make('integration', { vendor: 'somebody', secret: 'a secret' })
  // Not by its verb: a hash of a password takes longer than all else here.
  await it.engine.transact(async (draft) => {
    const memberships = [{ tenant: id, role: 'editor' as const }]
    const made = draft.create(user, {
      tenant: PLATFORM,
      name: `user-of-${name}`,
      spec: { passwordHash: 'none', admin: false, memberships },
    })
    ids['user'] = made.id
    const inVpc = ids['vpc'] ?? ''
    ids['vpn-user'] = draft.create(vpnUser, {
      tenant: id,
      name: `vpn-user-of-${name}`,
      spec: { vpc: inVpc, passwordHash: 'none' },
    }).id
    await Promise.resolve()
  })
  const issue = async (role: Role): Promise<string> => {
    const made = await it.cloud.act(
      caller,
      'seed',
      async (verbs) => await verbs.issueCredential({ name: `${role} of ${name}`, role }),
    )
    ids['credential'] = made.credential.id
    return made.token
  }
  const tokens = { editor: await issue('editor'), viewer: await issue('viewer') }
  await issue('viewer')
  // Somebody who belongs to no tenant, and one of each kind that says who may act in this one.
  const guest = await it.engine.transact(async (draft) => {
    if (!(await draft.get(user, PLATFORM, NEWCOMER)))
      draft.create(user, {
        id: NEWCOMER,
        tenant: PLATFORM,
        name: 'newcomer@example.com',
        spec: { passwordHash: 'none', admin: false, memberships: [] },
      })
    return draft.create(user, {
      tenant: PLATFORM,
      name: `guest-of-${name}@example.com`,
      spec: { passwordHash: 'none', admin: false, memberships: [] },
    })
  })
  await make('membership', { user: guest.id, role: 'viewer' })
  await make('role', { permissions: ['instance:read'] })
  await make('policy', { statements: [{ effect: 'Deny', action: ['nothing:at-all'], resource: ['*'] }] })
  await make('service-account', { role: 'viewer' })
  const account = await it.cloud.get(caller, serviceAccount, ids['service-account'] ?? '')
  ids['secret'] = account.spec.secrets[0]?.id ?? ''
  await it.engine.transact(async (draft) => {
    const text = { to: 'somebody@example.com', subject: 'Hello', text: 'A text' }
    ids['message'] = draft.create(message, { tenant: PLATFORM, name: 'hello', spec: text }).id
    await Promise.resolve()
  })
  const denied = await it.engine.transact(async (draft) => {
    const spec = { passwordHash: 'none', admin: false, memberships: [] }
    const of = draft.create(user, { tenant: PLATFORM, name: `denied-of-${name}@example.com`, spec })
    const token = newKey()
    const place = { user: of.id, role: 'owner' }
    draft.create(membership, { tenant: id, name: of.name, spec: place })
    const statements = [{ effect: 'Deny' as const, action: ['*'], resource: ['*'] }]
    draft.create(policy, { tenant: id, name: of.name, spec: { statements, attachedTo: [of.id] } })
    const key = { hash: hashToken(token), scope: 'tenant' as const, subject: of.id, role: 'viewer' as const }
    draft.create(credential, { tenant: PLATFORM, name: 'key', spec: { ...key, current: id } })
    await Promise.resolve()
    return token
  })
  await it.settle()
  const [slot] = await it.cloud.all(caller, replica)
  assert.ok(slot)
  ids['replica'] = slot.id
  return {
    tenant: { id, name },
    owner: token,
    ...tokens,
    denied,
    ids,
    registryCredential: `registry-credential-of-${name}`,
    domain,
    instance: { token: it.cloud.inside.token(slot), socketPath: await socketOf(slot.id) },
  }
}

async function strangersIn({ it, unique, callerIn }: SweepWorld): ReturnType<SweepWorld['strangers']> {
  const home = await it.tenant(unique())
  const caller = await callerIn(home.id)
  const issued = async (expiresAt?: number) =>
    await it.cloud.act(
      caller,
      'seed',
      async (verbs) =>
        await verbs.issueCredential({
          name: unique(),
          role: 'owner',
          ...(expiresAt === undefined ? {} : { expiresAt }),
        }),
    )
  const revoked = await issued()
  await it.cloud.act(caller, 'seed', async (verbs) => await verbs.remove(credential, revoked.credential.id))
  const expired = await issued(it.clock.now() + 1000)
  await it.clock.advance(2000)
  const workload = newToken('tnt')
  await it.engine.transact(async (draft) => {
    draft.create(credential, {
      tenant: home.id,
      name: unique(),
      spec: { hash: hashToken(workload), scope: 'workload', subject: home.id, role: 'owner' },
    })
    await Promise.resolve()
  })
  const gone = await it.tenant(unique())
  await it.cloud.act(it.admin, 'seed', async (verbs) => await verbs.deleteTenant(gone.id))
  return {
    garbage: 'tnt_no-such-token',
    revoked: revoked.token,
    expired: expired.token,
    workload,
    departed: gone.token,
  }
}

/** Every dialect on one port, over a whole cloud with simulated drivers and clock in this process. Nothing reconciles unless told. */
export async function sweepWorld(): Promise<SweepWorld> {
  // Nothing moves the clock, so nothing would fill what limits requests.
  const it = await testCloud({ settings: { rates: { perSecond: 0, burst: 0, loginsPerMinute: 0 } } })
  const bugs: string[] = []
  const http = await createHttp({
    cloud: it.cloud,
    dialects: DIALECTS,
    log: jsonLog('warn', (line) => bugs.push(line)),
    clock: it.clock,
    ids: createIds(it.clock),
  })
  const { url } = await http.listen({ host: '127.0.0.1', port: 0 })
  const asker = openAsker(url)
  const sockets = await openOwnSockets(http)
  const dialects = await Promise.all(
    DIALECTS.map(async ({ name }) => {
      const table = TABLES.find((one) => one.name === name)
      assert.ok(table, `the dialect ${name} has no table in test/sweep/dialects.ts`)
      const { body } = await asker.ask({ method: 'GET', path: `/openapi/${name}.json` })
      return { table, operations: operationsOf(body as OpenApi) }
    }),
  )
  let count = 0
  const { store } = it.engine
  const newest = async (stream: 'audit' | 'event' | 'usage') =>
    (await store.records({ stream, tenant: ALL, limit: 1, newestFirst: true })).records[0]?.cursor
  const world: SweepWorld = {
    it,
    hands: handsOn(asker, it.credentials.token, async () => await it.settle()),
    url,
    asker,
    admin: it.credentials.token,
    dialects,
    bugs,
    unique: () => `swept-${(count++).toString(36)}`,
    act: it.cloud.act,
    callerIn: async (tenant) => await it.cloud.inTenant(it.admin, tenant),
    seed: async () => await seedIn(world, sockets.of),
    strangers: async () => await strangersIn(world),
    async mark() {
      const { cursor } = await store.changes(undefined, 1)
      const { resources, queued } = await store.stats()
      const records = await Promise.all([newest('audit'), newest('event'), newest('usage')])
      return JSON.stringify({ cursor, resources, queued, records })
    },
    async everythingOf(tenant) {
      const caller = await it.cloud.authenticate(it.credentials.token, testOrigin)
      assert.ok(caller)
      const inside = { ...caller, tenant }
      const kinds = [...it.cloud.kinds.values()].filter((kind) => kind.scope === 'tenant')
      return JSON.stringify(await Promise.all(kinds.map(async (kind) => await it.cloud.all(inside, kind))))
    },
    async [Symbol.asyncDispose]() {
      asker[Symbol.dispose]()
      await sockets[Symbol.asyncDispose]()
      await http.close()
      await it[Symbol.asyncDispose]()
    },
  }
  return world
}
