import type { IncomingMessage } from 'node:http'
import { CloudError } from '#lib/errors.ts'
import { Agent, request as send } from '#lib/http.ts'
import type { Log } from '#lib/log.ts'
import type { ConnectorDriver } from '#cloud/edge/cloudflare.driver.ts'
import type { EdgeDriver } from '#cloud/edge/edge.driver.ts'
import type { Access, FrontDriver, RouteTraffic } from '#cloud/edge/front.driver.ts'
import type { Finding } from '#cloud/observe/finding.driver.ts'
import { BODY_BYTES_MAX, PROTOCOL, PROTOCOL_HEADER, speaks, unpackError } from './protocol.ts'

const CONNECTIONS_MAX = 4
const REQUEST_MS_MAX = 30_000

type Answer = {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly body: unknown
}

async function readJson(response: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > BODY_BYTES_MAX) throw new Error('the answer is too long')
    chunks.push(chunk)
  }
  return JSON.parse(Buffer.concat(chunks).toString())
}

const findingsOf = (answer: unknown): readonly Finding[] =>
  (answer as { readonly findings: readonly Finding[] }).findings

type Ask = (method: string, path: string, signal: AbortSignal, body?: unknown) => Promise<unknown>

export type RemoteEdge = EdgeDriver & {
  readonly front: FrontDriver
  readonly connector: ConnectorDriver
  close(): Promise<void>
}

/** The edge process behind its socket. While it is away every verb fails as `unavailable`; it serves on meanwhile. */
export function remoteEdge(options: { readonly socket: string; readonly log: Log }): RemoteEdge {
  const { socket: socketPath, log } = options
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS_MAX })
  let protocol: string | undefined

  const exchange = (
    method: string,
    path: string,
    body: string | undefined,
    signal: AbortSignal,
  ): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const headers = {
        [PROTOCOL_HEADER]: String(PROTOCOL),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      }
      const request = send({ socketPath, method, path, headers, agent, signal }, (response) => {
        const { statusCode: status = 0 } = response
        readJson(response).then((it) => resolve({ status, headers: response.headers, body: it }), reject)
      })
      request.once('error', reject)
      request.end(body)
    })

  const ask: Ask = async (method, path, signal, body) => {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(REQUEST_MS_MAX)])
    const text = body === undefined ? undefined : JSON.stringify(body)
    // A kept connection may have ended on the other side just now. The verbs can be repeated, so once more on a new one.
    const answer = await exchange(method, path, text, limited)
      .catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ECONNRESET' && error.code !== 'EPIPE') throw error
        return exchange(method, path, text, limited)
      })
      .catch((error: unknown) => {
        if (signal.aborted) throw signal.reason
        throw new CloudError(
          'unavailable',
          `the edge does not answer at ${socketPath}: is it running?`,
          {},
          error,
        )
      })
    const theirs = String(answer.headers[PROTOCOL_HEADER])
    if (theirs !== protocol) log.info('connected to the edge', { protocol: theirs })
    protocol = theirs
    if (answer.status === 200 && speaks(theirs)) return answer.body
    const refusal = unpackError((answer.body as { error?: unknown } | null)?.error)
    throw refusal ?? new CloudError('unavailable', 'the edge failed; its log says why')
  }

  return {
    apply: async (zone, signal) => void (await ask('PUT', pathTo('zones', zone.vpc), signal, zone)),
    remove: async (vpc, signal) => void (await ask('DELETE', pathTo('zones', vpc), signal)),
    async list(signal) {
      const { zones } = (await ask('GET', '/zones', signal)) as {
        zones: Awaited<ReturnType<EdgeDriver['list']>>
      }
      return zones
    },
    audit: async (signal) => findingsOf(await ask('GET', '/audit', signal)),
    mend: async (signal) => findingsOf(await ask('POST', '/mend', signal)),
    front: remoteFront(ask),
    connector: {
      async apply(connector, signal) {
        await ask(connector ? 'PUT' : 'DELETE', '/connector', signal, connector)
      },
      observe: async (signal) =>
        (await ask('GET', '/connector', signal)) as Awaited<ReturnType<ConnectorDriver['observe']>>,
    },
    // oxlint-disable-next-line typescript/require-await -- closing others may take time
    async close() {
      agent.destroy()
    },
  }
}

const pathTo = (folder: string, id: string): string => `/${folder}/${encodeURIComponent(id)}`

/** The front door of the edge behind `ask`. */
function remoteFront(ask: Ask): FrontDriver {
  const get = async <T>(path: string, signal: AbortSignal): Promise<T> =>
    (await ask('GET', path, signal)) as T
  return {
    missing: async (signal) => (await get<{ missing: readonly string[] }>('/front/missing', signal)).missing,
    apply: async (front, signal) => void (await ask('PUT', pathTo('fronts', front.vpc), signal, front)),
    remove: async (vpc, signal) => void (await ask('DELETE', pathTo('fronts', vpc), signal)),
    applyCertificate: async (it, signal) =>
      void (await ask('PUT', pathTo('certificates', it.id), signal, it)),
    removeCertificate: async (id, signal) => void (await ask('DELETE', pathTo('certificates', id), signal)),
    list: async (signal) => await get('/fronts', signal),
    traffic: async (signal) =>
      (await get<{ traffic: readonly RouteTraffic[] }>('/front/traffic', signal)).traffic,
    open: async (signal) =>
      (await get<{ open: Readonly<Record<string, number>> }>('/front/open', signal)).open,
    health: async (signal) =>
      (await get<{ health: Awaited<ReturnType<FrontDriver['health']>> }>('/front/health', signal)).health,
    async accesses(after, limit, signal) {
      const asked = new URLSearchParams({ limit: String(limit), ...(after === undefined ? {} : { after }) })
      return await get<{ entries: readonly Access[]; cursor: string }>(`/front/accesses?${asked}`, signal)
    },
  }
}
