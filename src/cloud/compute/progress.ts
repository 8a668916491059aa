import Type, { type Static } from 'typebox'

/** How far something that is on its way is, in bytes, and when that was seen, in milliseconds since 1970. */
export const Progress = Type.Object({
  doneBytes: Type.Integer({ minimum: 0 }),
  /** Absent where nobody knows it. */
  totalBytes: Type.Optional(Type.Integer({ minimum: 0 })),
  at: Type.Integer(),
})
export type Progress = Static<typeof Progress>

/** Progress is written down this often at most: each time is a durable commit. */
export const PROGRESS_EVERY_MS = 1000
/** Steps in which a message tells of it. */
const STEP_PERCENT = 10

type Seen = { readonly doneBytes: number; readonly totalBytes?: number }

/** What status says of a progress seen now: what it said already while that is younger than PROGRESS_EVERY_MS. */
export function paced(had: Progress | undefined, seen: Seen, now: number): Progress {
  const age = had ? now - had.at : Infinity
  // Also when the clock was set back since.
  if (had && age >= 0 && age < PROGRESS_EVERY_MS) return had
  const { doneBytes, totalBytes } = seen
  return { doneBytes, ...(totalBytes === undefined ? {} : { totalBytes }), at: now }
}

/** `what`, and how much of it is there as far as that is known, in steps that few messages differ by. */
export function progressWords(what: string, seen: Seen | undefined): string {
  if (!seen?.totalBytes) return what
  const percent = (100 * seen.doneBytes) / seen.totalBytes
  return `${what}, ${Math.floor(percent / STEP_PERCENT) * STEP_PERCENT} %`
}

/** Of several that are on their way the one that has least; undefined for none. */
export const behindOf = <S extends Seen>(all: readonly (S | undefined)[]): S | undefined =>
  all
    .filter((it) => it !== undefined)
    .toSorted(
      (a, b) => a.doneBytes / (a.totalBytes ?? Infinity) - b.doneBytes / (b.totalBytes ?? Infinity),
    )[0]
