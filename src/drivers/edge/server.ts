import { chmodSync, chownSync, rmSync, statSync } from 'node:fs'
import { once } from 'node:events'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { connect } from 'node:net'
import { CloudError, isCloudError } from '#lib/errors.ts'
import { createServer } from '#lib/http.ts'
import type { Log } from '#lib/log.ts'
import type { ConnectorDriver } from '#cloud/edge/cloudflare.driver.ts'
import type { EdgeDriver } from '#cloud/edge/edge.driver.ts'
import type { Front, FrontCertificate, FrontDriver } from '#cloud/edge/front.driver.ts'
import { BODY_BYTES_MAX, packError, PROTOCOL, PROTOCOL_HEADER, speaks } from './protocol.ts'
import { parseZone } from './zone.ts'

const REQUEST_MS_MAX = 30_000
const STOP_MS_MAX = 2000
const VERB_MS_MAX = 30_000

export type Owner = { readonly uid: number; readonly gid: number }

async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > BODY_BYTES_MAX)
      throw new CloudError('invalid', `the body is longer than ${BODY_BYTES_MAX} bytes`)
    chunks.push(chunk)
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString())
  } catch (error) {
    throw new CloudError('invalid', 'the body is not JSON', {}, error)
  }
}

/** What the socket serves: an edge's zones, its front door, and the connector beside it. */
export type Served = {
  readonly edge: EdgeDriver
  readonly front: FrontDriver
  readonly connector: ConnectorDriver
}

type Handler = (id: string, request: IncomingMessage, signal: AbortSignal) => Promise<unknown>

const done = async (work: Promise<void>): Promise<unknown> => {
  await work
  return {}
}

/** The body, which must be about what the path names. */
async function readAbout<T>(request: IncomingMessage, name: string, id: string): Promise<T> {
  const body = (await readJson(request)) as T | null
  if ((body as Record<string, unknown> | null)?.[name] !== id)
    throw new CloudError('invalid', 'the body is about another one than the path', { field: name })
  return body as T
}

/** Verbs by method and folder; those with an id have a `/` at the end. */
const handlersOf = ({ edge, front, connector }: Served): Readonly<Record<string, Handler>> => ({
  'GET zones': async (_, __, signal) => ({ zones: await edge.list(signal) }),
  'DELETE zones/': (vpc, _, signal) => done(edge.remove(vpc, signal)),
  'PUT zones/': async (vpc, request, signal) =>
    await done(edge.apply(parseZone(await readAbout(request, 'vpc', vpc)), signal)),
  'GET audit': async (_, __, signal) => ({ findings: await edge.audit(signal) }),
  'POST mend': async (_, __, signal) => ({ findings: await edge.mend(signal) }),
  'GET fronts': (_, __, signal) => front.list(signal),
  'DELETE fronts/': (vpc, _, signal) => done(front.remove(vpc, signal)),
  'PUT fronts/': async (vpc, request, signal) =>
    await done(front.apply(await readAbout<Front>(request, 'vpc', vpc), signal)),
  'DELETE certificates/': (id, _, signal) => done(front.removeCertificate(id, signal)),
  'PUT certificates/': async (id, request, signal) =>
    await done(front.applyCertificate(await readAbout<FrontCertificate>(request, 'id', id), signal)),
  'GET connector': (_, __, signal) => connector.observe(signal),
  'DELETE connector': (_, __, signal) => done(connector.apply(undefined, signal)),
  'PUT connector': async (_, request, signal) => {
    const { token } = ((await readJson(request)) ?? {}) as { token?: unknown }
    if (typeof token !== 'string') throw new CloudError('invalid', 'token must be text', { field: 'token' })
    return await done(connector.apply({ token }, signal))
  },
  'GET front/missing': async (_, __, signal) => ({ missing: await front.missing(signal) }),
  'GET front/traffic': async (_, __, signal) => ({ traffic: await front.traffic(signal) }),
  'GET front/health': async (_, __, signal) => ({ health: await front.health(signal) }),
  'GET front/open': async (_, __, signal) => ({ open: await front.open(signal) }),
  'GET front/accesses': async (_, { url = '' }, signal) => {
    const asked = new URL(url, 'http://edge').searchParams
    const limit = Number(asked.get('limit'))
    if (!Number.isInteger(limit) || limit < 1)
      throw new CloudError('invalid', 'limit must be a number from 1', { field: 'limit' })
    return await front.accesses(asked.get('after') ?? undefined, limit, signal)
  },
})

