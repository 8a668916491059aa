import { once } from 'node:events'
import { chmod, chown, lstat, rename, rm } from 'node:fs/promises'
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Duplex } from 'node:stream'
import type { ComputeDriver, ContainerWish, ImageWish, VolumeWish } from '#cloud/compute/compute.driver.ts'
import type { HostPlan, NetworkDriver, VpcPlan } from '#cloud/network/network.driver.ts'
import { CloudError, isCloudError, messageOf } from '#lib/errors.ts'
import { createServer } from '#lib/http.ts'
import { isUuid } from '#lib/ids.ts'
import type { Log } from '#lib/log.ts'
import { openEpochs } from './epochs.ts'
import { serveExec } from './exec.ts'
import {
  BODY_BYTES_MAX,
  EPOCH_HEADER,
  EXEC,
  type Line,
  PROTOCOL,
  PROTOCOL_HEADER,
  STREAMS,
  VERBS,
  deadlineOf,
  isVerb,
  packError,
  speaks,
} from './protocol.ts'

export type ServeOptions = {
  readonly network: NetworkDriver
  readonly compute: ComputeDriver
  /** Path of the socket; what is left of a former one is replaced. */
  readonly socket: string
  /** Who may connect, besides root. */
  readonly owner: { readonly uid: number; readonly gid: number }
  /** File for the newest epoch seen. */
  readonly epochs: string
  readonly log: Log
}

/** Serves this machine's drivers to the cloud process. `close` ends open streams; what runs on the host runs on. */
export async function serveDrivers(options: ServeOptions): Promise<{ close(): Promise<void> }> {
  const { compute, log } = options
  const epochs = await openEpochs(options.epochs)
  const verbs = verbsOf(options.network, compute)
  const stopping = new AbortController()
  const server = createServer((request, response) => {
    const gone = new AbortController()
    response.on('close', () => gone.abort(new Error('whoever asked is gone')))
    const signal = AbortSignal.any([gone.signal, stopping.signal])
    handle(request, response, { verbs, compute, epochs, signal }).catch((error: unknown) => {
      fail(response, error, signal, log.with({ verb: request.url }))
    })
  })
  const upgraded = new Set<Duplex>()
  server.on('upgrade', (request, socket, head) => {
    upgraded.add(socket)
    socket.on('close', () => upgraded.delete(socket))
    if (head.length) socket.unshift(head)
    if (request.url !== `/${EXEC}` || !speaks(request.headers[PROTOCOL_HEADER])) {
      socket.end('HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n')
      return
    }
    serveExec(socket, compute, stopping.signal).catch((error: unknown) => {
      log.warn('exec broke', { error: messageOf(error) })
      socket.destroy()
    })
  })
  // Streams live as long as their reader; verbs have deadlines of their own.
  server.requestTimeout = 0
  await listen(server, options)
  return {
    async close() {
      stopping.abort(new CloudError('unavailable', 'the host agent is stopping'))
      const closed = once(server, 'close')
      server.close()
      for (const socket of upgraded) socket.destroy()
      server.closeAllConnections()
      await closed
      await rm(options.socket, { force: true })
    },
  }
}

/** Reachable for the owner from the first moment on, and for nobody else at any. */
async function listen(server: Server, { socket, owner }: ServeOptions): Promise<void> {
  const there = await lstat(socket).catch(() => undefined)
  if (there && !there.isSocket()) throw new CloudError('conflict', `${socket} is in the way: it is no socket`)
  const next = `${socket}.next`
  await rm(next, { force: true })
  const before = process.umask(0o177)
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(next, resolve)
    })
  } finally {
    process.umask(before)
  }
  await chown(next, owner.uid, owner.gid)
  await chmod(next, 0o600)
  await rename(next, socket)
}

type Ran = (args: readonly unknown[], signal: AbortSignal) => Promise<unknown>

const idOf = (value: unknown): string => {
  if (typeof value !== 'string' || !isUuid(value)) throw new CloudError('invalid', 'an id must be a UUID')
  return value
}

