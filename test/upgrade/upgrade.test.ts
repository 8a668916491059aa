import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { after, describe, test } from 'node:test'
import type { Resource } from '#engine/resource.ts'
import { wrongIn } from '#engine/shape.ts'
import { openSqliteStore } from '#engine/store.sqlite.ts'
import { silentLog } from '#lib/log.ts'
import { KINDS } from '#cloud/kinds.ts'
import { type CloudProcess, cloudProcess } from '../crash/process.testing.ts'
import { simulatedWorld } from '../crash/world.testing.ts'
import { eventually } from '../e2e/wait.testing.ts'
import { tablesOf, type Whole, wholeOf } from './whole.testing.ts'

// Data that earlier versions wrote starts under this one and says what it said then; see README.md beside.
const SAMPLES = join(import.meta.dirname, 'samples')
const CLOCK = join(import.meta.dirname, '../crash/clock.preload.ts')
const SETTLES_MS = 20_000

type Sample = Whole & { readonly admin: string; readonly tenant: string }
type Shown = { items: { name: string; spec: unknown; settled: boolean; status: { state: string } }[] }

describe('data of earlier versions', () => {
  const stack = new AsyncDisposableStack()
  after(() => stack.disposeAsync())

  async function copyOf(name: string): Promise<string> {
    const folder = await mkdtemp(join(tmpdir(), 'arcus-upgrade-'))
    stack.defer(() => rm(folder, { recursive: true, force: true }))
    const data = join(folder, 'data')
    mkdirSync(data, { mode: 0o700 })
    execFileSync('tar', ['-xzf', join(SAMPLES, `${name}.tar.gz`), '-C', data])
    return data
  }
  /** `byMs` moves its wall clock. */
  async function cloudOn(data: string, byMs = 0): Promise<CloudProcess> {
    const world = stack.use(await simulatedWorld(`${data}-world`))
    await writeFile(`${data}-clock`, String(byMs))
    const env = { NODE_OPTIONS: `--import=${CLOCK}`, ARCUS_TEST_CLOCK: `${data}-clock` }
    return stack.use(await cloudProcess({ data, world, env }))
  }

  const names = readdirSync(SAMPLES).flatMap((it) => /^(.*)\.tar\.gz$/.exec(it)?.[1] ?? [])
  assert.ok(names.length > 0, 'there are samples')
  for (const name of names) {
    const then = JSON.parse(readFileSync(join(SAMPLES, `${name}.json`), 'utf8')) as Sample
    const pools = then.pools.map((it) => it.name)

    test(`${name}: every resource, secret, claim, pool and record is read as it was`, async () => {
      const now = await wholeOf(await copyOf(name), pools)
      for (const part of ['resources', 'claims', 'pools', 'records'] as const)
        assert.equal(now[part].length, then[part].length, part)
      for (const it of now.resources as Resource[]) {
        const kind = KINDS.find((one) => one.name === it.kind)
        assert.ok(kind, it.kind)
        // Else its schema was changed without a new version and a step from the one before.
        assert.equal(wrongIn(kind.spec, it.spec, `spec of ${it.kind} ${it.name}`), undefined)
        assert.equal(wrongIn(kind.status, it.status, `status of ${it.kind} ${it.name}`), undefined)
      }
      // What a later version adds to it is its own matter.
      const { admin: _, tenant: __, ...whole } = then
      assert.partialDeepStrictEqual(now, whole)
    })

    test(`${name}: a cloud starts on it, knows its tokens and makes everything true again`, async () => {
      const data = await copyOf(name)
      // As of its time: what is renewed or ends by itself later is not what is looked at.
      const writtenAt = Math.max(...(then.resources as Resource[]).map((it) => it.updatedAt))
      const cloud = await cloudOn(data, writtenAt + 1000 - Date.now())
      await cloud.start()
      assert.equal(cloud.token, then.admin)
      const list = async (kind: string): Promise<Shown['items']> => {
        const answer = await cloud.ask('GET', `/native/${kind}`, undefined, { token: then.tenant })
        assert.equal(answer.status, 200, JSON.stringify(answer.body))
        return (answer.body as Shown).items
      }
      await eventually(
        'everything is settled',
        async () => {
          const workloads = await list('workload')
          const states = workloads.map((it) => `${it.name} ${it.status.state} ${it.settled}`)
          assert.deepEqual(states, ['web running true', 'files running true', 'broken error true'])
          return true
        },
        SETTLES_MS,
      )
      await cloud.kill('SIGTERM')
      const now = await wholeOf(data, pools)
      assert.deepEqual(now.secrets, then.secrets)
      assert.partialDeepStrictEqual(now.claims, then.claims)
      assert.deepEqual(now.pools, then.pools)
      // A wish is its caller's: no start changes it.
      const wishes = (it: Whole): unknown[] =>
        (it.resources as { id: string; spec: object }[]).map(({ id, spec }) => ({ id, spec }))
      assert.partialDeepStrictEqual(wishes(now), wishes(then))
    })
  }

  const refusals = [
    {
      of: 'the tables',
      sql: "INSERT INTO migration VALUES (9001, '9001-later.sql', 'x', 0)",
      says: /^arcus: the data folder was written by a newer version \(migration 9001-later\.sql\); start that version or a later one$/m,
    },
    {
      of: 'a kind',
      sql: "INSERT INTO kind_version VALUES ('workload', 9001)",
      says: /^arcus: the data folder holds workload of schema 9001, this version knows \d+; start a later one$/m,
    },
    {
      of: 'a kind nobody knows',
      sql: "INSERT INTO kind_version VALUES ('teapot', 1)",
      says: /^arcus: the data folder holds resources of the kind teapot, which this version does not know; start a later one$/m,
    },
  ]
  for (const { of, sql, says } of refusals) {
    test(`a newer schema of ${of} stops the start with a sentence, and nothing is changed`, async () => {
      const data = await copyOf(names[0] ?? '')
      const path = join(data, 'arcus.sqlite')
      // Its tables are of this version by then, as those of a later one are.
      const store = await openSqliteStore({ directory: data, log: silentLog })
      await store[Symbol.asyncDispose]()
      const change = new DatabaseSync(path)
      change.exec(sql)
      change.close()
      const before = tablesOf(path)
      const cloud = await cloudOn(data)
      await assert.rejects(cloud.start(), (error: Error) => {
        assert.match(error.message, /the cloud ended with 1/)
        assert.match(cloud.said(), says)
        return true
      })
      assert.deepEqual(tablesOf(path), before)
    })
  }
})
