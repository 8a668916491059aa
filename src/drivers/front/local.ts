import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Clock } from '#lib/clock.ts'
import type { Log } from '#lib/log.ts'
import type { FrontDriver } from '#cloud/edge/front.driver.ts'
import { createWatch } from './body.ts'
import { createBalancers } from './balancer.ts'
import { createChecks } from './checks.ts'
import { createDatagrams } from './datagram.ts'
import { type Asked, type Exchange, http1Asked, isEnded, say } from './exchange.ts'
import { forward } from './forward.ts'
import { headerOf } from './headers.ts'
import { createHttpServers, judge } from './http.ts'
import { FRONT_LIMITS, type FrontLimits } from './limits.ts'
import { createGate, type Listen, listenTcp } from './listener.ts'
import { createOrigins } from './origins.ts'
import { parseCertificate, parseFront } from './schema.ts'
import { carry } from './splice.ts'
import { openFrontStore, type Seal } from './store.ts'
import { createStreams } from './stream.ts'
import { buildTable, type Contexts, type FrontTable, type ServedRoute } from './table.ts'
import { createTls } from './tls.ts'
import { createTraffic, type Visit } from './traffic.ts'
import { passWebSocket, sayOnSocket } from './upgrade.ts'

const STOP_LOOK_MS = 50

export type LocalFront = FrontDriver & {
  /** Where it listens; undefined while it cannot. */
  bound(): { readonly http: Listen | undefined; readonly https: Listen | undefined }
  close(): Promise<void>
}

export type FrontOptions = {
  readonly directory: string
  /** Where plain HTTP is served: challenges, redirects, and routes that want it. */
  readonly http: Listen
  readonly https: Listen
  /** The address by which VPCs reach the edge; none where they do not, and then nothing of load balancers is served. */
  readonly inside?: string | undefined
  readonly seal: Seal
  readonly clock: Clock
  readonly log: Log
  readonly limits?: FrontLimits
}

/**
 * The front door in this process: serves the tables kept in `directory` from the start on. The addresses may be such that
 * the host does not have yet. Datagrams are listened for at the address of `https`.
 */
export async function localFront(options: FrontOptions): Promise<LocalFront> {
  const { directory, seal, log, limits = FRONT_LIMITS } = options
  const store = await openFrontStore({
    directory,
    seal,
    log,
    onChange() {
      table = buildTable({ store, contexts, before: table, log })
      door.keep(table)
    },
  })
  const contexts: Contexts = new Map()
  let table: FrontTable = buildTable({ store, contexts, log })
  const door = openDoor({ ...options, limits, table: () => table })
  door.keep(table)
  return {
    bound: () => door.bound(),
    missing: async () => await Promise.resolve(door.missing()),
    apply: async (front) => await store.apply(parseFront(front)),
    remove: async (vpc) => await store.remove(vpc),
    applyCertificate: async (certificate) => await store.applyCertificate(parseCertificate(certificate)),
    removeCertificate: async (id) => await store.removeCertificate(id),
    list: async () =>
      await Promise.resolve({
        fronts: [...store.fronts.values()].map(({ front: { vpc, generation } }) => ({ vpc, generation })),
        certificates: [...store.certificates.values()].map(({ id, generation }) => ({ id, generation })),
      }),
    traffic: async () => await Promise.resolve(door.traffic.counted()),
    open: async () => await Promise.resolve(door.traffic.open()),
    health: async () => await Promise.resolve(door.checks.told()),
    accesses: async (after, limit) => await Promise.resolve(door.traffic.accesses.after(after, limit)),
    close: () => door.close(),
  }
}

