import type { Engine } from '#engine/engine.ts'
import { authorise, type Caller } from './access.ts'
import type { Auditor, Drivers } from './observe/audit.ts'
import type { Leak } from './observe/compare.ts'
import { createHealth, type Health } from './observe/health.ts'

/** What whoever runs the installation asks of it. */
export type Operations = {
  /** What the cloud stands on: whether it answers, and what the network lacks (undefined when it does not answer). */
  health(): Promise<Health>
  /** Differences between records and reality, in words, with what will mend each; administrators only. */
  leaks(caller: Caller, signal: AbortSignal): Promise<readonly Leak[]>
  /**
   * An audit now: puts right what can be, without waiting for the next; gives what it found. Throws why the first that
   * cannot be put right was not, after all the others. Administrators only.
   */
  mend(caller: Caller, signal: AbortSignal): Promise<readonly Leak[]>
  /** Sentences naming what the host lacks; administrators only. */
  missing(caller: Caller, signal: AbortSignal): Promise<readonly string[]>
}

export const createOperations = (engine: Engine, drivers: Drivers, auditor: Auditor): Operations => ({
  health: createHealth(engine, drivers),
  async leaks(caller, signal) {
    authorise(caller, 'operate', 'installation:read')
    return await auditor.look(signal)
  },
  async mend(caller, signal) {
    authorise(caller, 'operate', 'installation:update')
    const { leaks, keys, failures } = await auditor.pass(signal)
    for (const key of keys) await engine.wake(key)
    if (failures.length) throw failures[0]
    return leaks
  },
  async missing(caller, signal) {
    authorise(caller, 'operate', 'installation:read')
    return [
      ...(await drivers.network.missing(signal)),
      ...(await drivers.compute.missing(signal)),
      ...(await drivers.front.missing(signal)),
    ]
  },
})
