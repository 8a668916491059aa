import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  appendFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { isCloudError } from '#lib/errors.ts'
import { jsonLog, silentLog } from '#lib/log.ts'
import { keyOf } from './resource.ts'
import { copyDatabase } from './store.sqlite.copy.ts'
import { storeConformance } from './store.conformance.ts'
import { newMoment } from './store.sqlite.recall.ts'
import { openSqliteStore, type SqliteOptions } from './store.sqlite.ts'
import { openWriter, type Request as Ask } from './store.sqlite.writer.ts'
import type { Mutation, Store, StoredResource } from './store.ts'
import { claim, create, edit, leaseOn, mark, newId, refused, removeNow, toy, until } from './store.testing.ts'

const MIGRATIONS = fileURLToPath(new URL('./migrations', import.meta.url))
const CRASHING = fileURLToPath(new URL('./store.crash.testing.ts', import.meta.url))

function folder(): { path: string } & Disposable {
  const path = mkdtempSync(join(tmpdir(), 'arcus-store-'))
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true }) }
}
const open = (directory: string, more: Partial<SqliteOptions> = {}) =>
  openSqliteStore({ directory, log: silentLog, ...more })

for (const [name, simulated] of [
  ['sqlite', false],
  ['sqlite in one thread', true],
] as const)
  storeConformance(name, async (how = {}): Promise<Store> => {
    const directory = folder()
    const store = await open(directory.path, { ...how, simulated })
    return {
      ...store,
      async [Symbol.asyncDispose]() {
        await store[Symbol.asyncDispose]()
        directory[Symbol.dispose]()
      },
    }
  })

test('a second opener is told who holds the folder, and gets it when that one closed', async () => {
  using directory = folder()
  const first = await open(directory.path)
  const error = await refused(open(directory.path), 'unavailable')
  assert.match(error.message, new RegExp(`in use by process ${process.pid};`))
  await first[Symbol.asyncDispose]()
  await using again = await open(directory.path)
  assert.equal((await again.stats()).resources, 0)
  for (const name of ['', 'arcus.sqlite', 'arcus.sqlite-wal'])
    assert.equal(statSync(join(directory.path, name)).mode & 0o077, 0, name)
})

test('everything is there after a restart', async () => {
  using directory = folder()
  const one = toy({ labels: { a: 'b' } })
  const before = await open(directory.path)
  await before.commit([create(one, { terms: ['t:1'] }), claim(one.id, { amount: 2 })])
  await before.commit([
    { do: 'pool', pool: 'names', max: 7 },
    { do: 'guard', name: 'g', seen: 0 },
  ])
  const { cursor } = await before.changes(undefined, 1)
  const lease = await leaseOn(before, keyOf(one))
  await before[Symbol.asyncDispose]()

  await using after = await open(directory.path)
  assert.deepEqual(await after.get(one.id), one)
  assert.deepEqual(await after.pool('names'), { max: 7, used: 2 })
  assert.equal(await after.guard('g'), 1)
  assert.equal((await after.changes(undefined, 1)).cursor, cursor)
  assert.equal((await after.list({ kind: 'toy', tenant: 'acme', terms: ['t:1'] })).total, 1)
  const again = await leaseOn(after, keyOf(one))
  assert.ok(again.token > lease.token, 'a lease of the old process is worth nothing')
  await refused(after.commit([{ do: 'finish', lease, attempt: 0 }]), 'gone')
})

