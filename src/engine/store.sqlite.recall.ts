import type { Recall } from './store.ts'

/** Rows remembered by one recall at most; then it begins anew. */
const ROWS_MAX = 2048

/**
 * Numbers that the writing and the reading thread share. Each is odd while a transaction becomes visible and moves with
 * it: the first with every one, the others with those that change something of a name. As long as it is the same even
 * number, every read of what it stands for gives what it gave before.
 */
export type Moment = Int32Array<SharedArrayBuffer>

const EVERYTHING = 0
/** Names that share a number move together, which only forgets more; there are some sixty. */
const NUMBERS = 1024

export const newMoment = (): Moment =>
  new Int32Array(new SharedArrayBuffer(NUMBERS * Int32Array.BYTES_PER_ELEMENT))

function numberOf(name: string): number {
  let hash = 0
  for (let at = 0; at < name.length; at++) hash = (hash * 31 + name.charCodeAt(at)) >>> 0
  return 1 + (hash % (NUMBERS - 1))
}

/** For the reader: the number that moves with everything, while it is even. */
export function quietly(moment: Moment): number | undefined {
  const now = Atomics.load(moment, EVERYTHING)
  return now % 2 === 0 ? now : undefined
}

/** For the writer: makes a transaction visible that changes something of these names, kinds of resources and names of pools. */
export function passing(moment: Moment, commit: () => void, names: Iterable<string> = []): void {
  // Each once: a number that moved twice would be even before its time.
  const numbers = new Set([EVERYTHING, ...Array.from(names, numberOf)])
  for (const it of numbers) Atomics.add(moment, it, 1)
  try {
    commit()
  } finally {
    for (const it of numbers) Atomics.add(moment, it, 1)
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
  let of = Atomics.load(moment, EVERYTHING)
  return (key, read) => {
    const now = Atomics.load(moment, EVERYTHING)
    if (now !== of) {
      rows.clear()
      of = now
    }
    const known = rows.get(key)
    if (known) return known
    const row = read()
    // What was read while a transaction became visible, or before one did, may be from before it.
    if (row && worth(row) && now % 2 === 0 && Atomics.load(moment, EVERYTHING) === now) {
      if (rows.size >= ROWS_MAX) rows.clear()
      rows.set(key, row)
    }
    return row
  }
}

/**
 * The same of what several reads come to: remembered when no transaction became visible from the first of them to the
 * last, and given for as long as none does. With `names` those transactions count that changed something of one.
 */
export function openLateRecall<Found extends object>(
  moment: Moment,
  names?: readonly string[],
): Recall<Found> {
  const numbers = names?.map(numberOf) ?? [EVERYTHING]
  const all = new Map<string, Found>()
  let of: readonly number[] = []
  const isStill = (): boolean =>
    of.every((was, at) => Atomics.load(moment, numbers[at] ?? EVERYTHING) === was)
  const begin = (): void => {
    all.clear()
    of = numbers.map((it) => Atomics.load(moment, it))
  }
  begin()
  return async (key, read) => {
    if (!isStill()) begin()
    const known = all.get(key)
    if (known) return known
    const begun = of
    const found = await read()
    if (found && begun === of && begun.every((it) => it % 2 === 0) && isStill()) {
      if (all.size >= ROWS_MAX) all.clear()
      all.set(key, found)
    }
    return found
  }
}
