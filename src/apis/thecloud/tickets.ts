import { createHash, randomBytes } from 'node:crypto'
import type { Clock } from '#lib/clock.ts'
import { CloudError } from '#lib/errors.ts'

const TICKET_BYTES = 24
const TICKET_MS = 60_000
const TICKETS_MAX = 10_000

/** Texts that open one thing once, within a minute: for a WebSocket, whose client can send no headers. */
export type Tickets<T> = {
  issue(what: T): string
  /** Undefined for one that is unknown, used or too old. */
  redeem(ticket: string): T | undefined
}

const digest = (ticket: string): string => createHash('sha256').update(ticket).digest('base64')

export function createTickets<T>(clock: Clock): Tickets<T> {
  const issued = new Map<string, { readonly what: T; readonly until: number }>()
  const dropOld = (): void => {
    for (const [key, { until }] of issued) if (until < clock.now()) issued.delete(key)
  }
  return {
    issue(what) {
      dropOld()
      if (issued.size >= TICKETS_MAX)
        throw new CloudError('rate_limited', 'Too many consoles are asked for; ask again in a minute', {
          retryAfterSeconds: TICKET_MS / 1000,
        })
      const ticket = randomBytes(TICKET_BYTES).toString('base64url')
      issued.set(digest(ticket), { what, until: clock.now() + TICKET_MS })
      return ticket
    },
    redeem(ticket) {
      dropOld()
      const key = digest(ticket)
      const found = issued.get(key)
      issued.delete(key)
      return found?.what
    },
  }
}
