import assert from 'node:assert/strict'
import { execFile, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  copyFileSync,
  createReadStream,
  createWriteStream,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, before, describe, test } from 'node:test'
import { pipeline } from 'node:stream/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { lockFolder } from '#engine/store.sqlite.open.ts'
import { differences } from '../crash/agreement.testing.ts'
import { type Ask, type Ledger, openLedger, reckon, workUntil } from '../crash/ledger.testing.ts'
import { type CloudProcess, cloudProcess } from '../crash/process.testing.ts'
import { randomFrom, seedOfRun } from '../crash/random.testing.ts'
import { simulatedWorld } from '../crash/world.testing.ts'
import { programFile } from '../program.ts'
import { eventually } from '../e2e/wait.testing.ts'
import { tablesOf, wholeOf } from './whole.testing.ts'

// A backup that is taken while the cloud works holds everything that was answered before it began, and restores to the same
// cloud.
const LOAD_MS = 1000
const METRICS_MS = 1500
const SETTLES_MS = 20_000

type Ran = { code: number; out: string; err: string }

/** One of our programs, as `./arcus` starts it. */
const program = (name: 'backup' | 'restore', ...args: string[]): Promise<Ran> =>
  new Promise((resolve) => {
    execFile(process.execPath, [programFile(name), ...args], (error, out, err) => {
      resolve({ code: error ? Number(error.code) : 0, out: out.trim(), err })
    })
  })

const poolsOf = (path: string): string[] => {
  const db = new DatabaseSync(path)
  try {
    const rows = db.prepare('SELECT pool AS name FROM claim UNION SELECT name FROM pool').all()
    return (rows as { name: string }[]).map((it) => it.name)
  } finally {
    db.close()
  }
}

