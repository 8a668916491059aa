import type { Clock } from '#lib/clock.ts'
import { keepNewest } from '#lib/newest.ts'
import type { Bulk } from '#engine/bulk.ts'
import type { Caller } from '#cloud/access.ts'

/** How exact the last use is, so that a busy key costs a record a minute. */
const NOTED_EVERY_MS = 60_000
const NOTED_MAX = 100_000
export const USES_KEPT_MS = 90 * 86_400_000

// A user's own key belongs to no tenant: all are kept in one place, by id.
const KEPT_UNDER = 'credentials'

/** When credentials were last used: records in bulk, which a power cut may cost. */
export type Uses = {
  note(use: Pick<Caller, 'credential' | 'origin'>): void
  last(id: string): Promise<number | undefined>
}

export function createUses(bulk: Bulk, clock: Clock): Uses {
  const noted = new Map<string, number>()
  return {
    note({ credential, origin: { address, dialect } }) {
      const at = clock.now()
      if (Math.abs(at - (noted.get(credential) ?? -Infinity)) < NOTED_EVERY_MS) return
      keepNewest(noted, credential, at, NOTED_MAX)
      bulk.append('use', { tenant: KEPT_UNDER, subject: credential, at, body: { address, dialect } })
    },
    async last(id) {
      const kept = await bulk.read({
        class: 'use',
        tenant: KEPT_UNDER,
        subject: id,
        limit: 1,
        newestFirst: true,
      })
      return kept[0]?.at
    },
  }
}
