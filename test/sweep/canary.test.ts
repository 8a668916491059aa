import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { BELOW, GIVEN, keyWith } from './given.ts'
import { DIALECTS } from '#apis/dialects.ts'
import type { Replica } from '#cloud/compute/replica.kind.ts'
import { objectId } from '#lib/object-id.ts'
import { createTokens } from '#cloud/inside/token.ts'
import { createKeyring, openMasterKey } from '#engine/secrets.ts'
import { twisted } from './arbitrary.ts'
import { type Answer, type Json, openAsker, type Question } from './ask.ts'
import { openAviary } from './canary.ts'
import { TABLES } from './dialects.ts'
import { type Known, ownOf, type SweptDialect } from './dialect.ts'
import { type Operation, operationsOf, type OpenApi } from './document.ts'
import { handsOn } from './hands.ts'
import { filesOf, processes } from './places.ts'
import { startProcess } from './process.ts'
import { questionFor } from './request.ts'
import { isMarked, secretFieldsOf } from './secrets.ts'
import type { Seeded } from './world.ts'

// A secret of its own in every field that holds one, and in places where somebody might put one by mistake; then it is
// looked for wherever the cloud's process writes, answers or shows anything.

const SETTLE_MS = 100
const SOCKET_MS_MAX = 10_000
/** It may start the instances of others. */
const WORKLOAD = { role: 'orchestrator' }
/** What a file of the cloud may hold in plain: its owner's key to the door. */
const MAY_HOLD_ADMIN = 'admin.json'

const data = mkdtempSync(join(tmpdir(), 'arcus-canary-'))
const cloud = await startProcess(data)
const asker = openAsker(cloud.url)
after(async () => {
  asker[Symbol.dispose]()
  await cloud[Symbol.asyncDispose]()
  rmSync(data, { recursive: true, force: true })
})
const hands = handsOn(asker, cloud.admin.token, async () => await pause(SETTLE_MS))
const aviary = openAviary()
aviary.adopt("the administrator's password", cloud.admin.password)
aviary.adopt("the administrator's token", cloud.admin.token)

// What a container is told at its start; here nothing else than the cloud's own key can say it.
const keyring = createKeyring(await openMasterKey(join(data, 'master.key'), randomBytes))
const tokens = createTokens((text, purpose) => keyring.mac(text, purpose))

type Heard = {
  readonly what: string
  readonly text: string
  readonly stranger: boolean
  /** Whose workload heard it: it is told some secrets of its own. */
  readonly by?: string
}
/** How the label of a secret begins that a tenant's workloads may be told, and nobody else. */
const toldTo = (tenant: string): string => `for the workloads of ${tenant}: `
const heard: Heard[] = []
let names = 0
const unique = (): string => `canary-${names++}`

async function made(
  method: string,
  path: string,
  body: Json,
  tenant?: string,
): Promise<Record<string, string>> {
  const answer = await hands.native(method, path, { body, ...(tenant === undefined ? {} : { tenant }) })
  assert.ok(answer.status < 300, `${method} ${path} answered ${answer.status} ${answer.text}`)
  return answer.body as Record<string, string>
}

