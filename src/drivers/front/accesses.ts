import type { Access } from '#cloud/edge/front.driver.ts'

/** An access as it is noted: what is not known is undefined, and left out where it is read. */
export type Noted = { readonly [name in keyof Omit<Access, 'cursor'>]: Access[name] | undefined }

const PAGE_MAX = 1000

/** The last accesses, a bounded number of them; a cursor says up to where a reader has read. */
export type Accesses = {
  add(access: Noted): void
  /**
   * Those after the cursor, oldest first. One that is not of this run, or whose next is gone, starts at the oldest kept.
   * What is before a cursor was taken: without one, a reader that was started anew goes on with what is left.
   */
  after(
    cursor: string | undefined,
    limit: number,
  ): { readonly entries: readonly Access[]; readonly cursor: string }
}

/** @param run tells this run of the edge from others: cursors begin with it. */
export function createAccesses(run: string, entriesMax: number): Accesses {
  const ring: (Noted | undefined)[] = []
  let total = 0
  let taken = 0
  return {
    add(access) {
      ring[total++ % entriesMax] = access
    },
    after(cursor, limit) {
      const [of, at] = (cursor ?? '').split('.')
      const oldest = Math.max(0, total - entriesMax)
      const read = of === run && /^\d+$/.test(at ?? '') ? Number(at) : 0
      taken = Math.min(Math.max(taken, read), total)
      const from = Math.min(Math.max(cursor === undefined ? taken : read, oldest), total)
      const to = Math.min(total, from + Math.min(limit, PAGE_MAX))
      const entries: Access[] = []
      for (let it = from; it < to; it++) {
        const access = ring[it % entriesMax]
        if (!access) continue
        const known = Object.fromEntries(Object.entries(access).filter(([, value]) => value !== undefined))
        entries.push({ cursor: `${run}.${it + 1}`, ...known } as Access)
      }
      return { entries, cursor: `${run}.${to}` }
    },
  }
}