/** `GET /` tells the version to anybody. */
async function handle(
  request: IncomingMessage,
  handlers: Readonly<Record<string, Handler>>,
): Promise<unknown> {
  const { method = '', url = '/', headers } = request
  if (method === 'GET' && url === '/') return { protocol: PROTOCOL }
  const theirs = headers[PROTOCOL_HEADER]
  if (!speaks(theirs)) {
    const message = `this edge speaks version ${PROTOCOL} of its protocol, the cloud ${String(theirs)}: upgrade the older one`
    throw new CloudError('unsupported', message)
  }
  const signal = AbortSignal.timeout(VERB_MS_MAX)
  const path = url.slice(1).replace(/\?.*/s, '')
  const [, folder = '', id = ''] = /^(zones|fronts|certificates)\/([^/]+)$/.exec(path) ?? []
  const name = `${method} ${folder ? `${folder}/` : path}`
  const handler = Object.hasOwn(handlers, name) ? handlers[name] : undefined
  if (!handler) throw new CloudError('unsupported', `the edge has no ${method} ${url}`)
  return await handler(decodeURIComponent(id), request, signal)
}

async function respond(
  request: IncomingMessage,
  response: ServerResponse,
  handlers: Readonly<Record<string, Handler>>,
  log: Log,
): Promise<void> {
  const send = (status: number, body: unknown): void => {
    response.writeHead(status, { 'content-type': 'application/json', [PROTOCOL_HEADER]: String(PROTOCOL) })
    response.end(JSON.stringify(body))
  }
  try {
    send(200, await handle(request, handlers))
  } catch (error) {
    if (isCloudError(error)) return send(409, { error: packError(error) })
    if (request.destroyed && !request.complete) return // whoever asked is gone
    log.error('control request failed', { method: request.method, url: request.url, error })
    send(500, {})
  }
}

/** Removes a socket that a process left behind; throws when one still listens there. */
async function clear(path: string): Promise<void> {
  if (!statSync(path, { throwIfNoEntry: false })?.isSocket()) return
  const socket = connect(path)
  const lives = await new Promise<boolean>((resolve) => {
    socket.once('connect', () => resolve(true))
    socket.once('error', () => resolve(false))
  })
  socket.destroy()
  if (lives) throw new CloudError('conflict', `another process already serves ${path}`)
  rmSync(path, { force: true })
}

/**
 * Gives the socket to its owner, 0600. A process without root cannot give files away: there the folder passes its group
 * on (set-gid), and the owner's group may use the socket (0660).
 */
function give(path: string, owner: Owner): void {
  try {
    chownSync(path, owner.uid, owner.gid)
    chmodSync(path, 0o600)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') throw error
    if (statSync(path).gid !== owner.gid) {
      const message = `${path} cannot be given to user ${owner.uid}: make its folder's group ${owner.gid} with the set-gid bit`
      throw new CloudError('forbidden', message, {}, error)
    }
    chmodSync(path, 0o660)
  }
}

export type ControlServer = { close(): Promise<void> }

/** Serves an edge's verbs on a unix socket, to its owner alone. */
export async function serveEdge(
  options: Served & { readonly socket: string; readonly owner?: Owner; readonly log: Log },
): Promise<ControlServer> {
  const { socket, owner, log } = options
  const handlers = handlersOf(options)
  await clear(socket)
  const server: Server = createServer({ requestTimeout: REQUEST_MS_MAX }, (request, response) => {
    void respond(request, response, handlers, log)
  })
  const listening = once(server, 'listening')
  // The umask holds for the whole process: only for the moment in which the socket is made.
  const umask = process.umask(0o177)
  try {
    server.listen(socket)
    await listening
  } finally {
    process.umask(umask)
  }
  try {
    if (owner) give(socket, owner)
  } catch (error) {
    server.close()
    throw error
  }
  return {
    async close() {
      const closed = once(server, 'close')
      server.close()
      server.closeIdleConnections()
      const late = setTimeout(() => server.closeAllConnections(), STOP_MS_MAX)
      await closed
      clearTimeout(late)
    },
  }
}
