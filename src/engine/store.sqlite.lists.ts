import type { DatabaseSync } from 'node:sqlite'
import { ALL } from './resource.ts'

type Listed = { readonly id: string; readonly kind: string; readonly tenant: string }
type Counts = { n: number; total: number; live: number }
type Tally = Counts & { isChanged: boolean }

const scopesOf = (it: Listed): readonly string[] => [it.tenant, ALL]
/** Every resource is a member of its kind's list, which has no term. */
const listed = (terms: readonly string[]): Set<string> => new Set(['', ...terms])

/**
 * The writer's side of the lists that resources are members of, under each of their terms. Commits of one batch mostly
 * change the same counts: those are written by `flush`, once, before what was applied is made to stay; `forget` goes with
 * taking it back.
 */
export function openLists(db: DatabaseSync) {
  const join = db.prepare(
    `INSERT INTO tally (kind, scope, term, total, live) VALUES (?, ?, ?, 1, ?)
     ON CONFLICT (kind, scope, term) DO UPDATE SET total = total + 1, live = live + excluded.live
     RETURNING n, total, live`,
  )
  const lower = db.prepare(
    `UPDATE tally SET total = total - ?, live = live - ? WHERE kind = ? AND scope = ? AND term = ?
     RETURNING n, total, live`,
  )
  const fade = db.prepare('UPDATE tally SET live = live - 1 WHERE kind = ? AND scope = ? AND term = ?')
  const count = db.prepare('UPDATE tally SET total = ?, live = ? WHERE n = ?')
  const drop = db.prepare('DELETE FROM tally WHERE n = ?')
  const addMember = db.prepare('INSERT INTO member (tally, id) VALUES (?, ?)')
  const dropMember = db.prepare('DELETE FROM member WHERE tally = ? AND id = ?')
  const tallies = new Map<string, Tally>()

  const nameOf = (kind: string, scope: string, term: string): string => `${kind}\n${scope}\n${term}`
  const known = (name: string, total: number, live: number): Tally | undefined => {
    const it = tallies.get(name)
    if (!it) return undefined
    it.total += total
    it.live += live
    it.isChanged = true
    return it
  }
  const learnt = (name: string, counts: Counts | undefined): Tally | undefined => {
    if (!counts) return undefined
    const it = { ...counts, isChanged: counts.total === 0 }
    tallies.set(name, it)
    return it
  }

  function enter(it: Listed, terms: Iterable<string>, isLive: boolean): void {
    const live = isLive ? 1 : 0
    for (const term of terms) {
      for (const scope of scopesOf(it)) {
        const name = nameOf(it.kind, scope, term)
        const tally =
          known(name, 1, live) ?? learnt(name, join.get(it.kind, scope, term, live) as Counts | undefined)
        if (tally) addMember.run(tally.n, it.id)
      }
    }
  }
  function leave(it: Listed, terms: Iterable<string>, isLive: boolean): void {
    const live = isLive ? 1 : 0
    for (const term of terms) {
      for (const scope of scopesOf(it)) {
        const name = nameOf(it.kind, scope, term)
        const tally =
          known(name, -1, -live) ??
          learnt(name, lower.get(1, live, it.kind, scope, term) as Counts | undefined)
        if (tally) dropMember.run(tally.n, it.id)
      }
    }
  }
  function die(it: Listed, term: string): void {
    for (const scope of scopesOf(it)) {
      const name = nameOf(it.kind, scope, term)
      if (known(name, 0, -1)) continue
      // The list of a whole kind is the one that the next commit is about, too.
      if (term === '') learnt(name, lower.get(0, 1, it.kind, scope, term) as Counts | undefined)
      else fade.run(it.kind, scope, term)
    }
  }

  return {
    enter: (it: Listed, terms: readonly string[]): void => enter(it, listed(terms), true),
    /** From the lists of some terms into those of others. */
    change(it: Listed, from: readonly string[], to: readonly string[], isLive: boolean): void {
      const [before, after] = [listed(from), listed(to)]
      leave(it, before.difference(after), isLive)
      enter(it, after.difference(before), isLive)
    },
    leave: (it: Listed, terms: readonly string[], isLive: boolean): void => leave(it, listed(terms), isLive),
    /** It stays a member, but is not live any more. */
    die(it: Listed, terms: readonly string[]): void {
      for (const term of listed(terms)) die(it, term)
    },
    flush(): void {
      for (const it of tallies.values()) {
        if (!it.isChanged) continue
        if (it.total === 0) drop.run(it.n)
        else count.run(it.total, it.live, it.n)
      }
      tallies.clear()
    },
    forget: (): void => tallies.clear(),
  }
}
