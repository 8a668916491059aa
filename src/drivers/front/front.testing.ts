import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer, type IncomingMessage, request as askPlain, type RequestListener } from 'node:http'
import { request as askTls } from 'node:https'
import {
  type AddressInfo,
  connect as connectTcp,
  createServer as createTcp,
  type Server as TcpServer,
  type Socket,
} from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { systemClock } from '#lib/clock.ts'
import { type Log, silentLog } from '#lib/log.ts'
import { createKeyring } from '#engine/secrets.ts'
import { ensureCertificate } from '#apis/tls.ts'
import { exampleFront, exampleRoute } from '#cloud/edge/front.conformance.ts'
import type { Front, FrontCertificate, FrontRoute, Origin } from '#cloud/edge/front.driver.ts'
import { FRONT_LIMITS, type FrontLimits } from './limits.ts'
import { type LocalFront, localFront } from './local.ts'

const WAIT_MS_MAX = 10_000
export const HOST = 'app.example.com'
export const signal = (): AbortSignal => AbortSignal.timeout(WAIT_MS_MAX)
export const SEAL = createKeyring(Buffer.alloc(32, 7))

/** A certificate for names, and what clients trust it by. */
export async function certify(
  id: string,
  names: readonly string[],
): Promise<{ readonly certificate: FrontCertificate; readonly ca: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'arcus-front-ca-'))
  try {
    const { key, cert, authorityFile } = await ensureCertificate({ folder, names, clock: systemClock })
    const issued = { names: [...names], chain: cert, key }
    return {
      certificate: { id, tenant: 'tenant-a', generation: 1, issued, challenges: [] },
      ca: await readFile(authorityFile, 'utf8'),
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

export const CERTIFIED = await certify('certificate-a', [HOST, '*.example.org', 'other.example.com'])

/** Waits for a condition; says at its end what it saw last. */
export async function until<T>(
  what: string,
  look: () => T | Promise<T>,
): Promise<Exclude<T, false | undefined | null | 0 | ''>> {
  const end = performance.now() + WAIT_MS_MAX
  for (;;) {
    const seen = await look()
    if (seen) return seen as Awaited<ReturnType<typeof until<T>>>
    assert.ok(performance.now() < end, `${what}: not in time, last ${JSON.stringify(seen)}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}

export type Stage = AsyncDisposable & {
  readonly front: LocalFront
  readonly directory: string
  readonly http: number
  readonly https: number
  /** Serves these routes of tenant-a in place of those before. */
  route(...routes: readonly Partial<FrontRoute>[]): Promise<void>
  apply(front: Partial<Front>): Promise<void>
}

/** A front door on free ports of 127.0.0.1, with the certificate of HOST. */
export async function stage(
  how: { limits?: Partial<FrontLimits>; log?: Log; directory?: string } = {},
): Promise<Stage> {
  const directory = how.directory ?? (await mkdtemp(join(tmpdir(), 'arcus-front-')))
  const front = await localFront({
    directory,
    http: { address: '127.0.0.1', port: 0 },
    https: { address: '127.0.0.1', port: 0 },
    inside: '127.0.0.1',
    seal: SEAL,
    clock: systemClock,
    log: how.log ?? silentLog,
    limits: { ...FRONT_LIMITS, sweepMs: 50, stopMsMax: 200, ...how.limits },
  })
  const bound = await until('both listeners', () => {
    const { http, https } = front.bound()
    return http && https && { http: http.port, https: https.port }
  })
  let generation = 1
  const apply = async (it: Partial<Front>): Promise<void> =>
    await front.apply(exampleFront({ generation: ++generation, ...it }), signal())
  if (how.directory === undefined) await front.applyCertificate(CERTIFIED.certificate, signal())
  return {
    front,
    directory,
    ...bound,
    apply,
    route: async (...routes) =>
      await apply({ routes: routes.map((it) => exampleRoute({ certificate: 'certificate-a', ...it })) }),
    async [Symbol.asyncDispose]() {
      await front.close()
      if (how.directory === undefined) await rm(directory, { recursive: true, force: true })
    },
  }
}

export type Backend = AsyncDisposable & {
  readonly port: number
  /** As the origin of a route. */
  as(id: string, weight?: number): Origin
  onConnection(listener: (socket: Socket) => void): void
  onUpgrade(listener: (request: IncomingMessage, socket: Duplex, head: Buffer) => void): void
  /** Ends it with everything that is open to it, as a kill does. */
  kill(): Promise<void>
}

async function backendOf(server: TcpServer): Promise<Backend> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.once('close', () => sockets.delete(socket))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const kill = async (): Promise<void> => {
    if (!server.listening) return
    const closed = once(server, 'close')
    server.close()
    for (const it of sockets) it.resetAndDestroy()
    await closed
  }
  return {
    port,
    as: (id, weight = 1) => ({ id, address: '127.0.0.1', port, weight }),
    onConnection: (listener) => void server.on('connection', listener),
    onUpgrade: (listener) => void server.on('upgrade', listener),
    kill,
    [Symbol.asyncDispose]: kill,
  }
}

/** An origin that speaks HTTP. */
export const backend = async (listener: RequestListener): Promise<Backend> =>
  await backendOf(createServer(listener))

/** An origin that gets connections. */
export const tcpBackend = async (onSocket: (socket: Socket) => void): Promise<Backend> =>
  await backendOf(createTcp({ allowHalfOpen: true }, onSocket))

export async function textOf(stream: AsyncIterable<Buffer | string>): Promise<string> {
  let text = ''
  for await (const chunk of stream) text += chunk.toString()
  return text
}

export type Asked = {
  readonly hostname?: string
  readonly path?: string
  readonly method?: string
  readonly headers?: Readonly<Record<string, string | readonly string[]>>
  readonly body?: string | Buffer
  readonly plain?: boolean
}

/** A request whose answer is still to be read. */
export function open(at: Stage, how: Asked = {}): Promise<IncomingMessage> {
  const { hostname = HOST, path = '/', method = 'GET', headers = {}, body, plain = false } = how
  return new Promise((resolve, reject) => {
    const options = {
      host: '127.0.0.1',
      port: plain ? at.http : at.https,
      method,
      path,
      headers: { host: hostname, ...headers } as Record<string, string>,
      agent: false,
      signal: signal(),
    }
    const sent = plain
      ? askPlain(options, resolve)
      : askTls({ ...options, servername: hostname, ca: CERTIFIED.ca }, resolve)
    sent.once('error', reject)
    sent.end(body)
  })
}

export type Answered = {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly text: string
}

export async function ask(at: Stage, how: Asked = {}): Promise<Answered> {
  const response = await open(at, how)
  return { status: response.statusCode ?? 0, headers: response.headers, text: await textOf(response) }
}

/** A TLS connection to the front door. */
export async function secure(at: Stage, hostname = HOST, protocol = 'http/1.1'): Promise<TLSSocket> {
  const socket = connectTls({
    host: '127.0.0.1',
    port: at.https,
    servername: hostname,
    ca: CERTIFIED.ca,
    ALPNProtocols: [protocol],
  })
  await once(socket, 'secureConnect')
  return socket
}

/** Sends bytes as they are and gives all that comes back until the other side closes. */
export async function raw(at: Stage, text: string | Buffer, plain = false): Promise<string> {
  const socket = plain ? connectTcp(at.http, '127.0.0.1') : await secure(at)
  socket.setTimeout(WAIT_MS_MAX, () => socket.destroy(new Error('no end in time')))
  socket.write(text)
  return await textOf(socket as AsyncIterable<Buffer>).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ECONNRESET') return ''
    throw error
  })
}