describe('backup and restore', { concurrency: false }, () => {
  const stack = new AsyncDisposableStack()
  const random = randomFrom(seedOfRun())
  let folder: string
  let cloud: CloudProcess
  let quiet: Ledger
  let busy: Ledger
  let tokens: string[]
  const at = (name: string): string => join(folder, name)

  /** The same tenant, asked of another cloud. */
  const askOf =
    (of: CloudProcess, token: string): Ask =>
    (method, path, body) =>
      of.ask(method, `/native${path}`, body, { token })

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'arcus-backup-'))
    stack.defer(() => rm(folder, { recursive: true, force: true }))
    const world = stack.use(await simulatedWorld(at('world')))
    cloud = stack.use(await cloudProcess({ data: at('data/cloud'), world }))
    await cloud.start()
    tokens = []
    for (const name of ['quiet', 'busy']) {
      const made = await cloud.ask('POST', '/circloud/tenants', { name, password: 'gui-pw' })
      const { id, api_token: token } = made.body as { id: string; api_token: string }
      tokens.push(token)
      const login = {
        name: 'registry',
        server: 'registry.example',
        username: 'u',
        password: 'p-secret',
        token,
      }
      const path = `/circloud/tenants/${id}/registry-credentials`
      assert.equal((await cloud.ask('POST', path, login, { token })).status, 201)
    }
    quiet = await openLedger(askOf(cloud, tokens[0] ?? ''), ['idle:1', 'idle:2'])
    busy = await openLedger(askOf(cloud, tokens[1] ?? ''), ['idle:1', 'idle:2'])
  })
  after(() => stack.disposeAsync())

  const work = async (ledger: Ledger, during: () => Promise<unknown>): Promise<void> => {
    const stop = new AbortController()
    const working = workUntil(ledger, random, stop.signal, () => sleep(5))
    try {
      await during()
    } finally {
      stop.abort()
      await working
    }
  }

  test('under load: all that was answered before, nothing half, and the same tokens', async () => {
    await work(quiet, () => sleep(LOAD_MS))
    // The first look after a start keeps a metric of each container.
    await cloud.kill('SIGTERM')
    await cloud.start()
    await sleep(METRICS_MS)
    // What was written last is in the log beside the database alone.
    await work(quiet, () => sleep(LOAD_MS))
    await work(busy, async () => {
      const ran = await program('backup', at('online.tar'), '--data', at('data'))
      assert.deepEqual([ran.code, ran.out], [0, at('online.tar')], ran.err)
    })
    assert.deepEqual([...quiet.wrong, ...busy.wrong], [])
    assert.equal(statSync(at('online.tar')).mode & 0o777, 0o600)
    const restored = await program('restore', at('online.tar'), '--data', at('copy'))
    assert.deepEqual([restored.code, restored.out], [0, at('copy/cloud')], restored.err)
    assert.equal(statSync(at('copy/cloud')).mode & 0o777, 0o700)
    for (const it of readdirSync(at('copy/cloud'), { recursive: true, withFileTypes: true }))
      if (it.isFile()) assert.equal(statSync(join(it.parentPath, it.name)).mode & 0o077, 0, it.name)
    sound(at('copy/cloud/arcus.sqlite'))

    const world = stack.use(await simulatedWorld(at('copy-world')))
    const copy = stack.use(await cloudProcess({ data: at('copy/cloud'), world }))
    await copy.start()
    assert.equal(copy.token, cloud.token)
    const asks = tokens.map((token) => askOf(copy, token))
    const [ask] = asks
    assert.ok(ask)
    await reckon({ ...quiet, ask, made: structuredClone(quiet.made), vpcs: structuredClone(quiet.vpcs) })
    assert.deepEqual(quiet.wrong, [], 'everything acknowledged before is in it')
    await eventually(
      'the restored cloud makes its records true',
      async () => {
        const found = await differences(asks, world)
        if (found.length > 0) throw new Error(found.join('\n'))
        return true
      },
      SETTLES_MS,
    )
    await copy.kill('SIGTERM')
  })

  test('at rest: every table, secret and file is the same', async () => {
    await cloud.kill('SIGTERM')
    const original = at('data/cloud')
    mkdirSync(at('backups'))
    const ran = await program('backup', at('backups'), '--data', original)
    assert.equal(ran.code, 0, ran.err)
    assert.match(ran.out, /\/backups\/arcus-[\dT-]+\.tar$/)
    assert.equal((await program('restore', ran.out, '--data', at('same'))).code, 0)
    const same = at('same/cloud')
    assert.deepEqual(tablesOf(join(same, 'arcus.sqlite')), tablesOf(join(original, 'arcus.sqlite')))
    for (const it of ['master.key', 'admin.json'])
      assert.equal(readFileSync(join(same, it), 'utf8'), readFileSync(join(original, it), 'utf8'))
    const records = (of: string): unknown[] =>
      readdirSync(join(of, 'records'))
        .filter((it) => it.endsWith('.sqlite'))
        .map((it) => [it, tablesOf(join(of, 'records', it))])
    assert.ok(records(original).length > 0)
    assert.deepEqual(records(same), records(original))
    const pools = poolsOf(join(original, 'arcus.sqlite'))
    const [there, here] = [await wholeOf(original, pools), await wholeOf(same, pools)]
    assert.deepEqual(here, there)
    assert.ok(Object.values(here.secrets).includes('p-secret'))
  })

  test('what is being restored is held, and no cloud starts in it meanwhile', async () => {
    // Of an archive that comes slowly: here, when the test gives it.
    execFileSync('mkfifo', [at('slow.tar')])
    const restoring = spawn(
      process.execPath,
      [programFile('restore'), at('slow.tar'), '--data', at('held')],
      {
        stdio: ['ignore', 'ignore', 'pipe'],
      },
    )
    const ended = once(restoring, 'exit')
    let said = ''
    restoring.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()))
    await eventually('it unpacks', () => Promise.resolve(/Restoring/.test(said)), SETTLES_MS)
    try {
      assert.throws(() => lockFolder(at('held/cloud')), /in use by process \d+/)
      const second = await program('restore', at('online.tar'), '--data', at('held'))
      assert.deepEqual([second.code, /in use by process \d+/.test(second.err)], [1, true], second.err)
    } finally {
      await pipeline(createReadStream(at('online.tar')), createWriteStream(at('slow.tar')))
    }
    assert.deepEqual((await ended)[0], 0, said)
    lockFolder(at('held/cloud')).close()
    assert.ok(existsSync(at('held/cloud/arcus.sqlite')))
  })

  test('a backup that is ended by a signal leaves nothing', async () => {
    mkdirSync(at('stuck/cloud/tls'), { recursive: true })
    copyFileSync(at('same/cloud/arcus.sqlite'), at('stuck/cloud/arcus.sqlite'))
    // Copying what nobody writes to waits.
    execFileSync('mkfifo', [at('stuck/cloud/tls/never')])
    mkdirSync(at('left'))
    const backup = spawn(process.execPath, [programFile('backup'), at('left/a.tar'), '--data', at('stuck')], {
      stdio: 'ignore',
    })
    const ended = once(backup, 'exit')
    const copies = (): string[] => readdirSync(at('left'), { recursive: true }) as string[]
    await eventually(
      'it copies',
      () => Promise.resolve(copies().some((it) => it.endsWith('tls'))),
      SETTLES_MS,
    )
    backup.kill('SIGINT')
    assert.deepEqual(await ended, [null, 'SIGINT'])
    assert.deepEqual(copies(), [])
  })

  test('what cannot be done is refused with a sentence, and nothing is left half', async () => {
    const data = ['--data', at('data')]
    const refused = async (says: RegExp, ...words: Parameters<typeof program>): Promise<void> => {
      const ran = await program(...words)
      assert.notEqual(ran.code, 0)
      assert.match(ran.err, says)
      assert.doesNotMatch(ran.err, /^\s+at /m, 'a sentence, no stack')
    }
    await refused(/online\.tar exists already/, 'backup', at('online.tar'), ...data)
    await refused(/there is no folder .*nowhere; make it first/, 'backup', at('nowhere/x.tar'), ...data)
    await refused(/there is no cloud in .*empty/, 'backup', at('x.tar'), '--data', at('empty'))
    await refused(/backup takes one FILE/, 'backup', ...data)
    await refused(/there is no file/, 'restore', at('x.tar'), '--data', at('other'))
    await refused(/holds a cloud already/, 'restore', at('online.tar'), ...data)
    writeFileSync(at('text.tar'), 'not a backup')
    await refused(/text\.tar cannot be unpacked/, 'restore', at('text.tar'), '--data', at('other'))
    const bytes = readFileSync(at('online.tar'))
    // In the middle of the database, where no header is.
    const spot = bytes.indexOf('CREATE TABLE resource')
    assert.ok(spot > 0)
    bytes.write('CREATE TABLE rEsource', spot)
    writeFileSync(at('damaged.tar'), bytes)
    await refused(
      /damaged: arcus\.sqlite is not what was saved/,
      'restore',
      at('damaged.tar'),
      '--data',
      at('other'),
    )
    assert.ok(!existsSync(at('other/cloud')) && !existsSync(at('other/cloud.restoring')))
    await cloud.start()
    await refused(/is in use by process \d+; stop it first/, 'restore', at('online.tar'), ...data)
    assert.deepEqual(
      readdirSync(folder).filter((it) => it.startsWith('.') || it.endsWith('.next')),
      [],
    )
  })
})

