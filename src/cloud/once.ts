import type { Static, TSchema } from 'typebox'
import { CloudError } from '#lib/errors.ts'
import type { Kind } from '#engine/kind.ts'
import type { Resource } from '#engine/resource.ts'
import { ownTenant } from './access.ts'
import type { VerbContext } from './context.ts'

/** How long a key stands for what was made under it. */
const KEPT_MS = 86_400_000

/** A key by which a client repeats a request safely, with a hash of what it asked for. */
export type Repeatable = { readonly key: string; readonly hash: string }

/**
 * What `make` makes, once for a key: a repeat gives what was made the first time, as long as that is there; the same key
 * for something else is refused `conflict`. Of two at once one makes it and the other gets it.
 */
export async function once<S extends TSchema, T extends TSchema>(
  { draft, caller }: VerbContext,
  what: string,
  kind: Kind<S, T>,
  given: Repeatable | undefined,
  make: () => Promise<Resource<Static<S>, Static<T>>>,
): Promise<Resource<Static<S>, Static<T>>> {
  if (!given) return await make()
  const tenant = ownTenant(caller)
  const pool = `once:${tenant}:${what}`
  // Of two at once the later begins again here, before a name that the first took refuses it.
  await draft.guard(pool, tenant)
  const held = await draft.claimed(pool, given.key)
  if (held && (held.expiresAt ?? 0) > draft.now) {
    if (held.note !== given.hash)
      throw new CloudError('conflict', 'This Idempotency-Key was used for another request')
    const made = await draft.get(kind, tenant, held.owner)
    if (made) return made
  }
  const made = await make()
  if (held) draft.release(pool, given.key, held.owner)
  draft.claim({ pool, value: given.key, ends: 'deletion' }, made.id, {
    expiresAt: draft.now + KEPT_MS,
    note: given.hash,
  })
  return made
}