/** A tenant with what the secrets need around them. */
async function seed(env: Record<string, string> = {}): Promise<Seeded> {
  const name = unique()
  const tenant = await made('POST', '/tenant', { name })
  const id = tenant['id'] ?? ''
  const ids: Record<string, string> = { tenant: id }
  const create = async (kind: string, spec: Json, called = unique()): Promise<string> => {
    const it = await made('POST', `/${kind}`, { name: called, spec }, id)
    ids[kind] = it['id'] ?? ''
    return it['token'] ?? ''
  }
  await create('vpc', { internet: true })
  await create('subnet', { vpc: ids['vpc'] ?? '', cidr: '10.9.0.0/24' })
  await create('workload', {
    vpc: ids['vpc'] ?? '',
    subnet: ids['subnet'] ?? '',
    image: 'nginx',
    env,
    ...WORKLOAD,
  })
  await create('user', {
    password: aviary.plant("a seeded user's password"),
    memberships: [{ tenant: id, role: 'editor' }],
  })
  const registryCredential = unique()
  const password = aviary.plant('a seeded registry password')
  await create(
    'registry-credential',
    { server: 'registry.test', username: 'robot', password },
    registryCredential,
  )
  const domain = `${name}.${BELOW}`
  await create('domain', {}, domain)
  const target = { workload: ids['workload'] ?? '', port: 80, weight: 1 }
  await create('certificate', {
    names: [domain],
    source: 'given',
    chain: GIVEN.chain,
    key: keyWith(aviary.plant(`${toldTo(name)}a certificate's key`)),
  })
  await create('tunnel', { workload: target.workload, protocol: 'http', hostname: `tunnel.${domain}` })
  await create('route', { vpc: ids['vpc'] ?? '', hostname: `route.${domain}`, targets: [target] })
  const vpc = ids['vpc'] ?? ''
  await create('image', { os: 'linux', version: '1' })
  await create('network', { members: [{ vpc }] })
  await create('vpn-user', { vpc, password: aviary.plant("a seeded VPN user's password") })
  await create('integration', {
    vendor: 'somebody',
    apiKey: aviary.plant(`${toldTo(name)}an integration's key`),
    secret: aviary.plant(`${toldTo(name)}an integration's secret`),
    base64Config: aviary.plant(`${toldTo(name)}an integration's configuration`),
  })
  await create('scoped-variable', {
    vpc,
    scope: { global: true, workloads: [], names: [] },
    access: { api: {} },
    secret: aviary.plant(`${toldTo(name)}a variable's secret`),
  })
  const keys = {
    owner: tenant['token'] ?? '',
    editor: await create('credential', { role: 'editor' }),
    viewer: await create('credential', { role: 'viewer' }),
  }
  for (const [role, token] of Object.entries(keys)) aviary.adopt(`${name}'s ${role} token`, token)
  const { items } = (await hands.native('GET', '/replica', { tenant: id })).body as {
    items: Replica[]
  }
  const [replica] = items
  assert.ok(replica)
  ids['replica'] = replica.id
  const instance = {
    token: tokens.of(replica),
    socketPath: join(data, 'instances', replica.id, 'api.sock'),
  }
  aviary.adopt(`${toldTo(name)}its token`, instance.token)
  for (
    const until = performance.now() + SOCKET_MS_MAX;
    !existsSync(instance.socketPath);
    await pause(SETTLE_MS)
  )
    assert.ok(performance.now() < until, `${instance.socketPath} is not there`)
  return { tenant: { id, name }, ...keys, denied: '', ids, registryCredential, domain, instance }
}

const swept = await Promise.all(
  DIALECTS.map(async ({ name }) => {
    const table = TABLES.find((it) => it.name === name)
    assert.ok(table, `the dialect ${name} has no table`)
    const { body } = await asker.ask({ method: 'GET', path: `/openapi/${name}.json` })
    return { table, operations: operationsOf(body as OpenApi) }
  }),
)
const own = await seed({ WORD: aviary.plant('an environment variable', { shown: true }) })
const stranger = await seed()
/** Whose workloads ask: nobody changes them, so that their tokens stay good. */
const inner = await seed()
const { id: job } = await made(
  'POST',
  '/workload',
  {
    name: unique(),
    spec: { vpc: inner.ids['vpc'] ?? '', subnet: inner.ids['subnet'] ?? '', image: 'nginx', function: true },
  },
  inner.tenant.id,
)
const ownerOf = (table: SweptDialect): Seeded => (table.inside ? inner : own)

/** Bodies for which the secret alone is not enough. */
async function bodyFor(label: string): Promise<Json | undefined> {
  if (label !== 'cycle POST /v1/conductor/tasks contents.function.token') return undefined
  const { items } = (await hands.native('GET', `/replica?term=workload:${job}`, { tenant: inner.tenant.id }))
    .body as { items: Replica[] }
  return {
    action: 'container.instance.start',
    contents: {
      container_id: objectId(job ?? ''),
      instance_id: objectId(items[0]?.id ?? ''),
      function: { token: '', runtime_variables: {} },
    },
  }
}

/** Asks, and keeps what was answered for the search. A token that is answered is a secret from then on, and may stand in that answer. */
async function ask(question: Question, how: { stranger?: boolean; by?: string } = {}): Promise<Answer> {
  const answer = await asker.ask(question)
  const what = `${question.method} ${question.path} (${answer.status})`
  const body = (answer.body ?? {}) as { data?: unknown }
  const given = { ...(body.data as object | undefined), ...body } as Record<string, unknown>
  let { text } = answer
  for (const name of ['token', 'api_token', 'key', 'api_key', 'secret', 'access_token']) {
    const token = given[name]
    if (typeof token !== 'string') continue
    if (token !== cloud.admin.token) aviary.adopt(`the ${name} that ${what} gave`, token)
    text = text.replaceAll(token, '')
  }
  const by = how.by ?? (question.socketPath === undefined ? undefined : inner.tenant.name)
  heard.push({ what, text, stranger: how.stranger ?? false, ...(by === undefined ? {} : { by }) })
  return answer
}

type Asking = { readonly table: SweptDialect; readonly operation: Operation }

