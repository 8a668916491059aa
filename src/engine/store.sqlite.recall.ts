import type { Recall } from './store.ts'

/** Rows remembered by one recall at most; then it begins anew. */
const ROWS_MAX = 2048

/**
 * A number that the writing and the reading thread share. It is odd while a transaction becomes visible and moves with
 * each: as long as it is the same even number, every read gives what it gave before.
 */
export type Moment = Int32Array<SharedArrayBuffer>

export const newMoment = (): Moment => new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT))

/** For the reader: the number, while it is even. */
export function quietly(moment: Moment): number | undefined {
  const now = Atomics.load(moment, 0)
  return now % 2 === 0 ? now : undefined
}

/** For the writer: makes a transaction visible. */
export function passing(moment: Moment, commit: () => void): void {
  Atomics.add(moment, 0, 1)
  try {
    commit()
  } finally {
    Atomics.add(moment, 0, 1)
  }
}

/**
 * For the reader: gives the row of a key from memory where no transaction became visible since it was read, so exactly
 * what the database would give now. That there is none is not remembered, nor what is not `worth` it. Rows are shared:
 * nobody may change them.
 */
export function openRecall<Row extends object>(
  moment: Moment,
  worth: (row: Row) => boolean = () => true,
): (key: string, read: () => Row | undefined) => Row | undefined {
  const rows = new Map<string, Row>()
  let of = Atomics.load(moment, 0)
  return (key, read) => {
    const now = Atomics.load(moment, 0)
    if (now !== of) {
      rows.clear()
      of = now
    }
    const known = rows.get(key)
    if (known) return known
    const row = read()
    // What was read while a transaction became visible, or before one did, may be from before it.
    if (row && worth(row) && now % 2 === 0 && Atomics.load(moment, 0) === now) {
      if (rows.size >= ROWS_MAX) rows.clear()
      rows.set(key, row)
    }
    return row
  }
}

/**
 * The same of what several reads come to: remembered when no transaction became visible from the first of them to the
 * last, and given for as long as none does.
 */
export function openLateRecall<Found extends object>(moment: Moment): Recall<Found> {
  const all = new Map<string, Found>()
  let of = Atomics.load(moment, 0)
  return async (key, read) => {
    const now = Atomics.load(moment, 0)
    if (now !== of) {
      all.clear()
      of = now
    }
    const known = all.get(key)
    if (known) return known
    const found = await read()
    if (found && now % 2 === 0 && Atomics.load(moment, 0) === now) {
      if (all.size >= ROWS_MAX) all.clear()
      all.set(key, found)
    }
    return found
  }
}
