import type { Socket } from 'node:net'
import { type Asker, Connection, type ConnectionOptions, lateError, type Request } from './connection.ts'

/** Kept connections to one origin. */
export type Pool = {
  /** Over a kept connection, a new one, or, when there are too many, the next that gets free in the time for an answer. */
  ask(request: Request, asker: Asker): void
  /** Ends what is late, and what was not used for long. */
  look(): void
  /** Lets go of connections as they get free; what was asked is still answered. */
  leave(): void
  /** After `leave`: all is over. */
  isGone(): boolean
  /** Breaks off everything. */
  destroy(): void
}

/** One that rested for longer is looked at first: what came meanwhile, its end above all, is read before it is used. */
const RESTED_MS = 20

export function createPool(
  options: ConnectionOptions & {
    readonly connectionsMax: number
    readonly dial: () => Promise<Socket>
  },
): Pool {
  const all = new Set<Connection>()
  let idle: Connection[] = []
  /** Longest first. */
  const waiting: { readonly request: Request; readonly asker: Asker; readonly until: number }[] = []
  let dialled = 0
  let isLeaving = false
  let isOver = false

  const askNext = (): void => {
    const next = waiting.shift()
    if (next) ask(next.request, next.asker)
  }
  const on = {
    rest(it: Connection): void {
      if (isLeaving && !waiting.length) return it.destroy()
      idle.push(it)
      askNext()
    },
    close(it: Connection): void {
      all.delete(it)
      askNext()
    },
  }
  const open = async (request: Request, asker: Asker): Promise<void> => {
    dialled++
    const socket = await options.dial().catch((error: unknown) => error as Error)
    dialled--
    if (socket instanceof Error) {
      asker.fail(socket)
      return askNext()
    }
    const it = new Connection(socket, options, on)
    all.add(it)
    it.ask(request, asker)
    if (isOver) it.destroy()
  }
  const takeIdle = (now: number): Connection | undefined => {
    for (let it = idle.pop(); it; it = idle.pop()) {
      if (it.isUsable(now)) return it
      it.destroy()
    }
    return undefined
  }
  const ask = (request: Request, asker: Asker): void => {
    if (isOver) return asker.fail(new Error('the edge stops'))
    const now = options.now()
    const it = takeIdle(now)
    if (it && it.restedMs(now) <= RESTED_MS) return it.ask(request, asker)
    if (it) return void setImmediate(() => (it.isUsable(now) ? it : { ask }).ask(request, asker))
    if (all.size + dialled < options.connectionsMax) void open(request, asker)
    else waiting.push({ request, asker, until: now + options.limits.answerMsMax })
  }

  return {
    ask,
    look() {
      for (const it of all) it.look()
      const now = options.now()
      idle = idle.filter((it) => it.isUsable(now))
      const isInTime = waiting.findIndex((it) => now < it.until)
      const late = waiting.splice(0, isInTime < 0 ? waiting.length : isInTime)
      for (const { asker } of late) asker.fail(lateError('no connection got free in time'))
    },
    leave() {
      isLeaving = true
      for (const it of idle.splice(0)) it.destroy()
    },
    isGone: () => all.size + dialled + waiting.length === 0,
    destroy() {
      isOver = true
      for (const it of all) it.destroy()
      for (const { asker } of waiting.splice(0)) asker.fail(new Error('the edge stops'))
    },
  }
}
