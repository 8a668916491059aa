import assert from 'node:assert/strict'
import { Agent, type IncomingHttpHeaders, request } from 'node:http'
import { testCloud, type TestCloud } from '#cloud/cloud.testing.ts'
import { createIds } from '#lib/ids.ts'
import { jsonLog, type LogFields } from '#lib/log.ts'
import { DIALECTS } from './dialects.ts'
import { createHttp, type Dialect, type Http, type HttpOptions } from './http.ts'

export type Heard = {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
  // Read field by field in the tests.
  // eslint-disable-next-line typescript/no-explicit-any
  readonly body: any
}

type How = {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: unknown
  /** Of a replica, in the place of the address. */
  readonly socketPath?: string
  /** In the place of the first address. */
  readonly url?: string
  /** Where the connection comes from. */
  readonly localAddress?: string
}

export type Served = AsyncDisposable & {
  readonly world: TestCloud
  readonly http: Http
  readonly url: string
  readonly lines: readonly ({ level: string; message: string } & LogFields)[]
  /** One request over a connection that is kept. */
  ask(path: string, how?: How): Promise<Heard>
  /** How many requests were answered from memory so far. */
  hits(): Promise<number>
}

/** A whole cloud with simulated drivers and clock behind real connections, which are kept. No rates unless told. */
export async function served(
  how: Omit<Partial<HttpOptions>, 'cloud'> & {
    readonly cloud?: Parameters<typeof testCloud>[0]
    readonly dialects?: readonly Dialect[]
  } = {},
): Promise<Served> {
  const { cloud, ...options } = how
  const rates = { perSecond: 0, burst: 0, loginsPerMinute: 0 }
  const world = await testCloud({ ...cloud, settings: { rates, ...cloud?.settings } })
  const lines: Served['lines'][number][] = []
  const http = await createHttp({
    cloud: world.cloud,
    dialects: DIALECTS,
    log: jsonLog('debug', (line) => lines.push(JSON.parse(line) as (typeof lines)[number])),
    clock: world.clock,
    ids: createIds(world.clock),
    ...options,
  })
  const { url } = await http.listen({ host: '127.0.0.1', port: 0 })
  const agent = new Agent({ keepAlive: true })
  const ask: Served['ask'] = async (
    path,
    { method = 'GET', headers = {}, body, socketPath, url: at = url, localAddress } = {},
  ) => {
    const { promise, resolve, reject } = Promise.withResolvers<Heard>()
    const { hostname, port } = new URL(at)
    const text = body === undefined ? undefined : JSON.stringify(body)
    const sent = text === undefined ? headers : { ...headers, 'content-type': 'application/json' }
    const from = localAddress === undefined ? {} : { localAddress }
    const to = socketPath === undefined ? { hostname, port, ...from } : { socketPath }
    const asked = request({ ...to, method, path, headers: sent, agent }, (response) => {
      let heard = ''
      response.setEncoding('utf8').on('data', (chunk: string) => (heard += chunk))
      response.once('error', reject)
      response.once('end', () => {
        const { statusCode: status = 0, headers: given } = response
        const isJson = /json/.test(given['content-type'] ?? '') && heard !== ''
        resolve({ status, headers: given, text: heard, body: isJson ? JSON.parse(heard) : undefined })
      })
    })
    asked.once('error', reject)
    asked.end(text)
    return await promise
  }
  return {
    world,
    http,
    url,
    lines,
    ask,
    async hits() {
      const [, count] = /^arcus_http_remembered_total (\d+)$/m.exec((await ask('/metrics')).text) ?? []
      assert.ok(count !== undefined, 'no count of what was remembered')
      return Number(count)
    },
    async [Symbol.asyncDispose]() {
      agent.destroy()
      await http.close()
      await world[Symbol.asyncDispose]()
    },
  }
}
