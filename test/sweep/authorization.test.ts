import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, test } from 'node:test'
import { tenant as tenantKind } from '#cloud/identity/tenant.kind.ts'
import { objectId } from '#lib/object-id.ts'
import type { Answer } from './ask.ts'
import { type Known, ownOf, type SweptDialect } from './dialect.ts'
import { type Operation, operationsOf, type OpenApi } from './document.ts'
import { fits, judge, seenAs, withoutNames } from './judge.ts'
import { questionFor } from './request.ts'
import { type Seeded, sweepWorld } from './world.ts'

// Every operation of every dialect, asked by everybody who must not have it, and then by somebody who may: without the
// last a refusal would prove nothing.

const NOBODY = '0190aaaa-bbbb-7ccc-8ddd-eeeeffff0000'
const NO_NAME = 'nothing-is-named-so'

const world = await sweepWorld()
after(async () => await world[Symbol.asyncDispose]())
const before = JSON.parse(await world.mark()) as { cursor: string }
const victim = await world.seed()
const attacker = await world.seed()
const suspended = await world.seed()
await world.act(
  world.it.admin,
  'seed',
  async (verbs) => await verbs.patch(tenantKind, suspended.tenant.id, { spec: { suspended: true } }),
)
const strangers = await world.strangers()
const covered = new Map(world.dialects.map(({ table }) => [table.name, new Set<string>()]))

const isRefusal = ({ status, body }: Answer): boolean =>
  status >= 400 || (status === 101 && Object.hasOwn((body as object | undefined) ?? {}, 'error'))

type Sweep = {
  readonly table: SweptDialect
  readonly operation: Operation
  ask(
    token: string | undefined,
    of: Seeded,
    how?: { known?: Known; headers?: Record<string, string>; unique?: string },
  ): Promise<Answer>
}

function sweepOf(table: SweptDialect, operation: Operation): Sweep {
  return {
    table,
    operation,
    ask: async (token, of, { known, headers, unique } = {}) => {
      const question = questionFor(table, operation, {
        known: known ?? table.known(of, token ?? ''),
        unique: unique ?? world.unique(),
        token,
        socketPath: ownOf(table, of).socketPath,
        ...(headers ? { headers } : {}),
      })
      const answer = await world.asker.ask(question)
      judge(table, operation, answer, `${question.method} ${question.path}`)
      return answer
    },
  }
}

/** Asserts a refusal with one of these statuses; one that came in a frame of a socket has the status of no answer. */
function refused(
  { table, operation }: Sweep,
  answer: Answer,
  statuses: readonly number[],
  who: string,
): void {
  const at = seenAs(`${operation.key} asked by ${who}`, answer)
  assert.ok(isRefusal(answer), at)
  if (answer.status === 101) fits(table.refusal, answer.body, at)
  else assert.ok(statuses.includes(answer.status), `${at}, not ${statuses.join(' or ')}`)
}

/** Nobody, and those whose credential is none (any more). */
async function withoutCredential(sweep: Sweep): Promise<void> {
  const { unauthenticated, forbidden } = sweep.table.statuses
  refused(sweep, await sweep.ask(undefined, victim), [unauthenticated], 'nobody')
  for (const [who, token] of Object.entries(strangers)) {
    const statuses = who === 'workload' ? [unauthenticated, forbidden] : [unauthenticated]
    refused(sweep, await sweep.ask(token, victim), statuses, `a credential that is ${who}`)
  }
}

/** Whom a dialect of workloads knows nothing of, also at the socket of one that may: users, and other replicas. */
async function withoutSocket(sweep: Sweep): Promise<void> {
  const { unauthenticated } = sweep.table.statuses
  const callers = {
    owner: victim.owner,
    viewer: victim.viewer,
    admin: world.admin,
    other: attacker.instance.token,
  }
  for (const [who, token] of Object.entries(callers))
    refused(sweep, await sweep.ask(token, victim), [unauthenticated], `at the socket of another, ${who}`)
  const { operation, table } = sweep
  const how = { known: table.known(victim, ''), unique: 'x', token: victim.instance.token }
  const question = questionFor(table, operation, how)
  const { status } = await world.asker.ask({ ...question, path: `/${table.name}${question.path}` })
  assert.equal(status, 404, `${operation.key} by an address`)
}

