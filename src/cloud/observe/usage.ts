import { CloudError } from '#lib/errors.ts'
import type { Engine } from '#engine/engine.ts'
import type { StoredRecord } from '#engine/store.ts'
import { type AddressUsage, type ReplicaClass, USAGE, type UsageWord } from './usage.kind.ts'

const RECORDS_PER_PAGE = 1000
const PAGES_MAX = 1000

/** One thing in use: `to` is absent while it goes on. Milliseconds since 1970. */
export type Interval = {
  readonly subject: string
  readonly from: number
  readonly to?: number
  readonly of:
    | ({ readonly what: 'replica' } & ReplicaClass)
    | { readonly what: 'address'; readonly address: string }
}

/** What was used within a period, in whole milliseconds; the last moment is not part of it. */
export type Usage = {
  readonly from: number
  readonly to: number
  /** By class, the smallest first. */
  readonly replicas: readonly (ReplicaClass & { readonly milliseconds: number })[]
  readonly externalAddresses: { readonly milliseconds: number }
}

const OPENS: Partial<Record<string, (body: unknown) => Interval['of']>> = {
  [USAGE.replicaOpened]: (body) => ({ what: 'replica', ...(body as ReplicaClass) }),
  [USAGE.addressOpened]: (body) => ({ what: 'address', ...(body as AddressUsage) }),
}
const CLOSES: Partial<Record<string, UsageWord>> = {
  [USAGE.replicaClosed]: USAGE.replicaOpened,
  [USAGE.addressClosed]: USAGE.addressOpened,
}

/** The intervals that records, oldest first, tell of. */
export function intervalsOf(records: readonly StoredRecord[]): Interval[] {
  const open = new Map<string, Interval>()
  const closed: Interval[] = []
  for (const { subject = '', what, at, body } of records) {
    const of = OPENS[what]?.(body)
    if (of) open.set(`${what}/${subject}`, { subject, from: at, of })
    const key = `${CLOSES[what]}/${subject}`
    const it = open.get(key)
    if (it) closed.push({ ...it, to: at })
    open.delete(key)
  }
  return [...closed, ...open.values()]
}

/** What the intervals come to between two moments, the first included and the last not. */
export function sum(intervals: readonly Interval[], from: number, to: number): Usage {
  const classes = new Map<string, ReplicaClass & { milliseconds: number }>()
  let addresses = 0
  for (const it of intervals) {
    const milliseconds = Math.min(it.to ?? to, to) - Math.max(it.from, from)
    if (milliseconds <= 0) continue
    if (it.of.what === 'address') {
      addresses += milliseconds
      continue
    }
    const { cpuMillicores, memoryMib } = it.of
    const key = `${cpuMillicores}/${memoryMib}`
    const had = classes.get(key)?.milliseconds ?? 0
    classes.set(key, { cpuMillicores, memoryMib, milliseconds: had + milliseconds })
  }
  const replicas = [...classes.values()].toSorted(
    (a, b) => a.cpuMillicores - b.cpuMillicores || a.memoryMib - b.memoryMib,
  )
  return { from, to, replicas, externalAddresses: { milliseconds: addresses } }
}

/** Intervals of a tenant (or ALL) that touch a period, oldest first. */
export async function intervalsBetween(
  engine: Engine,
  tenant: string,
  from: number,
  to: number,
): Promise<Interval[]> {
  return intervalsOf(await usageRecords(engine, tenant))
    .filter((it) => it.from < to && (it.to ?? Infinity) > from)
    .toSorted((a, b) => a.from - b.from)
}

/** What a tenant (or ALL) used between two moments, until now at most; `invalid` when they are the wrong way round. */
export async function usageOf(engine: Engine, tenant: string, from: number, until: number): Promise<Usage> {
  const to = Math.min(until, engine.clock.now())
  if (from > to) throw new CloudError('invalid', 'must not be after the end', { field: 'from' })
  return sum(intervalsOf(await usageRecords(engine, tenant)), from, to)
}

async function usageRecords(engine: Engine, tenant: string): Promise<StoredRecord[]> {
  const records: StoredRecord[] = []
  let after: string | undefined
  for (let page = 0; ; page++) {
    if (page === PAGES_MAX)
      throw new CloudError('unavailable', `more than ${PAGES_MAX * RECORDS_PER_PAGE} usage records to add up`)
    const found = await engine.store.records({
      stream: 'usage',
      tenant,
      limit: RECORDS_PER_PAGE,
      ...(after === undefined ? {} : { after }),
    })
    records.push(...found.records)
    if (found.next === undefined) break
    after = found.next
  }
  return records
}