/** What every commit keeps: each claim, reference and term has its resource, and pools are the sums of their claims. */
function sound(path: string): void {
  const db = new DatabaseSync(path)
  const none = (what: string, sql: string): void => assert.deepEqual(db.prepare(sql).all(), [], what)
  none(
    'claims without an owner',
    `SELECT * FROM claim WHERE expires_at IS NULL AND owner <> '-' AND owner NOT IN (SELECT id FROM resource)
       AND pool NOT LIKE 'singleton%'`,
  )
  none('references of nobody', 'SELECT * FROM ref WHERE id NOT IN (SELECT id FROM resource)')
  none('references to nothing', 'SELECT * FROM ref WHERE target NOT IN (SELECT id FROM resource)')
  none('members that are gone', 'SELECT * FROM member WHERE id NOT IN (SELECT id FROM resource)')
  none(
    'pools that are no sum',
    'SELECT * FROM pool p WHERE used <> (SELECT coalesce(sum(amount), 0) FROM claim WHERE pool = p.name)',
  )
  none(
    'workloads without all of their replicas',
    `SELECT id FROM resource w WHERE kind = 'workload' AND deleted_at IS NULL AND generation = 1
       AND json_extract(spec, '$.replicas') > (SELECT count(*) FROM resource WHERE kind = 'replica' AND owner = w.id)`,
  )
  db.close()
}