/** Those of the right tenant who have too few rights, or whose tenant is suspended. */
async function withoutRight(sweep: Sweep): Promise<void> {
  const { table, operation } = sweep
  const need = table.need(operation)
  if (need === 'self') return
  const { forbidden, foreign } = table.statuses
  const callers = [
    ['a viewer', victim.viewer, victim],
    ['an editor', victim.editor, victim],
    ['an owner', victim.owner, victim],
    ['an owner of a suspended tenant', suspended.owner, suspended],
  ] as const
  for (const [who, token, of] of callers) {
    const mayWrite = who === 'an editor' || who === 'an owner'
    if (need === 'read' || (need === 'write' && mayWrite) || (need === 'own' && who === 'an owner')) {
      if (need !== 'read') continue
      const answer = await sweep.ask(token, of)
      assert.ok(!isRefusal(answer), seenAs(`${operation.key} asked by ${who}`, answer))
      continue
    }
    const answer = await sweep.ask(token, of)
    refused(sweep, answer, need === 'hidden' ? foreign : [forbidden], who)
    if (of === suspended && (need === 'write' || need === 'own'))
      assert.match(answer.text, /suspended/, `${operation.key} says why`)
  }
}

/** Those whom a policy denies it, although they own the tenant: every operation asks the same decision. */
async function denied(sweep: Sweep): Promise<void> {
  const { table, operation } = sweep
  if (table.undeniable?.includes(operation.key)) return
  const { forbidden, foreign } = table.statuses
  const statuses = table.need(operation) === 'hidden' ? [forbidden, ...foreign] : [forbidden]
  refused(sweep, await sweep.ask(victim.denied, victim), statuses, 'one whom a policy denies everything')
}

/** A name of the same form that nothing has. */
const absentFor = (value: string): string => {
  if (/^[0-9a-f]{24}$/.test(value)) return objectId(NOBODY)
  return value.length === NOBODY.length ? NOBODY : NO_NAME
}

/** Another tenant's things: they are as if they were not there. */
async function ofAnother(sweep: Sweep): Promise<void> {
  const { table, operation } = sweep
  const { foreign, forbidden } = table.statuses
  const hidden = table.need(operation) === 'operate' ? [forbidden, ...foreign] : foreign
  const { token } = ownOf(table, attacker)
  const own = table.known(attacker, token)
  const theirs = table.known(victim, token)
  const bare = (known: Known): string =>
    JSON.stringify(questionFor(table, operation, { known, unique: 'x', token: 'x' }))
  for (const [name, value] of Object.entries(theirs)) {
    if (bare({ ...own, [name]: value }) === bare(own)) continue
    const absent = absentFor(value)
    const unique = world.unique()
    const answer = await sweep.ask(token, attacker, { known: { ...own, [name]: value }, unique })
    const nothing = await sweep.ask(token, attacker, { known: { ...own, [name]: absent }, unique })
    refused(sweep, answer, hidden, `another tenant, with its ${name}`)
    assert.equal(
      withoutNames(answer, [value]),
      withoutNames(nothing, [absent]),
      `${operation.key} tells another tenant's ${name} from what does not exist`,
    )
  }
  if (!table.inTenant) return
  for (const [there, absent] of [
    [victim.tenant.id, NOBODY],
    [victim.tenant.name, NO_NAME],
  ] as const) {
    const answer = await sweep.ask(attacker.owner, victim, { headers: table.inTenant(there) })
    const nothing = await sweep.ask(attacker.owner, victim, { headers: table.inTenant(absent) })
    refused(sweep, answer, foreign, 'another tenant that names this one')
    assert.equal(withoutNames(answer, [there]), withoutNames(nothing, [absent]), operation.key)
  }
}

