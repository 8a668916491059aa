import { join } from 'node:path'
import { type Program, startProgram } from './process.ts'

/** A machine that is busy with others may leave a short shot without any answer. */
const TRIES_MAX = 20

export type Shot = {
  readonly url: string
  /** Through this unix socket. */
  readonly socketPath?: string
  readonly method?: 'GET' | 'POST'
  readonly headers?: Readonly<Record<string, string>>
  /** `[<id>]` in it becomes a number of its own in every request. */
  readonly body?: string
  /** Every request has a query or a header of its own, which says nothing: it equals none before it. */
  readonly distinct?: 'query' | 'header' | undefined
  readonly connections: number
  readonly forMs: number
}
export type Hit = {
  /** Requests answered with 2xx. */
  readonly answered: number
  readonly perSecond: number
  readonly latencyP50Ms: number
  readonly latencyP99Ms: number
  /** Requests that were not answered with 2xx. */
  readonly failed: number
}

/** A client in a process of its own, the same one for both sides of a comparison. */
export type Load = AsyncDisposable & {
  /** Throws when any request failed: what is refused is fast. */
  fire(shot: Shot): Promise<Hit>
}

export async function startLoad(): Promise<Load> {
  const program = await startProgram<object>([join(import.meta.dirname, 'load.process.ts')])
  return {
    async fire(shot) {
      for (let tries = 0; tries < TRIES_MAX; tries++) {
        const hit = await program.ask<Hit | { error: string }>(shot)
        if ('error' in hit) throw new Error(hit.error)
        if (hit.failed > 0) throw new Error(`${hit.failed} requests to ${shot.url} failed`)
        if (hit.answered > 0) return hit
      }
      throw new Error(`no request to ${shot.url} was answered`)
    },
    [Symbol.asyncDispose]: async () => await program[Symbol.asyncDispose](),
  }
}

/** Fires and gives requests per second; also how much of one processor the server used meanwhile, and per request. */
export async function fireAt(
  load: Load,
  server: Pick<Program<unknown>, 'cpuSeconds'>,
  shot: Shot,
): Promise<{ readonly hit: Hit; readonly busy: number; readonly cpuMicros: number }> {
  const [since, before] = [performance.now(), server.cpuSeconds()]
  const hit = await load.fire(shot)
  const [seconds, cpu] = [(performance.now() - since) / 1000, server.cpuSeconds() - before]
  return { hit, busy: cpu / seconds, cpuMicros: (cpu * 1e6) / hit.answered }
}
