import { isCloudError } from '#lib/errors.ts'
import type { ComputeDriver } from './compute.driver.ts'
import type { Replica } from './replica.kind.ts'

/** Lines of an instance's console that are kept when it goes, the newest ones. */
const LINES_KEPT_MAX = 1000

/** Keeps a line that outlives what said it; `at` in milliseconds since 1970. */
type KeepLine = (
  tenant: string,
  line: {
    readonly resource: string
    readonly type: string
    readonly level: string
    readonly message: string
    readonly at: number
  },
) => void

/** Copies what the console of an instance shows to its tenant's stored logs, where it outlives the instance. */
export type LastWords = (it: Replica, signal: AbortSignal) => Promise<void>

export const createLastWords =
  (compute: ComputeDriver, keep: KeepLine): LastWords =>
  async (it, signal) => {
    try {
      for await (const { at, line } of compute.logs(it.id, { tail: LINES_KEPT_MAX }, signal))
        keep(it.tenant, {
          resource: it.spec.workload,
          type: 'instance',
          level: 'INFO',
          message: line,
          at,
        })
    } catch (error) {
      // One that never ran said nothing.
      if (!isCloudError(error, 'not_found')) throw error
    }
  }