/** The closed set of what can be asked. The drivers check the form of a wish or plan themselves, field by field. */
const verbsOf = (network: NetworkDriver, compute: ComputeDriver): Record<keyof typeof VERBS, Ran> => ({
  'network/missing': (_, signal) => network.missing(signal),
  'network/listening': (_, signal) => network.listening(signal),
  'network/applyHost': ([plan], signal) => network.applyHost(plan as HostPlan, signal),
  'network/apply': ([plan], signal) => {
    idOf((plan as VpcPlan | undefined)?.vpc)
    return network.apply(plan as VpcPlan, signal)
  },
  'network/observe': ([vpc], signal) => network.observe(idOf(vpc), signal),
  'network/list': (_, signal) => network.list(signal),
  // An orphan that only its namespace tells of has no whole id: the driver knows its own names.
  'network/remove': ([vpc], signal) => network.remove(String(vpc), signal),
  'network/purge': (_, signal) => network.purge(signal),
  'network/audit': (_, signal) => network.audit(signal),
  'network/mend': (_, signal) => network.mend(signal),
  'compute/missing': (_, signal) => compute.missing(signal),
  'compute/prepare': ([id], signal) => compute.prepare(idOf(id), signal),
  'compute/apply': ([wish], signal) => compute.apply(wish as ContainerWish, signal),
  'compute/observe': ([id], signal) => compute.observe(idOf(id), signal),
  'compute/list': (_, signal) => compute.list(signal),
  'compute/remove': ([id], signal) => compute.remove(idOf(id), signal),
  'compute/applyVolume': ([wish], signal) => {
    idOf((wish as VolumeWish | undefined)?.id)
    return compute.applyVolume(wish as VolumeWish, signal)
  },
  'compute/observeVolume': ([volume], signal) => compute.observeVolume(idOf(volume), signal),
  'compute/removeVolume': ([volume], signal) => compute.removeVolume(idOf(volume), signal),
  'compute/volumes': (_, signal) => compute.volumes(signal),
  'compute/observeImage': ([wish], signal) => compute.observeImage(wish as ImageWish, signal),
  'compute/fetchImage': ([wish], signal) => compute.fetchImage(wish as ImageWish, signal),
  'compute/samples': (_, signal) => compute.samples(signal),
  'compute/purge': (_, signal) => compute.purge(signal),
  'compute/audit': (_, signal) => compute.audit(signal),
  'compute/mend': (_, signal) => compute.mend(signal),
})

type Context = {
  readonly verbs: ReturnType<typeof verbsOf>
  readonly compute: ComputeDriver
  readonly epochs: { check(epoch: number): Promise<void> }
  readonly signal: AbortSignal
}

async function handle(request: IncomingMessage, response: ServerResponse, context: Context): Promise<void> {
  const { verbs, compute, epochs, signal } = context
  const path = request.url?.slice(1) ?? ''
  response.setHeader(PROTOCOL_HEADER, String(PROTOCOL))
  if (request.method === 'GET' && path === '')
    return send(response, 200, { result: { protocol: PROTOCOL, pid: process.pid } })
  const theirs = request.headers[PROTOCOL_HEADER]
  if (!speaks(theirs)) {
    const message = `this host agent speaks version ${PROTOCOL} of its protocol, the cloud ${String(theirs)}: upgrade the older one`
    throw new CloudError('unsupported', message)
  }
  const stream = STREAMS.find((it) => it === path)
  if (request.method !== 'POST' || !(stream ?? isVerb(path))) {
    throw new CloudError('unsupported', `the host agent has no ${request.method} /${path.slice(0, 100)}`)
  }
  const args = await readArguments(request)
  if (stream === 'compute/events') return sendAll(response, compute.events(signal), signal)
  if (stream === 'compute/logs') {
    const how = (args[1] ?? {}) as Parameters<ComputeDriver['logs']>[1]
    return sendAll(response, compute.logs(idOf(args[0]), how, signal), signal)
  }
  if (!isVerb(path)) return
  if (VERBS[path] === 'write') await epochs.check(Number(request.headers[EPOCH_HEADER] ?? Number.NaN))
  const result = await verbs[path](args, AbortSignal.any([signal, AbortSignal.timeout(deadlineOf(path))]))
  send(response, 200, { result: result ?? null })
}

async function readArguments(request: IncomingMessage): Promise<readonly unknown[]> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > BODY_BYTES_MAX) throw new CloudError('invalid', `more than ${BODY_BYTES_MAX} bytes were sent`)
    chunks.push(chunk)
  }
  let parsed: unknown
  try {
    parsed = JSON.parse(Buffer.concat(chunks).toString('utf8') || '[]')
  } catch (error) {
    throw new CloudError('invalid', 'what was sent is not JSON', {}, error)
  }
  if (!Array.isArray(parsed)) throw new CloudError('invalid', 'the arguments must be an array')
  return parsed
}

function send(response: ServerResponse, status: number, body: unknown): void {
  const text = JSON.stringify(body)
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(text),
  })
  response.end(text)
}

/** Lines of JSON, no faster than they are read. */
async function sendAll(
  response: ServerResponse,
  items: AsyncIterable<unknown>,
  signal: AbortSignal,
): Promise<void> {
  response.writeHead(200, { 'content-type': 'application/x-ndjson' })
  response.flushHeaders()
  const line = (it: Line): boolean => response.write(`${JSON.stringify(it)}\n`)
  try {
    for await (const item of items) if (!line({ item })) await once(response, 'drain', { signal })
    line({ end: true })
  } catch (error) {
    if (response.destroyed) return
    line({ error: packError(signal.aborted ? signal.reason : error) })
    if (!isCloudError(error) && !signal.aborted) throw error
  } finally {
    response.end()
  }
}

function fail(response: ServerResponse, error: unknown, signal: AbortSignal, log: Log): void {
  if (response.destroyed) return
  const reason = signal.aborted && !isCloudError(error) ? signal.reason : error
  if (!isCloudError(reason)) log.error('verb failed', { error })
  if (response.headersSent) response.end()
  else send(response, isCloudError(reason) ? 409 : 500, { error: packError(reason) })
}
