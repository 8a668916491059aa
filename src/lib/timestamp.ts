const DAY_MS = 86_400_000
const two = Array.from({ length: 60 }, (_, it) => String(it).padStart(2, '0'))

/** The day that was written last: most moments of an answer are of one or few. */
let last = { day: Number.NaN, text: '' }

/** A moment in milliseconds since 1970 as ISO 8601 in UTC, as `Date` writes it; throws `RangeError` for what is no number of a day that there is. */
export function timestamp(ms: number): string {
  const whole = Math.trunc(ms)
  const day = Math.floor(whole / DAY_MS)
  if (day !== last.day) last = { day, text: new Date(day * DAY_MS).toISOString().slice(0, -13) }
  const rest = whole - day * DAY_MS
  const seconds = Math.floor(rest / 1000)
  const minutes = Math.floor(seconds / 60)
  const [hour, minute, second] = [two[Math.floor(minutes / 60)], two[minutes % 60], two[seconds % 60]]
  return `${last.text}${hour}:${minute}:${second}.${String(rest % 1000).padStart(3, '0')}Z`
}
