import type { KindEvent } from '#engine/kind.ts'
import type { Resource } from '#engine/resource.ts'

/** What an event of the words in `InsideEvent` carries: what it was and is, and whom it concerns, as far as is known. */
export type EventBody = {
  readonly from?: unknown
  readonly to?: unknown
  readonly message?: string
  readonly vpcs?: readonly string[]
  readonly workloads?: readonly string[]
  /** What it is about within its subject: a service, an identifier, a replica, a hostname. */
  readonly of?: string
}

/** The words of one; `from` and `to` are left out where they are undefined. */
export const event = (what: string, subject: string, body: EventBody): KindEvent => ({ what, subject, body })

/** Whether a change made, took away or replaced something, a mark for deletion taken for its end. */
export function turnOf<R extends Resource>(
  before: R | undefined,
  after: R | undefined,
): { readonly from: R | undefined; readonly to: R | undefined; readonly isWish: boolean } {
  const live = (it: R | undefined): R | undefined => (it?.deletedAt === undefined ? it : undefined)
  const [from, to] = [live(before), live(after)]
  return { from, to, isWish: from?.generation !== to?.generation }
}

type Stated = { readonly status: { readonly state: string } }
/** `from` and `to` of the state, as far as there are any. */
export const changedState = (
  from: Stated | undefined,
  to: Stated | undefined,
): { readonly from?: string; readonly to?: string } => ({
  ...(from ? { from: from.status.state } : {}),
  ...(to ? { to: to.status.state } : {}),
})

/** `from` and `to` of one field of the wish, as far as there are any. */
export const changed = <F extends string>(
  from: { readonly spec: { readonly [K in F]?: unknown } } | undefined,
  to: { readonly spec: { readonly [K in F]?: unknown } } | undefined,
  field: F,
): { readonly from?: unknown; readonly to?: unknown } => ({
  ...(from?.spec[field] === undefined ? {} : { from: from.spec[field] }),
  ...(to?.spec[field] === undefined ? {} : { to: to.spec[field] }),
})
