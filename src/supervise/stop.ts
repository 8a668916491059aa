import { rmSync } from 'node:fs'
import type { Clock } from '#lib/clock.ts'
import { type Identity, isRunning, readPidFile, signalTo } from './identity.ts'

const POLL_MS = 50
/** How long the kernel may take to end a killed process before we give up on it. */
const KILL_SECONDS_MAX = 10

async function endsWithin(it: Identity, seconds: number, clock: Clock): Promise<boolean> {
  const signal = new AbortController().signal
  for (const until = clock.now() + seconds * 1000; isRunning(it);) {
    if (clock.now() >= until) return false
    await clock.sleep(POLL_MS, signal)
  }
  return true
}

/** Asks a process to end, and ends it after `secondsMax`. Throws when even that does not help. */
export async function stopProcess(it: Identity, secondsMax: number, clock: Clock): Promise<void> {
  signalTo(it, 'SIGTERM')
  if (await endsWithin(it, secondsMax, clock)) return
  signalTo(it, 'SIGKILL')
  if (await endsWithin(it, KILL_SECONDS_MAX, clock)) return
  throw new Error(`process ${it.pid} did not end, not even killed`)
}

/** Stops the process of a pid file, if it runs, and removes the file. True when there was one to stop. */
export async function stopByPidFile(path: string, secondsMax: number, clock: Clock): Promise<boolean> {
  const found = readPidFile(path)
  if (found) await stopProcess(found.identity, secondsMax, clock)
  rmSync(path, { force: true })
  return found !== undefined
}
