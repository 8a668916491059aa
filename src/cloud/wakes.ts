import { messageOf } from '#lib/errors.ts'
import { gathered } from '#lib/gathered.ts'
import type { Log } from '#lib/log.ts'
import type { Engine } from '#engine/engine.ts'
import { everythingOf } from '#engine/everything.ts'
import { WAKES_PER_COMMIT_MAX } from '#engine/loop.ts'
import { ALL, type AnyKind, isSettled, type Key, keyOf } from '#engine/resource.ts'
import type { ComputeDriver } from './compute/compute.driver.ts'
import { replica } from './compute/replica.kind.ts'
import { workload } from './compute/workload.kind.ts'
import { vpc } from './network/vpc.kind.ts'

const RETRY_MS = 500
/** What stands on the host agent. */
const ON_HOST = [vpc, workload, replica] as unknown as readonly AnyKind[]

/** Looking at resources because of what happened to the host, beside what changes in the records. */
export type Wakes = {
  /** Once at everything the host has to be brought to again, then after each event of a container; until the signal aborts. */
  follow(signal: AbortSignal): Promise<void>
  /** Looks at once at everything that waits for its next try. */
  retryNow(): Promise<void>
}

export function createWakes(engine: Engine, compute: ComputeDriver, log: Log): Wakes {
  const everything = everythingOf(engine)
  /** Looks at every resource of a kind; goes on trying, since the store may refuse for a while (a full disk). */
  const wakeAll = async (kind: AnyKind, signal: AbortSignal): Promise<void> => {
    while (!signal.aborted) {
      try {
        const keys = (await everything(kind, ALL)).map(keyOf)
        while (keys.length) await engine.wake(...keys.splice(0, WAKES_PER_COMMIT_MAX))
        return
      } catch (error) {
        log.warn('resources could not be woken', { kind: kind.name, error: messageOf(error) })
        await engine.clock.sleep(RETRY_MS, signal).catch(() => {})
      }
    }
  }
  /** Until the host agent answers again. */
  const agentAnswers = async (signal: AbortSignal): Promise<void> => {
    while (!signal.aborted) {
      await engine.clock.sleep(RETRY_MS, signal).catch(() => {})
      const answers = await compute.list(signal).then(
        () => true,
        () => false,
      )
      if (answers) return
    }
  }
  /** Wakes a replica for each thing that happens to its container, for as long as that is told. */
  const hear = async (signal: AbortSignal): Promise<void> => {
    try {
      for await (const events of gathered((stop) => compute.events(stop), signal))
        await engine.wake(...new Set(events.map((it): Key => `replica/${it.id}`)))
    } catch (error) {
      if (!signal.aborted) log.warn('the stream of container events broke', { error: messageOf(error) })
    }
  }
  /** Everything is looked at once somebody listens: what happened before is seen then, and what happens later is told. */
  const followEvents = async (signal: AbortSignal): Promise<void> => {
    while (!signal.aborted) {
      const broken = new AbortController()
      const heard = hear(signal).finally(() => broken.abort())
      const until = AbortSignal.any([signal, broken.signal])
      await agentAnswers(until)
      // Whatever pause it had before its next try: it stands on the host agent.
      for (const kind of ON_HOST) await wakeAll(kind, until)
      await heard
      await agentAnswers(signal)
    }
  }

  return {
    async follow(signal) {
      await Promise.all([wakeAll(vpc as unknown as AnyKind, signal), followEvents(signal)])
    },
    async retryNow() {
      for (const kind of ON_HOST)
        for (const it of await everything(kind, ALL)) if (!isSettled(it)) await engine.wake(keyOf(it))
    },
  }
}
