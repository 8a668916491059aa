import type { Readable } from 'node:stream'
import type { Clock } from '#lib/clock.ts'
import type { FrontLimits } from './limits.ts'

/** Why a client's body ended before its end. */
export class BodyFault extends Error {
  override readonly name = 'BodyFault'
  readonly kind: 'long' | 'slow' | 'gone'
  constructor(kind: 'long' | 'slow' | 'gone') {
    super(`the request's body is too ${kind}`)
    this.kind = kind
  }
}

type Watched = {
  /** Since when it is waited for; undefined while it is not. */
  since: number | undefined
  waitedMs: number
  bytes: number
  readonly tooSlow: (waitedMs: number, bytes: number) => boolean
  readonly onSlow: () => void
}

/** Ends what clients send, or read, too slowly. Only the time in which we wait for them counts. */
export type Watch = {
  /** The body in pieces. Throws BodyFault when it is too long, too slow or not whole. */
  body(from: Readable, count: (bytes: number) => void): AsyncGenerator<Buffer, void, undefined>
  /** Reads a body that nobody wants, so that the connection can go on; calls `onFault` when it is too long or slow. */
  discard(from: Readable, onFault: () => void): void
  /** Calls `onSlow` unless the answer goes on in time; the function that is given back says that it does. */
  stalled(onSlow: () => void): () => void
  close(): Promise<void>
}

export function createWatch(clock: Clock, limits: FrontLimits): Watch {
  const watched = new Set<Watched>()
  const closing = new AbortController()
  const look = (): void => {
    for (const it of watched) {
      if (it.since === undefined) continue
      const waitedMs = it.waitedMs + clock.now() - it.since
      if (it.tooSlow(waitedMs, it.bytes)) {
        watched.delete(it)
        it.onSlow()
      }
    }
  }
  const run = async (): Promise<void> => {
    while (!closing.signal.aborted) {
      await clock.sleep(limits.sweepMs, closing.signal).catch(() => {})
      look()
    }
  }
  const running = run()

  const tooSlow = (waitedMs: number, bytes: number): boolean =>
    waitedMs > limits.trickleMsMax && bytes < (limits.bodyBytesPerSecondMin * waitedMs) / 1000

  const watch: Watch = {
    async *body(from, count) {
      let total = 0
      let fail: (error: Error) => void = () => {}
      const slow = new Promise<never>((_, reject) => (fail = reject))
      slow.catch(() => {})
      const it: Watched = {
        since: undefined,
        waitedMs: 0,
        bytes: 0,
        tooSlow,
        onSlow: () => fail(new BodyFault('slow')),
      }
      watched.add(it)
      const chunks = from.iterator({ destroyOnReturn: false }) as AsyncIterator<Buffer>
      try {
        for (;;) {
          it.since = clock.now()
          const next = await Promise.race([chunks.next(), slow]).catch((error: unknown) => {
            throw error instanceof BodyFault ? error : new BodyFault('gone')
          })
          it.waitedMs += clock.now() - it.since
          it.since = undefined
          if (next.done) return
          it.bytes += next.value.length
          total += next.value.length
          count(next.value.length)
          if (total > limits.bodyBytesMax) throw new BodyFault('long')
          yield next.value
        }
      } finally {
        watched.delete(it)
        // Lets others read what is left; not waited for, since it may be waiting itself.
        chunks.return?.().catch(() => {})
      }
    },
    discard(from, onFault) {
      if (from.readableEnded || from.destroyed) return
      void (async () => {
        for await (const _ of watch.body(from, () => {}));
      })().catch(onFault)
    },
    stalled(onSlow) {
      const since = clock.now()
      const isTooSlow = (waitedMs: number): boolean => waitedMs > limits.stalledMsMax
      const it: Watched = { since, waitedMs: 0, bytes: 0, tooSlow: isTooSlow, onSlow }
      watched.add(it)
      return () => void watched.delete(it)
    },
    async close() {
      closing.abort()
      await running
    },
  }
  return watch
}
