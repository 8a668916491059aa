import type { Clock } from '#lib/clock.ts'
import { messageOf } from '#lib/errors.ts'
import { linesOf } from '#lib/lines.ts'
import type { Log } from '#lib/log.ts'
import { LABEL } from './container.ts'
import type { DockerApi, DockerEvent } from './docker.ts'

const RECONNECT = { firstMs: 100, maxMs: 2000 } as const
/** How long a Docker that is there may take to say so. */
export const PING_MS = 5000
const EVENTS = [
  'create',
  'start',
  'die',
  'destroy',
  'health_status',
  'oom',
  'pause',
  'unpause',
  'update',
  'rename',
]

export type Session = {
  /** Counts the times that Docker answered again; undefined while it is away. What was seen holds within one. */
  current(): number | undefined
  /**
   * Asks Docker anew whether it is still there, and ends the session when not. A daemon that is shutting down still serves
   * connections that are open: it stops containers, and what is started then is lost to it.
   */
  confirm(): Promise<boolean>
  /** Waits for Docker to answer; false when it does not in time. */
  opened(timeoutMs: number, signal: AbortSignal): Promise<boolean>
}

/** Follows Docker's events for as long as the signal lasts, connecting again when the connection breaks. */
export function followDocker(
  api: DockerApi,
  how: {
    readonly instance: string
    readonly clock: Clock
    readonly log: Log
    /**
     * Forgets what was seen of Docker before and looks at everything; the session counts as open when it ends, and does not
     * open when it fails.
     */
    onOpen(): Promise<void>
    onOpened(): void
    onEvent(event: DockerEvent): void
  },
  signal: AbortSignal,
): Session {
  let count = 0
  let current: number | undefined
  let opening = Promise.withResolvers<void>()
  const close = (): void => {
    if (current === undefined) return
    current = undefined
    opening = Promise.withResolvers()
  }

  let drop = new AbortController()
  const once = async (): Promise<void> => {
    drop = new AbortController()
    await api.ping(PING_MS)
    const filters = { type: ['container'], label: [`${LABEL.instance}=${how.instance}`], event: EVENTS }
    const stream = await api.events(filters, AbortSignal.any([signal, drop.signal]))
    stream.on('error', () => {})
    await how.onOpen()
    current = ++count
    opening.resolve()
    how.onOpened()
    for await (const line of linesOf(stream)) if (line) how.onEvent(JSON.parse(line) as DockerEvent)
  }
  const follow = async (): Promise<void> => {
    let failures = 0
    while (!signal.aborted) {
      const before = count
      const error = await once().catch((it: unknown) => it)
      // Also of one that did not open: Docker would go on telling events that nobody reads.
      drop.abort()
      close()
      if (signal.aborted) return
      failures = count > before ? 0 : failures + 1
      if (failures <= 1) how.log.warn('docker is away', { error: error ? messageOf(error) : 'events ended' })
      await how.clock
        .sleep(Math.min(RECONNECT.firstMs * 2 ** Math.min(failures, 10), RECONNECT.maxMs), signal)
        .catch(() => {})
    }
  }
  follow().catch((error: unknown) => how.log.error('following docker failed', { error }))

  let confirming: Promise<boolean> | undefined
  const confirm = async (): Promise<boolean> => {
    const before = current
    if (before === undefined) return false
    try {
      await api.ping(PING_MS)
      return current === before
    } catch {
      // It still holds our connection and takes no new ones: as good as gone.
      drop.abort()
      if (current === before) close()
      return false
    }
  }

  return {
    current: () => current,
    confirm: () => {
      confirming ??= confirm().finally(() => {
        confirming = undefined
      })
      return confirming
    },
    async opened(timeoutMs, stop) {
      if (current !== undefined) return true
      const waited = new AbortController()
      const late = how.clock.sleep(timeoutMs, AbortSignal.any([stop, waited.signal])).catch(() => {})
      await Promise.race([opening.promise, late])
      waited.abort()
      return current !== undefined
    },
  }
}
