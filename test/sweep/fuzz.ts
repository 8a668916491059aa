import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { after, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import fc from 'fast-check'
import { twists, twisted } from './arbitrary.ts'
import type { Answer, Question } from './ask.ts'
import { type Known, ownOf, type SweptDialect } from './dialect.ts'
import { fieldsOf, type Operation } from './document.ts'
import { fits, INTERNAL, judge, seenAs } from './judge.ts'
import { bodyText, headers, piece, query } from './mangle.ts'
import { bodyFor, pathFor, questionFor } from './request.ts'
import { type Seeded, sweepWorld } from './world.ts'

// What the documents allow, bent: whatever is sent, an answer is one of the dialect's own and never a fault of ours; what
// is refused changes nothing, what succeeds is as the document says and touches nobody else's.

const SOAK = process.env['ARCUS_SOAK'] === '1'
const SEED = Number(process.env['ARCUS_SEED'] ?? (SOAK ? Date.now() % 2 ** 31 : 20260105))
const RUNS_EACH = Number(process.env['ARCUS_RUNS'] ?? (SOAK ? 150 : 8))
const PATH_RUNS = SOAK ? 5000 : 300
/** Less than this and the checks behind the first are hardly met. */
const GOOD_SHARE_MIN = 0.25
const RAW_MS_MAX = 2000
const WHO = ['entitled', 'entitled', 'entitled', 'entitled', 'another', 'viewer', 'nobody'] as const

console.log(
  `fuzz: seed ${SEED}, ${RUNS_EACH} runs of each operation; again: ARCUS_SEED=${SEED} ARCUS_RUNS=${RUNS_EACH} node --test test/sweep/fuzz*.test.ts`,
)
const world = await sweepWorld()
after(async () => await world[Symbol.asyncDispose]())
const victim = await world.seed()
const attacker = await world.seed()

const tally = new Map<string, { good: number; all: number }>()
function count(name: string, isSuccess: boolean): void {
  const { good, all } = tally.get(name) ?? { good: 0, all: 0 }
  tally.set(name, { good: good + Number(isSuccess), all: all + 1 })
}

type Run = {
  readonly who: (typeof WHO)[number]
  readonly question: Question
}
type Plan = { readonly own: Seeded; readonly table: SweptDialect; readonly operation: Operation }

/** Whose token, and whose things are named: another tenant asks for the victim's. */
function callerOf({ own, table, operation }: Plan, who: Run['who']) {
  const need = table.need(operation)
  const admin = need === 'operate' || need === 'hidden'
  switch (who) {
    case 'entitled':
      return { ...(admin ? { token: world.admin } : ownOf(table, own)), of: own, inTenant: admin }
    case 'another':
      return { ...ownOf(table, attacker), of: victim, inTenant: false }
    case 'viewer':
      return { ...ownOf(table, own), token: own.viewer, of: own, inTenant: false }
    case 'nobody':
      return { ...ownOf(table, own), token: undefined, of: own, inTenant: false }
  }
}

function runs(plan: Plan): fc.Arbitrary<Run> {
  const { table, operation } = plan
  const places = operation.parameters.filter((it) => it.in === 'path').map((it) => it.name)
  const bend = fc.record({
    who: fc.constantFrom(...WHO),
    body: twists(fieldsOf(operation.body)),
    text: bodyText(),
    head: headers(),
    place: fc.option(fc.tuple(fc.constantFrom('', ...places), piece()), { freq: 4 }),
    search: fc.option(query(operation), { freq: 3 }),
  })
  return bend.map(({ who, body, text, head, place, search }) => {
    const { token, socketPath, of, inTenant } = callerOf(plan, who)
    const known: Known = table.known(of, token ?? '')
    const unique = world.unique()
    const right = questionFor(table, operation, {
      known,
      unique,
      token,
      socketPath,
      ...(inTenant && table.inTenant ? { headers: table.inTenant(of.tenant.id) } : {}),
    })
    const [plain = ''] = pathFor(table, operation, known).split('?')
    const path =
      place && place[0] !== ''
        ? pathFor(table, { ...operation, path: operation.path.replace(`{${place[0]}}`, '\u0001') }, known)
            .split('?')[0]
            ?.replace('\u0001', place[1])
        : plain
    const good = bodyFor(table, operation, known, unique)
    const json = good === undefined ? undefined : JSON.stringify(twisted(good, body))
    const asked = right.path.split('?')[1]
    const parameters = search ?? asked
    return {
      who,
      question: {
        ...right,
        path: `${path}${parameters === undefined || parameters === null ? '' : `?${parameters}`}`,
        headers: head(right.headers ?? []),
        ...(json === undefined ? {} : { body: text(json) }),
      },
    }
  })
}

const brief = ({ method, path, headers: sent = [], body = '' }: Question): string =>
  `${method} ${path} ${JSON.stringify(sent)} ${body.toString().slice(0, 1500)}`

const isGood = ({ status, body }: Answer): boolean =>
  status < 400 && !(status === 101 && Object.hasOwn((body as object | undefined) ?? {}, 'error'))

async function runOne({ table, operation }: Plan, { who, question }: Run): Promise<boolean> {
  const state = await world.mark()
  const answer = await world.asker.ask(question)
  const what = brief(question)
  judge(table, operation, answer, what)
  const need = table.need(operation)
  const good = isGood(answer)
  if (who === 'nobody' && need !== 'open') assert.ok(!good, seenAs(what, answer))
  if (who === 'viewer' && need !== 'read' && need !== 'open' && need !== 'self')
    assert.ok(!good, seenAs(what, answer))
  const dry = /[?&]dryRun=true(&|$)/.test(question.path)
  if (!good || dry || operation.method === 'GET')
    if (!table.sockets?.includes(operation.key))
      assert.equal(await world.mark(), state, `${seenAs(what, answer)}, and changed something`)
  return good && who === 'entitled'
}

/** Bends what is sent to each operation of the dialects that are this part's: a file of tests each, so that they run side by side. */
export function fuzzOperations(isPart: (dialect: string) => boolean): void {
  for (const { table, operations } of world.dialects.filter((it) => isPart(it.table.name)))
    for (const operation of operations)
      test(`${table.name}: ${operation.key} takes what it should and refuses the rest`, async () => {
        const own = await world.seed()
        const plan = { own, table, operation }
        const theirs = await world.everythingOf(victim.tenant.id)
        await fc.assert(
          fc.asyncProperty(runs(plan), async (run) => {
            const isSuccess = await runOne(plan, run)
            if (run.who === 'entitled') count(table.name, isSuccess)
          }),
          { numRuns: RUNS_EACH, seed: SEED, endOnFailure: true },
        )
        assert.equal(await world.everythingOf(victim.tenant.id), theirs, 'nothing of another tenant changed')
      })

  test('a good part of what was sent was right', () => {
    for (const [name, { good, all }] of tally)
      assert.ok(good > all * GOOD_SHARE_MIN, `${name}: ${good} of ${all} of those who may had success`)
  })

  test('nothing was a bug', () => {
    assert.deepEqual(world.bugs, [])
  })
}

/** What belongs to no operation: paths that are nowhere, and what is no HTTP. */
export function fuzzServer(): void {
  test('no path and no method makes a bug of it', async () => {
    const names = world.dialects.map(({ table }) => table)
    const words = world.dialects.flatMap(({ operations }) =>
      operations.flatMap((it) => it.path.split('/').filter((part) => part !== '' && !part.startsWith('{'))),
    )
    const segment = fc.oneof(piece(), fc.constantFrom(...words, ...Object.values(victim.ids)))
    const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE', 'PROPFIND', 'LINK']
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...names),
        fc.constantFrom(...methods),
        fc.array(segment, { maxLength: 5 }),
        async (table, method, segments) => {
          const { socketPath } = ownOf(table, victim)
          const path = `${table.inside ? '' : `/${table.name}`}/${segments.join('/')}`
          const state = await world.mark()
          const answer = await world.asker.ask({
            ...(socketPath === undefined ? {} : { socketPath }),
            method,
            path,
            headers: [['content-type', 'application/json']],
          })
          const at = seenAs(`${method} ${path}`, answer)
          assert.ok(answer.status < 500, at)
          if (answer.status >= 400 && method !== 'HEAD') fits(table.refusal, answer.body, at)
          assert.equal(await world.mark(), state, at)
        },
      ),
      { numRuns: PATH_RUNS, seed: SEED, endOnFailure: true },
    )
  })

  test('what is no HTTP is refused in plain words', async () => {
    const { port, hostname } = new URL(world.url)
    const long = 'a'.repeat(20_000)
    const messages = [
      `GET /native/${long} HTTP/1.1\r\nhost: a\r\n\r\n`,
      `GET /native/vpc HTTP/1.1\r\nhost: a\r\nx-long: ${long}\r\n\r\n`,
      `GET /native/vpc HTTP/1.1\r\n${'a: b\r\n'.repeat(3000)}\r\n`,
      'GET /native/a b HTTP/1.1\r\nhost: a\r\n\r\n',
      'GET /native/vpc HTTP/9.9\r\nhost: a\r\n\r\n',
      'POST /native/login HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n{}',
      'POST /native/login HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n{}',
      'POST /native/login HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n{}',
      'POST /native/login HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n{}',
      'GET /native/vpc HTTP/1.1\r\nhost: a\r\nx: \0\r\n\r\n',
      '\0\0\0\0\r\n\r\n',
    ]
    for (const message of messages) {
      const socket = connect(Number(port), hostname)
      const chunks: Buffer[] = []
      socket.on('data', (chunk: Buffer) => chunks.push(chunk)).on('error', () => {})
      socket.write(message)
      await Promise.race([once(socket, 'close'), pause(RAW_MS_MAX)])
      socket.destroy()
      const text = Buffer.concat(chunks).toString('utf8')
      assert.match(text, /^HTTP\/1\.1 4\d\d /, `${message.slice(0, 100)}: ${text.slice(0, 300)}`)
      assert.doesNotMatch(text, INTERNAL, message.slice(0, 100))
    }
  })
}
