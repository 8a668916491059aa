import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { newMoment, passing } from './store.sqlite.recall.ts'
import { openSnapshot } from './store.sqlite.snapshot.ts'

/** A writing and a reading connection to one database, as the store has them. */
function opened({ touch }: { touch?: () => void } = {}) {
  const directory = mkdtempSync(join(tmpdir(), 'arcus-snapshot-'))
  const path = join(directory, 'db.sqlite')
  const writing = new DatabaseSync(path)
  writing.exec('PRAGMA journal_mode = WAL; CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (0)')
  const reading = new DatabaseSync(path, { readOnly: true })
  const moment = newMoment()
  const value = reading.prepare('SELECT n FROM t')
  const now = (): number => (value.get() as { n: number }).n
  const { read, close } = openSnapshot(reading, moment, () => {
    touch?.()
    return now()
  })
  return {
    moment,
    reading,
    read,
    now,
    write(n: number): void {
      writing.exec(`BEGIN; UPDATE t SET n = ${n}`)
      passing(moment, () => writing.exec('COMMIT'))
    },
    /** Whether the log could be emptied, for which nobody may read from it. */
    empty: () => (writing.prepare('PRAGMA wal_checkpoint(TRUNCATE)').get() as { busy: number }).busy === 0,
    [Symbol.dispose]() {
      close()
      reading.close()
      writing.close()
      rmSync(directory, { recursive: true })
    },
  }
}

test('what became visible is seen by the next read, also in the same turn', () => {
  using it = opened()
  for (let n = 1; n <= 5; n++) {
    it.write(n)
    assert.equal(it.read(it.now), n)
    assert.equal(
      it.read((touched) => touched),
      n,
    )
  }
})

test('reads of one call are of one moment, whatever is written meanwhile', () => {
  using it = opened()
  const seen = it.read((touched) => {
    it.write(1)
    return [touched, it.now(), it.read(it.now)]
  })
  assert.deepEqual(seen, [0, 0, 0])
  assert.equal(it.read(it.now), 1)
})

test('what is read while a transaction becomes visible is kept for nobody', () => {
  using it = opened()
  it.read(it.now)
  passing(it.moment, () => {
    it.read(it.now)
    assert.equal(it.reading.isTransaction, false)
  })
  assert.throws(() =>
    it.read(() => {
      Atomics.add(it.moment, 0, 2)
      throw new Error('of the read')
    }),
  )
  it.write(1)
  assert.equal(it.read(it.now), 1)
})

test('the log is held for no longer than the turn', async () => {
  using it = opened()
  it.write(1)
  it.read(it.now)
  assert.deepEqual([it.reading.isTransaction, it.empty()], [true, false])
  await turn()
  assert.deepEqual([it.reading.isTransaction, it.empty()], [false, true])
})

test('a read that could not begin keeps none from beginning after it', () => {
  let isBroken = true
  using it = opened({
    touch() {
      if (isBroken) throw new Error('the disk is gone')
    },
  })
  assert.throws(() => it.read(it.now), /the disk is gone/)
  isBroken = false
  assert.equal(it.read(it.now), 0)
})

test('a transaction that the database itself gave up is begun anew', async () => {
  using it = opened()
  assert.throws(() =>
    it.read(() => {
      // As SQLite does when a read fails.
      it.reading.exec('ROLLBACK')
      throw new Error('the disk is gone')
    }),
  )
  it.write(1)
  assert.equal(it.read(it.now), 1)
  it.read(() => it.reading.exec('ROLLBACK'))
  await turn()
  assert.equal(it.read(it.now), 1)
})
