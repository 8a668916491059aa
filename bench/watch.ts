import { createInterface } from 'node:readline'
import { Readable } from 'node:stream'
import type { ReadableStream } from 'node:stream/web'
import type { TestCloud } from '../test/e2e/cloud.testing.ts'
import { bearer } from './cloud.ts'

const WAIT_MS_MAX = 120_000

type Change = {
  readonly id: string
  readonly what: string
  readonly resource?: { readonly status: { readonly state: string } }
}

/** The moments (of `performance.now`) at which pods came to run and went, as the change feed told them. */
export type PodWatch = AsyncDisposable & {
  running(id: string): Promise<number>
  gone(id: string): Promise<number>
}

/** Follows a tenant's workloads, so that nobody has to ask again and again. */
export async function watchPods(cloud: TestCloud, tenant: string): Promise<PodWatch> {
  const stop = new AbortController()
  const seen = new Map<string, number>()
  const waiting = new Map<string, (at: number) => void>()
  const note = (key: string): void => {
    const at = performance.now()
    if (!seen.has(key)) seen.set(key, at)
    waiting.get(key)?.(at)
  }
  const answer = await fetch(`${cloud.url}/native/watch?kind=workload`, {
    headers: { ...bearer(cloud.admin.token), 'arcus-tenant': tenant },
    signal: stop.signal,
  })
  if (!answer.ok || !answer.body) throw new Error(`the watch answered ${answer.status}`)
  const stream = Readable.fromWeb(answer.body as ReadableStream)
  const ready = Promise.withResolvers<void>()
  let event = ''
  const lines = createInterface({ input: stream })
  lines.on('error', (error: Error) => ready.reject(error))
  lines.on('line', (line) => {
    if (line.startsWith('event: ')) event = line.slice(7)
    if (event === 'ready') ready.resolve()
    if (event !== 'change' || !line.startsWith('data: ')) return
    const change = JSON.parse(line.slice(6)) as Change
    if (change.what === 'removed') note(`gone ${change.id}`)
    else if (change.resource?.status.state === 'running') note(`running ${change.id}`)
  })
  await ready.promise
  const until = async (key: string): Promise<number> => {
    const at = seen.get(key)
    if (at !== undefined) return at
    const { promise, resolve, reject } = Promise.withResolvers<number>()
    const late = setTimeout(() => reject(new Error(`waited in vain: ${key}`)), WAIT_MS_MAX)
    waiting.set(key, resolve)
    return await promise.finally(() => clearTimeout(late))
  }
  return {
    running: (id) => until(`running ${id}`),
    gone: (id) => until(`gone ${id}`),
    async [Symbol.asyncDispose]() {
      stop.abort()
      await Promise.resolve()
    },
  }
}
