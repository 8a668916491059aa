import { isCloudError } from '#lib/errors.ts'
import type { Logs } from '#cloud/observe/logs.ts'
import type { ComputeDriver } from './compute.driver.ts'
import type { Replica } from './replica.kind.ts'

/** Lines of an instance's console that are kept when it goes, the newest ones. */
const LINES_KEPT_MAX = 1000

/** Copies what the console of an instance shows to its tenant's stored logs, where it outlives the instance. */
export type LastWords = (it: Replica, signal: AbortSignal) => Promise<void>

export const createLastWords =
  (compute: ComputeDriver, logs: Logs): LastWords =>
  async (it, signal) => {
    try {
      for await (const { at, line } of compute.logs(it.id, { tail: LINES_KEPT_MAX }, signal))
        logs.keep(it.tenant, {
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
