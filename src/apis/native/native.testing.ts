import { setTimeout as pause } from 'node:timers/promises'
import { systemClock } from '#lib/clock.ts'
import { createIds } from '#lib/ids.ts'
import { silentLog } from '#lib/log.ts'
import { createHttp, type Http, type HttpOptions } from '#apis/http.ts'
import { testCloud, type TestCloud } from '#cloud/cloud.testing.ts'
import { native } from './server.ts'

const PUMP_MS = 5
const STEP_MS = 1000

export type ServedCloud = AsyncDisposable & {
  readonly it: TestCloud
  readonly http: Http
  readonly url: string
  /** One request to the native API, as the token's holder (an administrator unless told). */
  call(
    method: string,
    path: string,
    how?: { body?: unknown; token?: string; headers?: Record<string, string> },
  ): Promise<{ status: number; headers: Headers; body: any }>
  /** From now on everything wished becomes true by itself, on the simulated clock. */
  keepSettling(): void
}

/** A whole cloud with simulated drivers, served on a free port. */
export async function servedCloud(
  how: Parameters<typeof testCloud>[0] & Partial<Pick<HttpOptions, 'dialects' | 'certificate'>> = {},
): Promise<ServedCloud> {
  const it = await testCloud(how)
  const http = await createHttp({
    cloud: it.cloud,
    dialects: how.dialects ?? [native],
    log: silentLog,
    clock: systemClock,
    ids: createIds(systemClock),
    ...(how.certificate ? { certificate: how.certificate } : {}),
  })
  const { url } = await http.listen({ host: '127.0.0.1', port: 0 })
  const stopping = new AbortController()
  let settling: Promise<void> | undefined
  const settle = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      await it.settle(STEP_MS)
      await pause(PUMP_MS)
    }
  }
  return {
    it,
    http,
    url,
    async call(method, path, { body, token = it.credentials.token, headers = {} } = {}) {
      const response = await fetch(`${url}/native${path}`, {
        method,
        headers: {
          ...(token === '' ? {} : { authorization: `Bearer ${token}` }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
        ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
        signal: AbortSignal.timeout(10_000),
      })
      const text = await response.text()
      return {
        status: response.status,
        headers: response.headers,
        body: text === '' ? undefined : JSON.parse(text),
      }
    },
    keepSettling() {
      settling ??= settle()
    },
    async [Symbol.asyncDispose]() {
      stopping.abort()
      await settling
      await http.close()
      await it[Symbol.asyncDispose]()
    },
  }
}
