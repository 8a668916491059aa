import { chmodSync, chownSync, rmSync, statSync } from 'node:fs'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { connect } from 'node:net'
import { CloudError, isCloudError } from '#lib/errors.ts'
import type { Log } from '#lib/log.ts'
import type { EdgeDriver } from '#cloud/edge/edge.driver.ts'
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

/** What is asked: `GET /zones`, `PUT /zones/VPC`, `DELETE /zones/VPC`, `GET /audit`, `POST /mend`; `GET /` tells the version to anybody. */
async function handle(request: IncomingMessage, edge: EdgeDriver): Promise<unknown> {
  const { method, url = '/', headers } = request
  if (method === 'GET' && url === '/') return { protocol: PROTOCOL }
  const theirs = headers[PROTOCOL_HEADER]
  if (!speaks(theirs)) {
    const message = `this edge speaks version ${PROTOCOL} of its protocol, the cloud ${String(theirs)}: upgrade the older one`
    throw new CloudError('unsupported', message)
  }
  const signal = AbortSignal.timeout(VERB_MS_MAX)
  if (method === 'GET' && url === '/audit') return { findings: await edge.audit(signal) }
  if (method === 'POST' && url === '/mend') return { findings: await edge.mend(signal) }
  const [, folder, vpc, ...rest] = url.split('/')
  if (folder === 'zones' && !rest.length) {
    if (method === 'GET' && vpc === undefined) return { zones: await edge.list(signal) }
    if (method === 'DELETE' && vpc) {
      await edge.remove(vpc, signal)
      return {}
    }
    if (method === 'PUT' && vpc) {
      const zone = parseZone(await readJson(request))
      if (zone.vpc !== vpc)
        throw new CloudError('invalid', 'the zone is of another VPC than the path', { field: 'vpc' })
      await edge.apply(zone, signal)
      return {}
    }
  }
  throw new CloudError('unsupported', `the edge has no ${method} ${url}`)
}

async function respond(
  request: IncomingMessage,
  response: ServerResponse,
  edge: EdgeDriver,
  log: Log,
): Promise<void> {
  const send = (status: number, body: unknown): void => {
    response.writeHead(status, { 'content-type': 'application/json', [PROTOCOL_HEADER]: String(PROTOCOL) })
    response.end(JSON.stringify(body))
  }
  try {
    send(200, await handle(request, edge))
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
export async function serveEdge(options: {
  readonly edge: EdgeDriver
  readonly socket: string
  readonly owner?: Owner
  readonly log: Log
}): Promise<ControlServer> {
  const { edge, socket, owner, log } = options
  await clear(socket)
  const server: Server = createServer({ requestTimeout: REQUEST_MS_MAX }, (request, response) => {
    void respond(request, response, edge, log)
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