/** What another tenant may ask without naming anything shows nothing of this one. */
async function showsNothing(sweep: Sweep): Promise<void> {
  const { operation } = sweep
  if (sweep.table.need(operation) !== 'read') return
  const hasAfter = operation.parameters.some((it) => it.in === 'query' && it.name === 'after')
  const queries = hasAfter && /watch/.test(operation.path) ? `after=${before.cursor}` : ''
  const question = questionFor(sweep.table, operation, {
    known: sweep.table.known(attacker, attacker.owner),
    unique: world.unique(),
    ...ownOf(sweep.table, attacker),
  })
  const path = queries === '' ? question.path : `${question.path}?${queries}`
  const { text } = await world.asker.ask({ ...question, path })
  if (queries !== '') assert.ok(text.includes(attacker.ids['vpc'] ?? '-'), `${operation.key} shows its own`)
  const ids = Object.values(victim.ids)
  for (const id of [...ids, ...ids.map(objectId), victim.tenant.name, victim.owner, victim.instance.token])
    assert.ok(!text.includes(id), `${operation.key} shows ${id} to another tenant: ${text.slice(0, 500)}`)
}

/** Somebody who may, so that the refusals before are known to be for who asked. */
async function entitled(sweep: Sweep): Promise<void> {
  const { table, operation } = sweep
  const need = table.need(operation)
  const of = await world.seed()
  await table.before?.[operation.key]?.(world.hands, of)
  const admin = need === 'operate' || need === 'hidden'
  const token = admin ? world.admin : ownOf(table, of).token
  const headers = admin ? table.inTenant?.(of.tenant.id) : undefined
  const answer = await sweep.ask(token, of, headers ? { headers } : {})
  const at = seenAs(`${operation.key} asked by one who may`, answer)
  const expected = table.always?.[operation.key]
  if (expected !== undefined) assert.equal(answer.status, expected, at)
  else assert.ok(!isRefusal(answer), at)
}

for (const { table, operations } of world.dialects)
  for (const operation of operations)
    test(`${table.name}: ${operation.key} is for those alone who may`, async () => {
      const sweep = sweepOf(table, operation)
      const open = table.need(operation) === 'open'
      const state = await world.mark()
      const theirs = await world.everythingOf(victim.tenant.id)
      // What is open to all may change something of theirs, such as an account that somebody makes.
      const isDone = open && !isRefusal(await sweep.ask(undefined, victim))
      if (!open) {
        await withoutCredential(sweep)
        if (table.inside) await withoutSocket(sweep)
        else {
          await withoutRight(sweep)
          await denied(sweep)
        }
        await ofAnother(sweep)
        await showsNothing(sweep)
      }
      if (!isDone)
        assert.equal(await world.mark(), state, `${operation.key} changed something while it was refused`)
      assert.equal(await world.everythingOf(victim.tenant.id), theirs)
      if (!open) await entitled(sweep)
      covered.get(table.name)?.add(operation.key)
    })

test('every operation of a contract is served', () => {
  for (const { table, operations } of world.dialects) {
    if (!table.contract) continue
    const { file, except } = table.contract
    const served = operations.map((it) => it.key)
    for (const operation of operationsOf(JSON.parse(readFileSync(file, 'utf8')) as OpenApi))
      if (!except(operation)) assert.ok(served.includes(operation.key), `${table.name}: ${operation.key}`)
  }
})

// The ratchet: operations without an authorization test, by dialect. It may only shrink.
test('uncovered.json lists exactly the operations that nobody tried to misuse', () => {
  const listed = JSON.parse(readFileSync(new URL('uncovered.json', import.meta.url), 'utf8')) as object
  const uncovered = Object.fromEntries(
    world.dialects.map(({ table, operations }) => [
      table.name,
      operations.map((it) => it.key).filter((key) => !covered.get(table.name)?.has(key)),
    ]),
  )
  assert.deepEqual(listed, uncovered)
})

test('nothing was a bug', () => {
  assert.deepEqual(world.bugs, [])
})
