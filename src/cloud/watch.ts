import type { Static, TSchema } from 'typebox'
import type { Engine } from '#engine/engine.ts'
import type { Kind } from '#engine/kind.ts'
import { ALL, type AnyKind, isSettled, type Resource } from '#engine/resource.ts'
import type { Change } from '#engine/store.ts'
import { actionOf, authorise, authoriseFirst, type Caller, decide, hides, tenantFor } from './access.ts'
import { credential } from './identity/credential.kind.ts'
import { serviceAccount } from './identity/service-account.kind.ts'

const CHANGES_PAGE = 500
const REVOKED_CHECK_MS = 1000

/** Waiting for what changes. */
export type Watching = {
  /** Changes the caller may see, from now or after a cursor, until the signal aborts or the credential is revoked; `gone` when the cursor is too old. */
  watch(caller: Caller, query: { kind?: string; after?: string }, signal: AbortSignal): AsyncIterable<Change>
  /**
   * Waits until a resource is settled, overdue or gone, `withinMs` at most, and gives it as it is then; undefined when it
   * is gone. Does not wait where nothing reconciles.
   */
  settled<S extends TSchema, T extends TSchema>(
    caller: Caller,
    kind: Kind<S, T>,
    id: string,
    withinMs: number,
  ): Promise<Resource<Static<S>, Static<T>> | undefined>
}

/** `isRunning`: whether anything reconciles, so that waiting has a sense. */
export function createWatching(engine: Engine, isRunning: () => boolean): Watching {
  return {
    watch: (caller, query, signal) => watch(engine, caller, query, signal),
    async settled(caller, kind, id, withinMs) {
      const [late, answered] = [new AbortController(), new AbortController()]
      engine.clock.sleep(withinMs, answered.signal).then(
        () => late.abort(),
        () => {},
      )
      try {
        for (;;) {
          const next = nextChange(engine, late.signal)
          try {
            const it = await engine.get(kind, tenantFor(caller, kind), id)
            if (!it || !isRunning() || isSettled(it) || it.overdue !== undefined || late.signal.aborted)
              return it && engine.redact(it)
            await next.wait()
          } finally {
            next.stop()
          }
        }
      } finally {
        answered.abort()
      }
    },
  }
}

/** The change feed as one caller may see it; ends when its credential is revoked. */
async function* watch(
  engine: Engine,
  caller: Caller,
  query: { kind?: string; after?: string },
  signal: AbortSignal,
): AsyncIterable<Change> {
  // Of a kind that the caller may see nothing of, no change is shown below.
  if (query.kind !== undefined) authorise(caller, 'read', actionOf(query.kind, 'read'), { kind: query.kind })
  else authoriseFirst(caller, 'read', 'audit:read')
  let cursor = query.after
  while (!signal.aborted) {
    // Before reading, so that a commit between the read and the wait is not slept through.
    const next = nextChange(engine, signal)
    try {
      const page = await engine.store.changes(cursor, CHANGES_PAGE)
      const valid =
        (await engine.get(credential, ALL, caller.credential)) ??
        (await engine.get(serviceAccount, ALL, caller.credential))
      if (!valid || valid.deletedAt !== undefined) return
      for (const change of page.changes) {
        const kind = engine.kinds.get(change.kind)
        const scope = kind && tenantFor(caller, kind)
        if (scope !== ALL && scope !== change.tenant) continue
        if (query.kind !== undefined && query.kind !== change.kind) continue
        if (kind && !(await shows(engine, caller, kind, change))) continue
        yield change
      }
      cursor = page.cursor
      if (page.changes.length < CHANGES_PAGE) await next.wait()
    } finally {
      // Also of a reader that leaves amid a page, or whose cursor is too old.
      next.stop()
    }
  }
}

/** Whether no policy hides what a change is about; policies may call it by its name, which a change does not have. */
async function shows(engine: Engine, caller: Caller, kind: AnyKind, change: Change): Promise<boolean> {
  if (!caller.access) return true
  const it = hides(caller) ? await engine.get(kind, change.tenant, change.id) : undefined
  return decide(caller, 'read', actionOf(change.kind, 'read'), it ?? change).allowed
}

/** The next commit; `wait` takes a second at most, so that a revoked credential ends a quiet watch too. */
function nextChange(engine: Engine, signal: AbortSignal): { wait(): Promise<void>; stop(): void } {
  const woken = Promise.withResolvers<void>()
  const ended = new AbortController()
  const unsubscribe = engine.store.onChange(woken.resolve)
  return {
    async wait() {
      const any = AbortSignal.any([signal, ended.signal])
      await Promise.race([woken.promise, engine.clock.sleep(REVOKED_CHECK_MS, any).catch(() => {})])
    },
    stop() {
      ended.abort()
      unsubscribe()
    },
  }
}
