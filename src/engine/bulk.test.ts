import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { simulatedClock } from '#lib/clock.ts'
import { silentLog } from '#lib/log.ts'
import { type Bulk, type BulkQuery, openBulk } from './bulk.ts'
import { refused, until } from './store.testing.ts'

const DAY_MS = 86_400_000
const START = Date.UTC(2026, 0, 5, 23, 59, 58)

async function withBulk(run: (bulk: Bulk, folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'arcus-bulk-'))
  try {
    await using bulk = openBulk({ directory: folder, clock: simulatedClock(START), log: silentLog })
    await run(bulk, folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
}
const files = (folder: string): string[] => readdirSync(folder).filter((name) => name.endsWith('.sqlite'))

test('entries are read back by tenant, subject and time, across days, in both directions', async () => {
  await withBulk(async (bulk, folder) => {
    for (let n = 0; n < 6; n++)
      bulk.append('log', { tenant: 'acme', subject: 'r1', at: START + n * 1000, body: { n } })
    bulk.append('log', { tenant: 'acme', subject: 'r1', at: START + 1000, body: { n: 1.5 } })
    bulk.append('log', { tenant: 'acme', subject: 'r2', body: { n: 'other' } })
    bulk.append('log', { tenant: 'globex', subject: 'r1', body: { n: 'foreign' } })
    bulk.append('metric', { tenant: 'acme', subject: 'r1', body: { n: 'metric' } })
    const read = async (query: Partial<BulkQuery>): Promise<unknown[]> =>
      (await bulk.read({ class: 'log', tenant: 'acme', subject: 'r1', ...query })).map(
        (it) => (it.body as { n: unknown }).n,
      )
    assert.deepEqual(await read({}), [0, 1, 1.5, 2, 3, 4, 5])
    assert.deepEqual(files(folder), [
      'log-2026-01-05.sqlite',
      'log-2026-01-06.sqlite',
      'metric-2026-01-05.sqlite',
    ])
    assert.deepEqual(await read({ newestFirst: true, limit: 5 }), [5, 4, 3, 2, 1.5])
    assert.deepEqual(await read({ from: START + 1000, to: START + 3000 }), [1, 1.5, 2])
    assert.deepEqual(await read({ subject: 'r2' }), ['other'])
    assert.deepEqual(await read({ class: 'metric' }), ['metric'])
    assert.deepEqual(await read({ class: 'access' }), [])
    for (const newestFirst of [false, true]) {
      const seen: unknown[] = []
      let after: string | undefined
      for (let page = 0; page < 10; page++) {
        const some = await bulk.read({
          class: 'log',
          tenant: 'acme',
          subject: 'r1',
          limit: 2,
          newestFirst,
          ...(after === undefined ? {} : { after }),
        })
        if (!some.length) break
        seen.push(...some.map((it) => (it.body as { n: unknown }).n))
        after = some.at(-1)?.cursor
      }
      assert.deepEqual(seen, newestFirst ? [5, 4, 3, 2, 1.5, 1, 0] : [0, 1, 1.5, 2, 3, 4, 5])
    }
    await refused(read({ after: 'x' }), 'invalid')
  })
})

test('whole days are forgotten, younger ones stay', async () => {
  await withBulk(async (bulk, folder) => {
    for (const days of [0, 1, 2])
      bulk.append('log', { tenant: 'a', subject: 's', at: START + days * DAY_MS, body: days })
    bulk.append('logs', { tenant: 'a', subject: 's', body: 0 })
    const all = async (): Promise<unknown[]> =>
      (await bulk.read({ class: 'log', tenant: 'a', subject: 's' })).map((it) => it.body)
    assert.deepEqual(await all(), [0, 1, 2])
    assert.equal(await bulk.forget('log', START + DAY_MS), 1)
    assert.deepEqual(await all(), [1, 2])
    assert.equal(await bulk.forget('log', START), 0)
    assert.deepEqual(
      files(folder).filter((name) => name.startsWith('logs')),
      ['logs-2026-01-05.sqlite'],
    )
  })
})

test('what was appended is written without being asked for, and is there after a restart', async () => {
  await withBulk(async (bulk, folder) => {
    bulk.append('log', { tenant: 'a', subject: 's', body: 'x' })
    assert.deepEqual(files(folder), [])
    const path = join(folder, 'log-2026-01-05.sqlite')
    await until(async () => (statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0) > 0, 'the flush')
  })
  const folder = mkdtempSync(join(tmpdir(), 'arcus-bulk-'))
  const options = { directory: folder, clock: simulatedClock(START), log: silentLog }
  const first = openBulk(options)
  for (let n = 0; n < 1000; n++) first.append('log', { tenant: 'a', subject: 's', body: n })
  await first[Symbol.asyncDispose]()
  const second = openBulk(options)
  assert.equal((await second.read({ class: 'log', tenant: 'a', subject: 's' })).length, 1000)
  await second[Symbol.asyncDispose]()
  rmSync(folder, { recursive: true })
})

test('a full buffer drops what is new and counts it', async () => {
  await withBulk(async (bulk) => {
    const body = 'x'.repeat(1024 * 1024)
    for (let n = 0; n < 70; n++) bulk.append('log', { tenant: 'a', subject: 's', body })
    assert.ok(bulk.dropped() >= 6 && bulk.dropped() < 10, String(bulk.dropped()))
    assert.throws(() => bulk.append('../etc', { tenant: 'a', subject: 's', body }), /cannot be a class/)
  })
})
