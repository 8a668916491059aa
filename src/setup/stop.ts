import type { Clock } from '#lib/clock.ts'
import { stopByPidFile, stopProcess } from '#supervise/stop.ts'
import { pidFileOf } from '#supervise/supervisor.ts'
import type { Layout } from './layout.ts'
import { removeStatus, runningParent } from './parent.ts'

/** The parent stops three programs after each other. */
const PARENT_SECONDS_MAX = 90
const PROGRAM_SECONDS_MAX = 20

/**
 * Ends the parent and with it the processes, then what a dead parent left; the container engine runs on. True when there
 * was anything to end.
 */
export async function stopAll(layout: Layout, clock: Clock): Promise<boolean> {
  const parent = runningParent(layout.run)
  if (parent) await stopProcess(parent.parent, PARENT_SECONDS_MAX, clock)
  let stopped = parent !== undefined
  for (const name of ['cloud', 'edge', 'agent']) {
    stopped = (await stopByPidFile(pidFileOf(layout.run, name), PROGRAM_SECONDS_MAX, clock)) || stopped
  }
  removeStatus(layout.run)
  return stopped
}
