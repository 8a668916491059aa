import type { Clock } from '#lib/clock.ts'
import { messageOf } from '#lib/errors.ts'
import { linesOf } from '#lib/lines.ts'
import type { Log } from '#lib/log.ts'
import { LABEL } from './container.ts'
import type { DockerApi, DockerEvent } from './docker.ts'

const RECONNECT = { firstMs: 100, maxMs: 2000 } as const
const PING_MS = 5000
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
  /** Asks Docker anew whether it is still there, as it will not be when it is shutting down. */
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
    onOpen(): void
    onClose(): void
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
    how.onClose()
  }

  const once = async (): Promise<void> => {
    await api.ping(PING_MS)
    const filters = { type: ['container'], label: [`${LABEL.instance}=${how.instance}`], event: EVENTS }
    const stream = await api.events(filters, signal)
    current = ++count
    how.onOpen()
    opening.resolve()
    for await (const line of linesOf(stream)) if (line) how.onEvent(JSON.parse(line) as DockerEvent)
  }
  const follow = async (): Promise<void> => {
    let failures = 0
    while (!signal.aborted) {
      const before = count
      const error = await once().catch((it: unknown) => it)
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

  return {
    current: () => current,
    async confirm() {
      const before = current
      if (before === undefined) return false
      try {
        await api.ping(PING_MS)
      } catch {
        return false
      }
      return current === before
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