function rightQuestion({ table, operation }: Asking, known?: Known): Question {
  const need = table.need(operation)
  const isAdmin = need === 'operate' || need === 'hidden'
  const of = ownerOf(table)
  const { token: ownToken, socketPath } = ownOf(table, of)
  const token = need === 'open' ? undefined : isAdmin ? cloud.admin.token : ownToken
  const headers = isAdmin ? table.inTenant?.(own.tenant.id) : undefined
  const how = { known: known ?? table.known(of, token ?? ''), unique: unique(), token, socketPath }
  return questionFor(table, operation, { ...how, ...(headers ? { headers } : {}) })
}

const withQuery = (it: Question, query: string): Question => ({
  ...it,
  path: `${it.path}${it.path.includes('?') ? '&' : '?'}${query}`,
})

const planted = new Set<string>()

/** The operation with a secret in one of its fields: as it should be, tried dry, twice, and in every wrong way. */
async function plant({ table, operation }: Asking, path: string): Promise<void> {
  const label = `${table.name} ${operation.key} ${path}`
  const make = (): string => {
    const letters = aviary.plant(label)
    return table.secretForms?.[`${operation.key} ${path}`]?.(letters) ?? letters
  }
  await table.before?.[operation.key]?.(hands, ownerOf(table))
  const right = rightQuestion({ table, operation })
  const good = (await bodyFor(label)) ?? (JSON.parse(String(right.body)) as Json)
  const bodyWith = (to: unknown): string => JSON.stringify(twisted(good, [{ do: 'set', path, to }]))
  const secret = make()
  if (operation.parameters.some((it) => it.name === 'dryRun'))
    await ask(withQuery({ ...right, body: bodyWith(secret) }, 'dryRun=true'))
  const answer = await ask({ ...right, body: bodyWith(secret) })
  const isLogin = table.logins?.[operation.key] !== undefined
  if (!isLogin && table.always?.[operation.key] === undefined)
    assert.ok(answer.status < 300, `${label} took no secret: ${answer.status} ${answer.text}`)
  await ask({ ...right, body: bodyWith(secret) })
  for (const wrong of [{ [make()]: 1 }, [make()], { a: { b: make() } }, make().repeat(3000)])
    await ask({ ...right, body: bodyWith(wrong) })
  await ask({ ...right, body: bodyWith(make()).slice(0, -1) })
  await ask({ ...right, body: bodyWith(make()), headers: [['content-type', 'text/plain']] })
  await ask({ ...right, body: JSON.stringify({ ...(good as object), more: make() }) })
  await ask(withQuery(right, `${path}=${encodeURIComponent(make())}`))
  planted.add(`${table.name} ${operation.key} ${path}`)
}

const MISPLACED = {
  token: aviary.plant('a wrong token'),
  cookie: aviary.plant('a cookie'),
  basic: aviary.plant('an authorization of another scheme'),
}

/** A secret where a credential, or nothing of the kind, should be. */
async function misplace({ table, operation }: Asking): Promise<void> {
  const right = rightQuestion({ table, operation })
  const garbage = table.headers(operation, MISPLACED.token)
  await ask({ ...right, headers: Object.entries(garbage) })
  await ask({ ...right, headers: [...(right.headers ?? []), ['cookie', `session=${MISPLACED.cookie}`]] })
  await ask({
    ...right,
    headers: [...(right.headers ?? []), ['authorization', `Basic ${MISPLACED.basic}`]],
  })
}

test('a field named like a secret says that it is one', () => {
  for (const { table, operations } of swept)
    for (const operation of operations)
      for (const { path, schema } of secretFieldsOf(table, operation))
        assert.ok(isMarked(schema), `${table.name} ${operation.key} ${path} is not writeOnly`)
})

test('a secret is taken in every field that holds one', async (t) => {
  for (const { table, operations } of swept)
    for (const operation of operations)
      for (const { path } of secretFieldsOf(table, operation)) await plant({ table, operation }, path)
  const { items } = (await hands.native('GET', '/kinds')).body as {
    items: { name: string; secret: string[] }[]
  }
  for (const { name, secret } of items)
    for (const field of secret) {
      if (TABLES.some((it) => it.madeSecrets?.includes(`${name} ${field}`))) continue
      const derived = TABLES.map((it) => it.derivedSecrets?.[`${name} ${field}`]).find(
        (it) => it !== undefined,
      )
      const at = `native POST /${name} ${derived ?? `spec.${field}`}`
      assert.ok(planted.has(at), `the kind ${name} has a secret ${field}, and nothing was planted at ${at}`)
    }
  t.diagnostic(`${planted.size} secret fields: ${[...planted].join(', ')}`)
})

