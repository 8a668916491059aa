import type { Clock } from '#lib/clock.ts'
import type { Bulk } from '#engine/bulk.ts'

/** How long a line is kept. */
export const LOGS_KEPT_MS = 30 * 86_400_000
/** The class of bulk records that lines are kept in. */
export const LOGS = 'log'
/** Lines of a tenant that one search looks through at most, the newest first. */
const SCANNED_MAX = 100_000
const PAGE = 1000
const MESSAGE_LENGTH_MAX = 16_384
// Searched across resources: all lines of a tenant are in one place.
const KEPT_UNDER = 'lines'

/** One kept line of what a resource said. */
export type LogLine = {
  readonly resource: string
  /** Its kind in the words of users: `instance`, `function`. */
  readonly type: string
  readonly level: string
  readonly message: string
  readonly trace?: string
}
export type StoredLogLine = LogLine & { readonly at: number; readonly cursor: string }

/** All that are given must hold. */
export type LogQuery = {
  readonly resource?: string
  readonly type?: string
  readonly level?: string
  /** A part of the message, in whatever case. */
  readonly search?: string
  /** Milliseconds, the first included, the last not. */
  readonly from?: number
  readonly to?: number
  readonly limit: number
  readonly offset: number
}

/** Lines that outlive what said them. A power cut may cost the last second. */
export type Logs = {
  keep(tenant: string, line: LogLine & { readonly at?: number }): void
  /** Newest first; `total` counts what matches among the newest 100,000 of the tenant. */
  search(
    tenant: string,
    query: LogQuery,
  ): Promise<{ readonly entries: readonly StoredLogLine[]; readonly total: number }>
}

export function createLogs(bulk: Bulk, clock: Clock): Logs {
  return {
    keep(tenant, { at = clock.now(), message, ...line }) {
      const body = { ...line, message: message.slice(0, MESSAGE_LENGTH_MAX) }
      bulk.append(LOGS, { tenant, subject: KEPT_UNDER, at, body })
    },
    async search(tenant, { limit, offset, from, to, ...wanted }) {
      const entries: StoredLogLine[] = []
      let total = 0
      let after: string | undefined
      for (let scanned = 0; scanned < SCANNED_MAX; scanned += PAGE) {
        const page = await bulk.read({
          class: LOGS,
          tenant,
          subject: KEPT_UNDER,
          limit: PAGE,
          newestFirst: true,
          ...(from === undefined ? {} : { from }),
          ...(to === undefined ? {} : { to }),
          ...(after === undefined ? {} : { after }),
        })
        for (const { at, cursor, body } of page) {
          const line = body as LogLine
          if (!matches(line, wanted)) continue
          if (total >= offset && entries.length < limit) entries.push({ ...line, at, cursor })
          total++
        }
        after = page.at(-1)?.cursor
        if (page.length < PAGE) break
      }
      return { entries, total }
    },
  }
}

const matches = (
  it: LogLine,
  { resource, type, level, search }: Pick<LogQuery, 'resource' | 'type' | 'level' | 'search'>,
): boolean =>
  (resource === undefined || it.resource === resource) &&
  (type === undefined || it.type === type) &&
  (level === undefined || it.level.toLowerCase() === level.toLowerCase()) &&
  (search === undefined || it.message.toLowerCase().includes(search.toLowerCase()))
