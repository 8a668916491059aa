import type { DatabaseSync, StatementSync } from 'node:sqlite'
import { CloudError } from '#lib/errors.ts'
import { PLATFORM } from './resource.ts'
import { type Mutation, nameOfPool } from './store.ts'

type Of<D extends Mutation['do']> = Extract<Mutation, { do: D }>

/**
 * The writer's side of claims and pools. Sums of pools are kept by triggers; what expired was swept before each batch, and
 * no read gave it any more. `moved` is told the names of pools of which claims come and go.
 */
export function openClaims(db: DatabaseSync, exists: (id: string) => boolean, moved: (name: string) => void) {
  const read = db.prepare('SELECT owner, amount FROM claim WHERE pool = ? AND value = ?')
  const poolRead = db.prepare('SELECT max, used FROM pool WHERE name = ?')
  const put = db.prepare(
    `INSERT INTO claim (pool, value, owner, ends, amount, refusal, expires_at, note) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
     ON CONFLICT (pool, value) DO UPDATE SET ends = excluded.ends, amount = excluded.amount,
       refusal = excluded.refusal, expires_at = excluded.expires_at, note = excluded.note
     WHERE claim.owner = excluded.owner`,
  )
  const dropOwned = db.prepare('DELETE FROM claim WHERE pool = ? AND value = ? AND owner = ?')
  const endDeletion = db.prepare("DELETE FROM claim WHERE owner = ? AND ends = 'deletion' RETURNING pool")
  const endOwner = db.prepare('DELETE FROM claim WHERE owner = ? RETURNING pool')
  const sweepAll = db.prepare('DELETE FROM claim WHERE expires_at <= ?')
  const poolPut = db.prepare(
    `INSERT INTO pool (name, max, used, owner) VALUES (?, ?, 0, ?)
     ON CONFLICT (name) DO UPDATE SET max = excluded.max, owner = excluded.owner`,
  )
  const poolEmpty = db.prepare('DELETE FROM pool WHERE owner = ? AND used = 0')
  const poolFree = db.prepare('UPDATE pool SET max = NULL, owner = NULL WHERE owner = ?')

  const end = (statement: StatementSync, owner: string): void => {
    for (const { pool } of statement.all(owner) as { pool: string }[]) moved(nameOfPool(pool))
  }

  return {
    claim(m: Of<'claim'>): void {
      const { pool, value, ends, amount = 0, refusal, rule = 'quota' } = m.claim
      if (!Number.isSafeInteger(amount) || amount < 0)
        throw new CloudError('invalid', `the amount of ${value} in ${pool} is not a whole number`)
      if (m.expiresAt === undefined && m.owner !== PLATFORM && !exists(m.owner))
        throw new CloudError('conflict', `${m.owner} does not exist any more`, { rule: 'wrong_state' })
      const taken = (): CloudError =>
        m.seen
          ? new CloudError('conflict', `${value} was taken meanwhile`, { rule: 'lost_race' })
          : new CloudError('already_exists', refusal ?? `${value} is taken already`)
      if (amount > 0) {
        const held = read.get(pool, value) as { owner: string; amount: number } | undefined
        if (held && held.owner !== m.owner) throw taken()
        const more = amount - (held?.amount ?? 0)
        const sum =
          more > 0 ? (poolRead.get(pool) as { max: number | null; used: number } | undefined) : undefined
        if (sum && sum.max !== null && sum.used + more > sum.max)
          throw new CloudError('exhausted', refusal ?? `${pool} is used up (${sum.used} of ${sum.max})`, {
            rule,
          })
      }
      const { changes } = put.run(
        pool,
        value,
        m.owner,
        ends,
        amount,
        refusal ?? null,
        m.expiresAt === undefined ? null : Math.ceil(m.expiresAt),
        m.note ?? null,
      )
      if (!changes) throw taken()
      moved(nameOfPool(pool))
    },
    release(m: Of<'release'>): void {
      moved(nameOfPool(m.pool))
      dropOwned.run(m.pool, m.value, m.owner)
    },
    pool(m: Of<'pool'>): void {
      poolPut.run(m.pool, m.max, m.owner ?? null)
    },
    endAtDeletion(owner: string): void {
      end(endDeletion, owner)
    },
    endAll(owner: string): void {
      end(endOwner, owner)
      poolEmpty.run(owner)
      // What others still claim in it goes on being counted, until they end.
      poolFree.run(owner)
    },
    sweep(now: number): void {
      sweepAll.run(now)
    },
  }
}