test('a killed writer loses nothing that was acknowledged, and its folder is free at once', async () => {
  using directory = folder()
  const acknowledged: string[] = []
  for (let round = 1; round <= 3; round++) {
    const child = spawn(process.execPath, [CRASHING, directory.path], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await readUntil(child, acknowledged, acknowledged.length + 150 * round)
    await using store = await open(directory.path)
    for (const id of acknowledged) {
      assert.ok(await store.get(id), 'an acknowledged resource')
      assert.equal((await store.claim('names', id))?.owner, id)
      assert.ok(await store.queue(`toy/${id}`))
      assert.equal(
        (await store.records({ stream: 'event', tenant: 'acme', subject: id, limit: 2 })).records.length,
        1,
      )
    }
    // What was under way may be there or not, but only whole.
    const page = await store.list({ kind: 'toy', tenant: 'acme', terms: ['written:1'], limit: 1 })
    assert.ok(page.total >= acknowledged.length)
    assert.equal((await store.claims('names')).length, page.total)
  }
})

async function readUntil(child: ChildProcess, acknowledged: string[], enough: number): Promise<void> {
  const ended = once(child, 'exit')
  const lines = createInterface({ input: child.stdout ?? process.stdin })
  for await (const line of lines) {
    if (line !== 'ready') acknowledged.push(line)
    if (acknowledged.length >= enough) child.kill('SIGKILL')
  }
  await ended
}

test('a changed, an unknown newer and a failing migration each stop the start', async () => {
  using directory = folder()
  const migrations = join(directory.path, 'migrations')
  const data = join(directory.path, 'data')
  cpSync(MIGRATIONS, migrations, { recursive: true })
  await (await open(data, { migrations }))[Symbol.asyncDispose]()

  writeFileSync(
    join(migrations, '0098-bad.sql'),
    'CREATE TABLE half (n INTEGER); CREATE TABLE half (n INTEGER)',
  )
  await assert.rejects(
    open(data, { migrations }),
    /migration 0098-bad\.sql failed: table half already exists/,
  )
  const db = new DatabaseSync(join(data, 'arcus.sqlite'))
  assert.equal(db.prepare("SELECT name FROM sqlite_schema WHERE name = 'half'").get(), undefined)
  db.close()

  writeFileSync(join(migrations, '0098-bad.sql'), 'CREATE TABLE added (n INTEGER)')
  await (await open(data, { migrations }))[Symbol.asyncDispose]()
  const newer = await refused(open(data), 'unsupported')
  assert.match(newer.message, /written by a newer version \(migration 0098-bad\.sql\)/)
  appendFileSync(join(migrations, '0098-bad.sql'), '-- edited')
  const changed = await refused(open(data, { migrations }), 'unsupported')
  assert.match(changed.message, /0098-bad\.sql is not the one that was applied/)
})

test('a folder that cannot be used is named', async () => {
  using directory = folder()
  const file = join(directory.path, 'file')
  writeFileSync(file, '')
  const error = await refused(open(join(file, 'data')), 'unavailable')
  assert.match(error.message, /data folder .*file\/data cannot be made/)
  writeFileSync(
    join(directory.path, 'arcus.sqlite'),
    'something else entirely, and long enough to have a header',
  )
  const broken = await refused(open(directory.path), 'unavailable')
  assert.match(broken.message, /arcus\.sqlite cannot be used \(file is not a database\); restore/)
})

test('a backup is a whole store, taken while writes go on', async () => {
  using directory = folder()
  mkdirSync(join(directory.path, 'copy'))
  const made = Array.from({ length: 300 }, () => toy())
  {
    await using store = await open(join(directory.path, 'data'))
    const writing = made.map((one) => store.commit([create(one)]))
    await writing[99]
    await store.backup(join(directory.path, 'copy', 'arcus.sqlite'))
    await Promise.all(writing)
  }
  await using copy = await open(join(directory.path, 'copy'))
  assert.deepEqual(await copy.get(made[99]?.id ?? ''), made[99])
  const page = await copy.list({ kind: 'toy', tenant: 'acme' })
  assert.equal(page.total, page.items.length)
})

test('what is removed leaves nothing behind', async () => {
  using directory = folder()
  {
    await using store = await open(directory.path)
    const parent = toy()
    const one = toy({ owner: parent.id })
    await store.commit([
      create(parent),
      create(one, { terms: ['a:1', 'b:2'], refs: [{ to: parent.id, onDelete: 'cascade' }] }),
      claim(one.id, { amount: 3, ends: 'removal' }),
    ])
    await store.commit([edit(one, {}, { terms: ['b:2', 'c:3'] })])
    await store.commit([mark(parent.id)])
    await removeNow(store, one)
    await removeNow(store, parent)
  }
  const db = new DatabaseSync(join(directory.path, 'arcus.sqlite'))
  const tables = ['resource', 'ref', 'tally', 'member', 'claim', 'pool', 'queue', 'record']
  for (const table of tables) assert.deepEqual(db.prepare(`SELECT * FROM ${table}`).all(), [], table)
  db.close()
})

test('lists and their counts agree with the resources, whatever was refused in between', async () => {
  using directory = folder()
  {
    await using store = await open(directory.path)
    // The same steps each time: a linear congruential generator.
    let drawn = 7
    const draw = (below: number): number => (drawn = (drawn * 1_103_515_245 + 12_345) % 2_147_483_648) % below
    const terms = (): string[] => [
      ...Array.from({ length: draw(4) }, () => `t:${draw(3)}`),
      `u:${draw(1000)}`,
    ]
    const all: StoredResource[] = []
    for (let round = 0; round < 40; round++) {
      const refusing = round % 20 < 4
      const commits = Array.from({ length: 12 }, () => {
        const old = all[draw(all.length + 1)]
        const tenant = `of ${draw(2)}`
        const fresh = toy({ tenant, kind: draw(2) ? 'toy' : 'note' })
        const [first, ...rest] = [
          create(fresh, { terms: terms() }),
          ...(old && draw(2) ? [mark(old.id)] : []),
          ...(old && draw(2) ? [edit(old, {}, { terms: terms() })] : []),
          ...(refusing && draw(3) === 0 ? [mark(newId())] : []),
        ]
        const dryRun = draw(6) === 0
        return store.commit(first ? [first, ...rest] : [], { dryRun }).then(
          () => dryRun || all.push(fresh),
          () => {},
        )
      })
      await Promise.all(commits)
      const gone = all.splice(draw(all.length), 1)
      for (const it of gone) {
        await store.commit([mark(it.id)])
        await removeNow(store, it)
      }
      // Only what is still as it was made can be changed above.
      for (const [at, it] of all.entries()) all[at] = (await store.get(it.id)) ?? it
    }
    assert.ok(all.length > 100, `${all.length} left`)
  }
  const db = new DatabaseSync(join(directory.path, 'arcus.sqlite'))
  const wrong = db.prepare(`
    WITH listed AS (
      SELECT r.id, r.kind, s.value AS scope, t.value AS term, r.deleted_at IS NULL AS live
      FROM resource r, json_each(json_array(r.tenant, '*')) s,
        json_each(json_insert(r.terms, '$[#]', '')) t)
    SELECT kind, scope, term, count(*) AS total, sum(live) AS live FROM listed GROUP BY 1, 2, 3
    EXCEPT SELECT kind, scope, term, total, live FROM tally`)
  assert.deepEqual(wrong.all(), [])
  const counted = (sql: string): unknown => (db.prepare(sql).get() as { n: unknown }).n
  assert.equal(counted('SELECT count(*) AS n FROM tally WHERE total < 1 OR live < 0'), 0)
  assert.equal(
    counted('SELECT count(*) AS n FROM member'),
    counted('SELECT sum(total) AS n FROM tally'),
    'members',
  )
  assert.equal(
    counted(`SELECT count(*) AS n FROM member m JOIN tally t ON t.n = m.tally JOIN resource r ON r.id = m.id
      WHERE r.kind = t.kind AND t.scope IN (r.tenant, '*')
        AND (t.term = '' OR t.term IN (SELECT value FROM json_each(r.terms)))`),
    counted('SELECT count(*) AS n FROM member'),
    'each in its own lists',
  )
  db.close()
})

test('commits that wait together share a batch', async () => {
  using directory = folder()
  await using store = await open(directory.path)
  await Promise.all(Array.from({ length: 200 }, () => store.commit([create(toy())])))
  const { commits, batches } = await store.stats()
  assert.equal(commits, 200)
  assert.ok(batches <= 20, `${batches} batches`)
})

test('what is recalled by names holds until something of them changes', async () => {
  using directory = folder()
  await using store = await open(directory.path)
  const [seen, other] = [toy({ kind: 'seen' }), toy({ kind: 'other' })]
  const recall = store.recall<{ n: number }>(['seen', 'held'])
  let reads = 0
  const ask = async () => (await recall('a', async () => await Promise.resolve({ n: ++reads })))?.n
  const held = { pool: 'held:acme', value: 'web' } as const
  const release = { do: 'release', ...held, owner: other.id } as const
  const lease = await leaseOn(store, keyOf(seen))
  const { id, revision, version } = seen
  const status: Mutation = { do: 'status', id, lease, version, status: {}, observed: 1, terms: [] }
  const upgrade: Mutation = { do: 'upgrade', id, revision: revision + 1, version: 2, spec: {}, status: {} }
  const changes: readonly (readonly [Mutation, 'kept' | 'forgotten'])[] = [
    [create(seen), 'forgotten'],
    [create(other), 'kept'],
    [status, 'forgotten'],
    [upgrade, 'forgotten'],
    [edit(other, { spec: { size: 2 } }), 'kept'],
    [edit({ ...seen, version: 2 }, { spec: { size: 2 } }), 'forgotten'],
    [claim(other.id, { pool: 'names:acme' }), 'kept'],
    [claim(other.id, held), 'forgotten'],
    [release, 'forgotten'],
    [claim(other.id, held), 'forgotten'],
    [mark(other.id), 'forgotten'],
    [mark(seen.id), 'forgotten'],
  ]
  for (const [mutation, what] of changes) {
    const before = await ask()
    assert.equal(await ask(), before)
    await store.commit([mutation])
    assert.equal((await ask()) === before, what === 'kept', `${mutation.do}: ${what}`)
  }
  await store.drop(lease)
  const before = await ask()
  await removeNow(store, other)
  assert.equal(await ask(), before)
  await removeNow(store, seen)
  assert.notEqual(await ask(), before)
})

test('the log is moved into the database while it is written to', async () => {
  using directory = folder()
  await using store = await open(directory.path)
  const log = join(directory.path, 'arcus.sqlite-wal')
  const main = join(directory.path, 'arcus.sqlite')
  const before = statSync(main).size
  await until(async () => {
    const spec = { text: 'x'.repeat(2000) }
    await Promise.all(Array.from({ length: 50 }, () => store.commit([create(toy({ spec }))])))
    return statSync(log).size > 0 && statSync(main).size > before
  }, 'a checkpoint')
})

test('of a database that is gone meanwhile no copy is made, and none in its place', async () => {
  using directory = folder()
  const from = join(directory.path, 'log 100%-2026-01-01.sqlite')
  await refused(copyDatabase(from, join(directory.path, 'copy.sqlite')), 'not_found')
  assert.deepEqual(readdirSync(directory.path), [])
  const db = new DatabaseSync(from)
  db.exec('CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (7)')
  db.close()
  await copyDatabase(from, join(directory.path, 'copy.sqlite'))
  const copy = new DatabaseSync(join(directory.path, 'copy.sqlite'))
  assert.equal(copy.prepare('SELECT n FROM t').get()?.['n'], 7)
  copy.close()
})

test('a checkpoint that failed is not the last', async () => {
  using directory = folder()
  const errors: string[] = []
  await using store = await open(directory.path, { log: jsonLog('error', (line) => errors.push(line)) })
  const main = join(directory.path, 'arcus.sqlite')
  const grow = async (): Promise<void> => {
    const spec = { text: 'x'.repeat(2000) }
    await Promise.all(Array.from({ length: 50 }, () => store.commit([create(toy({ spec }))])))
  }
  await grow()
  // Whoever has it open goes on; who comes now cannot open it.
  renameSync(main, `${main}.away`)
  mkdirSync(main)
  await until(async () => {
    await grow()
    return errors.some((line) => line.includes('checkpoint failed'))
  }, 'a checkpoint that fails')
  rmdirSync(main)
  renameSync(`${main}.away`, main)
  const before = statSync(main).size
  await until(async () => {
    await grow()
    return statSync(main).size > before
  }, 'a checkpoint')
})

test('a log that cannot be emptied keeps no commit from being answered', async () => {
  using directory = folder()
  await (await open(directory.path))[Symbol.asyncDispose]()
  const path = join(directory.path, 'arcus.sqlite')
  const at = { path, now: 0, changesKept: 1000, moment: newMoment(), durable: false }
  const write = openWriter({ ...at, role: 'writer' })
  const answers = (request: Ask) => [...write([{ ...request, n: 1 }])].flatMap((turn) => turn.answers)
  const commit = (mutation: Mutation) =>
    answers({ do: 'commit', now: 0, mutations: JSON.stringify([mutation]), dryRun: false })
  assert.deepEqual(commit(create(toy({ spec: { text: 'x'.repeat(16 << 20) } }))), [
    { n: 1, value: undefined },
  ])
  const other = new DatabaseSync(path)
  other.exec('PRAGMA wal_checkpoint(PASSIVE)')
  // What a disk that lost the database's pages looks like to who moves more of them there.
  truncateSync(path, 4096)
  truncateSync(`${path}-wal`, 512 << 20)
  for (let batch = 0; batch < 200; batch++)
    assert.deepEqual(commit({ do: 'enqueue', key: 'toy/1', at: batch }), [{ n: 1, value: undefined }])
  assert.throws(() => other.exec('PRAGMA wal_checkpoint(TRUNCATE)'), /malformed/)
  other.close()
  answers({ do: 'close' })
})

test('after it was closed a store refuses to write', async () => {
  using directory = folder()
  const store = await open(directory.path)
  await store[Symbol.asyncDispose]()
  const error = await store.commit([create(toy())]).catch((reason: unknown) => reason)
  assert.ok(isCloudError(error, 'unavailable'))
})
