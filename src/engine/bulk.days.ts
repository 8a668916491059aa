import { readdirSync } from 'node:fs'

const DAY_MS = 86_400_000
const SUFFIX = '.sqlite'

/** The day of a moment, as it names a file. */
export const dayOf = (at: number): string => new Date(at).toISOString().slice(0, 10)
/** The name of the file that has what a class of bulk records got on a day. */
export const fileOf = (className: string, day: string): string => `${className}-${day}${SUFFIX}`
/** First moment of a day, and the first after it. */
export const spanOf = (day: string): { readonly from: number; readonly to: number } => ({
  from: Date.parse(day),
  to: Date.parse(day) + DAY_MS,
})

/** The days that a class has files of in a folder, in order. */
export function daysOf(directory: string, className: string): string[] {
  const prefix = `${className}-`
  return readdirSync(directory)
    .filter((name) => name.startsWith(prefix) && name.endsWith(SUFFIX))
    .map((name) => name.slice(prefix.length, -SUFFIX.length))
    .filter((day) => /^\d{4}-\d\d-\d\d$/.test(day))
    .toSorted()
}

/** Those of them that were over at a moment. */
export const daysOver = (directory: string, className: string, before: number): string[] =>
  daysOf(directory, className).filter((day) => spanOf(day).to <= before)