test('secrets are tried where they do not belong', async () => {
  for (const { table, operations } of swept)
    for (const operation of operations.filter((it) => it.method === 'GET' || it.body))
      await misplace({ table, operation })
  const password = aviary.plant('a registry password in a document')
  const item = {
    kind: 'registry-credential',
    name: unique(),
    spec: { server: 'a.test', username: 'u', password },
  }
  for (const dry of ['?dryRun=true', '', ''])
    await ask({
      method: 'POST',
      path: `/native/topology${dry}`,
      headers: [
        ['authorization', `Bearer ${own.owner}`],
        ['content-type', 'application/json'],
      ],
      body: JSON.stringify({ resources: [item] }),
    })
  for (const { table, operations } of swept)
    for (const operation of operations) {
      const login = table.logins?.[operation.key]
      if (!login) continue
      const headers = [['content-type', 'application/json']] as const
      const { username, password: right } = cloud.admin
      for (const word of [right, aviary.plant('a wrong password')])
        await ask({
          method: operation.method,
          path: `/${table.name}${operation.path}`,
          headers,
          body: JSON.stringify(login(username, word)),
        })
    }
})

test('no answer shows one, to nobody', async () => {
  const before = heard.length
  for (const { table, operations } of swept)
    for (const operation of operations.filter((it) => it.method === 'GET')) {
      await ask(rightQuestion({ table, operation }))
      const { token, socketPath } = ownOf(table, stranger)
      const how = { known: table.known(ownerOf(table), token), unique: unique(), token, socketPath }
      const by = socketPath === undefined ? {} : { by: stranger.tenant.name }
      await ask(questionFor(table, operation, how), { stranger: true, ...by })
      if (!operation.parameters.some((it) => it.name === 'watch' || it.name === 'after')) continue
      await ask(withQuery(rightQuestion({ table, operation }), 'after=0'))
      await ask(withQuery(rightQuestion({ table, operation }), 'watch=true'))
    }
  for (const stream of ['audit', 'event', 'usage']) {
    const { text } = await hands.native('GET', `/records/${stream}?limit=1000`)
    heard.push({ what: `records of ${stream}`, text, stranger: true })
  }
  for (const path of ['/metrics', '/docs/native', '/docs/circloud', '/version'])
    heard.push({ what: path, text: (await asker.ask({ method: 'GET', path })).text, stranger: true })
  assert.ok(heard.length > before + 50)
  for (const it of heard)
    assert.deepEqual(
      aviary
        .foundIn(it.text, { shown: it.stranger })
        .filter((label) => it.by === undefined || !label.startsWith(toldTo(it.by))),
      [],
      `${it.what}: ${it.text.slice(0, 500)}`,
    )
})

test('a workload is told the secrets that are for it', () => {
  const told = heard.filter((it) => it.by === inner.tenant.name).flatMap((it) => aviary.foundIn(it.text))
  for (const what of ["an integration's key", "a variable's secret"])
    assert.ok(told.includes(`${toldTo(inner.tenant.name)}${what}`), what)
})

test('no line of a log has one', () => {
  const said = cloud.said()
  assert.match(said, /"message":"request"/, 'the log is the whole one')
  assert.deepEqual(aviary.foundIn(said), [])
})

function searchFiles(): void {
  const files = filesOf(data)
  assert.ok(
    files.some(({ bytes }) => bytes.includes(own.tenant.name)),
    'the database is among the files',
  )
  for (const { path, bytes } of files) {
    const found = aviary.foundIn(bytes, { shown: false })
    const allowed = path.endsWith(MAY_HOLD_ADMIN) ? /^the administrator's / : /^$/
    assert.deepEqual(
      found.filter((it) => !allowed.test(it)),
      [],
      path,
    )
  }
  const { mode } = statSync(join(data, MAY_HOLD_ADMIN))
  assert.equal(mode & 0o077, 0, `${MAY_HOLD_ADMIN} is its owner's alone`)
}

test('no file has one', searchFiles)

test('no process shows one in its arguments or environment', () => {
  const all = processes()
  assert.ok(all.some((it) => it.pid === cloud.pid))
  for (const { pid, command, environment } of all)
    assert.deepEqual(aviary.foundIn(Buffer.concat([command, environment])), [], `process ${pid}`)
})

test('a crash and the start after it leave none behind', async () => {
  await cloud.end('SIGABRT')
  assert.deepEqual(aviary.foundIn(cloud.said()), [])
  searchFiles()
  await using again = await startProcess(data)
  using other = openAsker(again.url)
  const headers = [['authorization', `Bearer ${own.owner}`]] as const
  assert.equal((await other.ask({ method: 'GET', path: '/native/whoami', headers })).status, 200)
  await again.end('SIGTERM')
  assert.deepEqual(aviary.foundIn(again.said()), [])
  searchFiles()
})
