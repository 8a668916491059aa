import { CloudError } from './errors.ts'
import { createLanes } from './lanes.ts'

/** How many removed things are remembered; of one removed longer ago no look can still be under way. */
const REMOVED_MAX = 10_000

/**
 * Keeps what is done to one thing in the order it was asked for, and what was removed from coming back: a look whose lease
 * lapsed may still work on what it read before, beside the look that came after it. Ids never come back.
 */
export type Fence = {
  /** Does `work` on a thing after what is under way on it; `conflict` (lost_race) once its removal was asked. */
  write<T>(id: string, work: () => Promise<T>): Promise<T>
  remove(id: string, work: () => Promise<void>): Promise<void>
}

export function createFence(): Fence {
  const lane = createLanes()
  const removed = new Set<string>()
  return {
    write: (id, work) =>
      lane(id, async () => {
        if (removed.has(id))
          throw new CloudError('conflict', 'it was removed meanwhile', { rule: 'lost_race' })
        return await work()
      }),
    remove: (id, work) =>
      lane(id, async () => {
        removed.add(id)
        for (const oldest of removed) {
          if (removed.size <= REMOVED_MAX) break
          removed.delete(oldest)
        }
        await work()
      }),
  }
}