/** Everything that carries: listeners, servers, connections to origins. */
function openDoor(
  options: FrontOptions & { readonly limits: FrontLimits; readonly table: () => FrontTable },
) {
  const { limits, table, clock, log, inside } = options
  const traffic = createTraffic(clock, limits)
  const checks = createChecks({ table, clock, limits, inside })
  const origins = createOrigins({ table, checks, traffic, clock, limits, inside })
  const watch = createWatch(clock, limits)
  const streams = createStreams({ origins, clock, limits })
  const gate = createGate(limits)
  const datagrams = createDatagrams({
    table,
    traffic,
    origins,
    limits,
    clock,
    log,
    address: options.https.address,
  })
  const balancers =
    inside === undefined
      ? undefined
      : createBalancers({ table, traffic, origins, gate, limits, clock, log, address: inside })
  const forwarding = { table, origins, watch, clock, limits }

  const httpsPort = (): number => https.bound()?.port ?? options.https.port
  const begin = (exchange: Asked, served: ServedRoute, hostname: string, path: string): Visit =>
    traffic.begin(served, {
      client: exchange.client,
      hostname,
      method: exchange.method,
      path,
      userAgent: headerOf(exchange.headers, 'user-agent'),
    })
  const onExchange = (exchange: Exchange): void => {
    const verdict = judge(exchange, table(), limits, httpsPort())
    if (verdict.do === 'say') {
      say(exchange, verdict.status, verdict.message, verdict.headers)
      return watch.discard(exchange.body, () => exchange.answer.abort())
    }
    const { served, hostname, path, target } = verdict
    const visit = begin(exchange, served, hostname, path)
    if (served.route.carry === 'stream') {
      visit.end({ status: 426, fault: 'no WebSocket' })
      const message = `${hostname} is a tunnel: connect with \`arcus tunnel connect ${hostname}\`.`
      return say(exchange, 426, message, ['upgrade', 'websocket', 'connection', 'upgrade'])
    }
    forward(target === exchange.target ? exchange : { ...exchange, target }, served, visit, forwarding)
  }
  const onUpgrade = (request: IncomingMessage, client: Duplex, head: Buffer): void => {
    if (isEnded(request)) return void client.destroy()
    const exchange = http1Asked(request)
    const verdict = judge(exchange, table(), limits, httpsPort())
    if (verdict.do === 'say')
      return sayOnSocket(
        client,
        `${verdict.status} ${STATUS[verdict.status] ?? 'Refused'}`,
        verdict.message,
        verdict.headers,
      )
    const { served, hostname, path, target } = verdict
    const visit = begin(exchange, served, hostname, path)
    const carried =
      served.route.carry === 'stream'
        ? streams.carry({ served, visit, request, client, head })
        : passWebSocket({ exchange: { ...exchange, target }, served, visit, client, head, origins, limits })
    carried.catch((error: unknown) => {
      log.error('carrying a WebSocket failed', { route: served.route.id, error })
      visit.end({ status: 500, fault: 'internal' })
      client.destroy()
    })
  }
  const servers = createHttpServers({ limits, onExchange, onUpgrade })
  const onPassthrough = (client: Socket, hostname: string): void => {
    const served = table().passthrough(hostname)
    if (!served) return void client.destroy()
    carry({ served, client, hostname, none: 'no origin is ready', origins, traffic, limits })
  }
  const acceptTls = createTls({
    table,
    limits,
    onPassthrough,
    onSecure: (socket, protocol) => (protocol === 'h2' ? servers.http2(socket) : servers.http1(socket)),
  })
  const listen = { gate, limits, clock, log }
  const http = listenTcp({ ...listen, listen: options.http, onConnection: servers.http1 })
  const https = listenTcp({ ...listen, listen: options.https, onConnection: acceptTls })

  return {
    traffic,
    checks,
    bound: () => ({ http: http.bound(), https: https.bound() }),
    missing: () =>
      [http.lacks(), https.lacks(), ...datagrams.lacks(), ...(balancers?.lacks() ?? [])].filter(
        (it) => it !== undefined,
      ),
    keep(current: FrontTable): void {
      traffic.keep(current)
      origins.keep(current)
      datagrams.keep(current)
      balancers?.keep(current)
      checks.keep(current)
    },
    async close(): Promise<void> {
      await Promise.all([http.close(), https.close(), datagrams.close(), balancers?.close(), checks.close()])
      streams.close()
      servers.drain()
      for (
        let waited = 0;
        waited < limits.stopMsMax && Object.keys(traffic.open()).length;
        waited += STOP_LOOK_MS
      )
        await clock.sleep(STOP_LOOK_MS, AbortSignal.timeout(limits.stopMsMax)).catch(() => {})
      servers.close()
      for (const socket of gate.open) socket.destroy()
      origins.close()
      await watch.close()
    },
  }
}

const STATUS: Readonly<Record<number, string>> = {
  308: 'Permanent Redirect',
  400: 'Bad Request',
  404: 'Not Found',
  413: 'Content Too Large',
  421: 'Misdirected Request',
  431: 'Request Header Fields Too Large',
}
