import { objectId } from '#lib/object-id.ts'
import { timestamp } from '#lib/timestamp.ts'
import type { Resource } from '#engine/resource.ts'

// The scalars of contract section 1.4.

/** What stands for a time that a thing has not come to. */
export const ZERO_TIME = '0001-01-01T00:00:00Z'

/** Milliseconds since 1970 as a timestamp; the zero time when there is none. */
export const timeOf = (ms: number | undefined): string => (ms === undefined ? ZERO_TIME : timestamp(ms))

type Dated = Pick<Resource, 'createdAt' | 'updatedAt' | 'deletedAt'>

export const lifetimeOf = ({ createdAt, updatedAt, deletedAt }: Dated) => ({
  created: timeOf(createdAt),
  updated: timeOf(updatedAt),
  deleted: timeOf(deletedAt),
})

/** Who made what nobody is on record for: the hub itself. */
export const creatorOf = ({ tenant }: Pick<Resource, 'tenant'>) => ({
  id: objectId(tenant),
  type: 'account' as const,
})

/** Seconds of each unit; a year is 365 days. */
const UNITS: ReadonlyMap<string, number> = new Map([
  ['y', 365 * 86_400],
  ['w', 7 * 86_400],
  ['d', 86_400],
  ['h', 3600],
  ['m', 60],
  ['s', 1],
  ['ms', 1e-3],
  ['us', 1e-6],
  ['µs', 1e-6],
  ['ns', 1e-9],
])
const DURATION = /^(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|[smhdwy]))+$/

/** Whole seconds in the largest units that fit: `1h30m`; nothing is `0s`. */
export function durationOf(seconds: number): string {
  let left = Math.round(seconds)
  const parts = (['d', 'h', 'm', 's'] as const).flatMap((unit) => {
    const each = UNITS.get(unit) ?? 1
    const count = Math.floor(left / each)
    left -= count * each
    return count > 0 ? [`${count}${unit}`] : []
  })
  return parts.join('') || '0s'
}

/** The seconds of a duration such as `3d15h10m5s`; undefined for what is none. */
export function secondsOf(text: string): number | undefined {
  if (!DURATION.test(text)) return undefined
  return [...text.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|[smhdwy])/g)].reduce(
    (sum, [, count, unit = '']) => sum + Number(count) * (UNITS.get(unit) ?? 0),
    0,
  )
}
