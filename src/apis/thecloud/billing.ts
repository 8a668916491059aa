import Type, { type Static } from 'typebox'
import type { Interval } from '#cloud/cloud.ts'
import { type Frame, operation } from './operation.ts'
import { timestamp, Timestamp, Uuid } from './schema.ts'
import { tenantId } from './users.ts'

/** Dollars for a minute of one (contract B19). */
const MINUTE_PRICES = { replica: 0.01, address: 0 } as const
const MINUTE_MS = 60_000
const RECORDS_MAX = 1000
/** Money is told to the millionth of a dollar. */
const MONEY_SCALE = 1_000_000

const Summary = Type.Object({
  user_id: Uuid,
  total_amount: Type.Number(),
  currency: Type.String(),
  usage_by_type: Type.Record(Type.String(), Type.Number(), { description: 'Dollars by category.' }),
  period_start: Timestamp,
  period_end: Timestamp,
})
const UsageRecord = Type.Object({
  id: Uuid,
  user_id: Uuid,
  tenant_id: Uuid,
  resource_id: Uuid,
  resource_type: Type.String(),
  quantity: Type.Number(),
  unit: Type.String(),
  start_time: Timestamp,
  end_time: Timestamp,
})
const Period = {
  start: Type.Optional(Type.String({ description: 'RFC 3339; the first of this month unless told.' })),
  end: Type.Optional(Type.String({ description: 'RFC 3339; now unless told.' })),
}

/** The calendar month that a moment is in, until then; a value that is no time counts as absent. */
function periodOf(query: { readonly start?: string; readonly end?: string }, now: number) {
  const read = (text: string | undefined, otherwise: number): number => {
    const at = Date.parse(text ?? '')
    return Number.isNaN(at) ? otherwise : at
  }
  const today = new Date(now)
  const from = read(query.start, Date.UTC(today.getUTCFullYear(), today.getUTCMonth()))
  return { from, to: Math.max(from, Math.min(read(query.end, now), now)) }
}

type Period = ReturnType<typeof periodOf>

/** Minutes of an interval that lie in a period. */
const minutesOf = (it: Interval, { from, to }: Period): number =>
  Math.max(0, Math.min(it.to ?? to, to) - Math.max(it.from, from)) / MINUTE_MS

const money = (amount: number): number => Math.round(amount * MONEY_SCALE) / MONEY_SCALE

/** What intervals cost within a period, in dollars by category. */
export function costsOf(intervals: readonly Interval[], period: Period): Record<string, number> {
  const costs = { compute: 0, storage: 0, database: 0 }
  for (const it of intervals) costs.compute += minutesOf(it, period) * MINUTE_PRICES[it.of.what]
  return Object.fromEntries(Object.entries(costs).map(([category, amount]) => [category, money(amount)]))
}

const RESOURCE_TYPES = { replica: 'INSTANCE', address: 'NETWORK' } as const

const encode = (
  it: Interval,
  period: Period,
  { user, tenant }: { readonly user: string; readonly tenant: string },
): Static<typeof UsageRecord> => {
  const type = RESOURCE_TYPES[it.of.what]
  return {
    // One thing has one interval of a type at a time: its own id, the moment in the place of random bits.
    id: `${it.subject.slice(0, 24)}${(it.from % 2 ** 48).toString(16).padStart(12, '0')}`,
    user_id: user,
    tenant_id: tenantId(tenant),
    resource_id: it.subject,
    resource_type: type,
    quantity: minutesOf(it, period),
    unit: 'minutes',
    start_time: timestamp(Math.max(it.from, period.from)),
    end_time: timestamp(Math.min(it.to ?? period.to, period.to)),
  }
}

const common = { tag: 'Billing', tenancy: 'optional' as const, query: Period }

export function billingRoutes(frame: Frame): void {
  const { cloud, clock } = frame
  operation(frame, {
    ...common,
    method: 'GET',
    path: '/billing/summary',
    id: 'getBillingSummary',
    summary: 'What the tenant owes for a period; this calendar month unless told',
    answer: Summary,
    async run({ caller, query }) {
      const period = periodOf(query, clock.now())
      const costs = costsOf(await cloud.intervals(caller, period), period)
      return {
        user_id: caller.subject,
        total_amount: money(Object.values(costs).reduce((sum, it) => sum + it, 0)),
        currency: 'USD',
        usage_by_type: costs,
        period_start: timestamp(period.from),
        period_end: timestamp(period.to),
      }
    },
  })
  operation(frame, {
    ...common,
    method: 'GET',
    path: '/billing/usage',
    id: 'listUsage',
    summary: 'What was in use when, newest first',
    answer: Type.Array(UsageRecord),
    async run({ caller, query }) {
      const period = periodOf(query, clock.now())
      const intervals = await cloud.intervals(caller, period)
      const of = { user: caller.subject, tenant: caller.tenant }
      return intervals
        .toReversed()
        .slice(0, RECORDS_MAX)
        .map((it) => encode(it, period, of))
    },
  })
}
