import assert from 'node:assert/strict'
import { after, test } from 'node:test'
import { tenant as tenantKind } from '#cloud/identity/tenant.kind.ts'
import { DIALECTS } from '#apis/dialects.ts'
import { createHttp, type Dialect } from '#apis/http.ts'
import { openOwnSockets } from '#apis/own-sockets.testing.ts'
import { createIds } from '#lib/ids.ts'
import { silentLog } from '#lib/log.ts'
import { type Answer, openAsker } from './ask.ts'
import { ownOf, type SweptDialect } from './dialect.ts'
import type { Operation } from './document.ts'
import { seenAs } from './judge.ts'
import { questionFor } from './request.ts'
import { type Seeded, sweepWorld } from './world.ts'

// Every operation whose answer may be remembered, asked of a server that remembers and of one beside it, over the same cloud,
// that does not: whoever asks, and whatever happened meanwhile, both say the same.

/** Asked so often, the last answer comes from memory. */
const TIMES = 3
const LATER_MS = 40 * 86_400_000

const world = await sweepWorld()
after(async () => await world[Symbol.asyncDispose]())
const marked = new Set<string>()
/** The dialect, with its routes noted that may be remembered. */
const noted = (it: Dialect): Dialect => ({
  ...it,
  async register(app, cloud, mount) {
    app.addHook('onRoute', ({ config, url }) => {
      if (config?.remembered) marked.add(url)
    })
    await it.register(app, cloud, mount)
  },
})
const plain = await createHttp({
  cloud: world.it.cloud,
  dialects: DIALECTS.map(noted),
  log: silentLog,
  clock: world.it.clock,
  ids: createIds(world.it.clock),
  limits: { rememberedBytesMax: 0 },
})
const sockets = await openOwnSockets(plain)
const { url } = await plain.listen({ host: '127.0.0.1', port: 0 })
const plainly = openAsker(url)
after(async () => {
  plainly[Symbol.dispose]()
  await sockets[Symbol.asyncDispose]()
  await plain.close()
})
const [own, other] = [await world.seed(), await world.seed()]

const routeOf = (table: SweptDialect, { path }: Operation): string =>
  `/${table.name}${path.replace(/\{(\w+)\}/g, ':$1')}`

async function hits(of: string): Promise<number> {
  const { text } = await (of === url ? plainly : world.asker).ask({ method: 'GET', path: '/metrics' })
  return Number(/^arcus_http_remembered_total (\d+)$/m.exec(text)?.[1])
}

/** Without what is of the connection or the moment it was sent at. */
const comparable = ({ status, text, headers }: Answer): object => {
  const { date: _date, connection: _connection, 'keep-alive': _keep, ...rest } = headers
  return { status, text, headers: rest }
}

let asked = 0

type Caller = { readonly token: string | undefined; readonly headers?: Readonly<Record<string, string>> }

/** One request to both servers, which must answer alike; gives what they said. */
async function alike(table: SweptDialect, operation: Operation, by: Caller): Promise<Answer> {
  const id = `asked-${asked++}`
  const question = questionFor(table, operation, {
    known: table.known(own, by.token ?? ''),
    unique: 'x',
    token: by.token,
    socketPath: ownOf(table, own).socketPath,
    headers: { ...by.headers, 'x-request-id': id },
  })
  const answer = await world.asker.ask(question)
  const there = table.inside ? { socketPath: await sockets.of(own.ids['replica'] ?? '') } : {}
  const fresh = await plainly.ask({ ...question, ...there })
  assert.deepEqual(comparable(answer), comparable(fresh), operation.key)
  return answer
}

/** Who may ask, and then everybody else with the same path: they must not profit from it. */
function callersOf(table: SweptDialect, operation: Operation, of: Seeded): Caller[] {
  const need = table.need(operation)
  const admin = { token: world.admin, ...(table.inTenant ? { headers: table.inTenant(of.tenant.id) } : {}) }
  const owner = { token: ownOf(table, of).token }
  const others = [of.viewer, of.denied, other.owner, other.instance.token, undefined].map((token) => ({
    token,
  }))
  return need === 'operate' || need === 'hidden' ? [admin, owner, ...others] : [owner, admin, ...others]
}

for (const { table, operations } of world.dialects)
  for (const operation of operations.filter((it) => it.method === 'GET' && marked.has(routeOf(table, it))))
    test(`${table.name}: ${operation.key} is remembered as long as it is so`, async () => {
      await table.before?.[operation.key]?.(world.hands, own)
      const callers = callersOf(table, operation, own)
      const [first] = callers
      assert.ok(first)
      const everybody = async (): Promise<void> => {
        for (const by of callers)
          for (let count = 0; count < TIMES; count++) await alike(table, operation, by)
      }
      await everybody()
      const before = await hits(world.url)
      const answer = await alike(table, operation, first)
      assert.equal(answer.status, 200, seenAs(operation.key, answer))
      assert.equal(await hits(world.url), before + 1, `${operation.key} is not remembered`)
      await world.it.clock.advance(LATER_MS)
      await everybody()
      await world.act(
        world.it.admin,
        'sweep',
        async (verbs) => await verbs.patch(tenantKind, own.tenant.id, { labels: { asked: String(asked) } }),
      )
      await everybody()
      marked.delete(routeOf(table, operation))
    })

test('every route that may be remembered was asked', async () => {
  assert.deepEqual([...marked], [])
  assert.equal(await hits(url), 0, 'the other server remembers too')
})

test('nothing was a bug', () => {
  assert.deepEqual(world.bugs, [])
})
