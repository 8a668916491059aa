import type { IncomingMessage } from 'node:http'
import { isIP, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import websocket from '@fastify/websocket'
import Fastify, {
  type FastifyInstance,
  type FastifyRequest,
  type FastifyServerOptions,
  type RouteOptions,
} from 'fastify'
import type { Cloud } from '#cloud/cloud.ts'
import type { Clock } from '#lib/clock.ts'
import { CloudError } from '#lib/errors.ts'
import type { Ids } from '#lib/ids.ts'
import type { Log } from '#lib/log.ts'
import { jsonOf } from '#lib/remembered.ts'
import { answerErrors, type Fault } from './errors.ts'
import {
  addressSet,
  HTTP_LIMITS,
  isLoopback,
  openListener,
  plainAddress,
  type HttpLimits,
  type Listener,
  type ListenerOptions,
} from './listener.ts'
import { INSIDE_LIMITS, openInside, replicaOf } from './inside.ts'
import { httpMetrics } from './metrics.ts'
import { type Document, documentOf, pageOf, type Reference } from './reference.ts'
import { type Note, rememberAnswers } from './remembered-answers.ts'
import { requestIdOf } from './request-heads.ts'
import { validatorCompiler } from './validation.ts'

/**
 * One API dialect: a set of routes over the cloud's verbs, with its own authentication header and error shape. Mounted
 * under `/<name>`, by host `<name>.localhost`, and alone on a port of its own with `--listen <name>=HOST:PORT`.
 */
export type Dialect = {
  readonly name: string
  readonly title: string
  /** What its document and reference page say beside the routes. */
  readonly reference?: Reference
  /** It is for workloads, each through a socket of its own (`replicaOf`), and nobody reaches it by a network. */
  readonly inside?: {
    /** The body of an answer to what never became a request: broken, too large or too slow. */
    broken(detail: string): unknown
  }
  /** Registers routes (without prefix), error handler and not-found handler in an encapsulated scope. */
  register(app: FastifyInstance, cloud: Cloud, mount: Mount): Promise<void>
}

/** What a dialect gets of the server it is mounted in. */
export type Mount = {
  readonly log: Log
  readonly clock: Clock
  /** Methods with a route at this path (as in `request.url`), to tell a wrong method from an unknown path. */
  methodsAt(path: string): readonly string[]
  /** The reference of the dialect, as a page; once everything is registered. */
  page(): Promise<string>
}

export type HttpOptions = {
  readonly cloud: Cloud
  readonly dialects: readonly Dialect[]
  readonly log: Log
  readonly clock: Clock
  readonly ids: Ids
  /** Addresses and CIDRs of proxies whose X-Forwarded-For is believed. */
  readonly trustedProxies?: readonly string[]
  /** Key and certificate in PEM, see tls.ts; absent: plain HTTP only. */
  readonly certificate?: () => Promise<{ readonly key: string; readonly cert: string }>
  /** The authority's certificate in PEM, for clients to trust; absent: there is none to tell. */
  readonly authority?: () => Promise<string>
  readonly limits?: Partial<HttpLimits>
}

export type Http = AsyncDisposable & {
  /** Ready; for `inject` in tests. */
  readonly app: FastifyInstance
  /** Listens on one more address; with `dialect` that one alone is served there, at the root. Port 0 takes a free one. */
  listen(address: { host: string; port: number; dialect?: string }): Promise<Listener>
  /** Takes a connection that came by a replica's own socket: the dialect for workloads alone is served there. */
  accept(socket: Socket, replica: string): void
  /** Stops accepting, lets requests end within `drainMs`, closes the rest. */
  close(): Promise<void>
}

/** A dialect's own host. */
const OWN_HOST = /^([a-z0-9-]+)\.localhost(?::\d+)?$/i
const PROBLEM_STATUS = {
  invalid: 400,
  unauthenticated: 401,
  forbidden: 403,
  not_found: 404,
  no_route: 404,
  wrong_method: 405,
  already_exists: 409,
  conflict: 409,
  exhausted: 409,
  gone: 410,
  rate_limited: 429,
  unsupported: 400,
  unavailable: 503,
  internal: 500,
} satisfies Record<Fault['code'], number>

/** Whose address was made last: each request asks for it several times, and the next is often of the same client. */
let lastClient = { ip: '', address: '' }

/** The client's address: the peer's, or what a trusted proxy says it forwards for. */
export function clientAddress(request: FastifyRequest): string {
  const { ip } = request
  if (ip !== lastClient.ip) {
    const claimed = plainAddress(ip)
    if (!isIP(claimed)) return plainAddress(request.socket.remoteAddress)
    lastClient = { ip, address: claimed }
  }
  return lastClient.address
}

/** What matches the paths of a route. */
function patternOf(url: string): RegExp {
  const pattern = url
    .replace(/[.+?^${}()|[\]\\]/g, '\\$&')
    .replace(/:[A-Za-z_]\w*/g, '[^/]+')
    .replace(/\*$/, '.*')
  return new RegExp(`^${pattern}$`)
}

/** Routes of a scope, collected as they are registered. */
function collectRoutes(scope: FastifyInstance): Pick<Mount, 'methodsAt'> & { all: readonly RouteOptions[] } {
  const all: RouteOptions[] = []
  /** By URL; what matches it is made when a path is first looked for: no start waits for hundreds. */
  const routes = new Map<string, { pattern?: RegExp; readonly methods: Set<string> }>()
  scope.addHook('onRoute', (options) => {
    const { url, method } = options
    all.push({ ...options })
    const route = routes.get(url) ?? { methods: new Set() }
    for (const it of [method].flat()) route.methods.add(it)
    routes.set(url, route)
  })
  const methodsAt = (path: string): string[] => {
    const [plain = ''] = path.split('?')
    return [...routes]
      .filter(([url, it]) => (it.pattern ??= patternOf(url)).test(plain))
      .flatMap(([, it]) => [...it.methods])
  }
  return { all, methodsAt }
}

/**
 * Schemas of answers are for the reference: what a handler gives is sent as it is. Fastify would keep a serializer for
 * each, in an array as long as its status is high, which comes to megabytes.
 */
function forgetAnswers(options: RouteOptions): void {
  if (options.schema?.response !== undefined) options.schema = { ...options.schema, response: undefined }
}

/** A path whose percent-encoding is broken names nothing: it is taken literally, so that it ends as unknown in its dialect's own words. */
function decodable(url: string): string {
  if (!url.includes('%')) return url
  const end = url.indexOf('?')
  const path = end < 0 ? url : url.slice(0, end)
  try {
    decodeURIComponent(path)
    return url
  } catch {
    return path.replaceAll('%', '%25') + (end < 0 ? '' : url.slice(end))
  }
}

/** The path as it is routed: a dialect's own host or address stands for its prefix. */
function routed(request: IncomingMessage, dialects: ReadonlySet<string>, only: string | undefined): string {
  const raw = request.url ?? '/'
  const url = decodable(raw.startsWith('/') ? raw : raw.replace(/^https?:\/\/[^/?]*/i, '') || '/')
  const host = OWN_HOST.exec(request.headers.host ?? '')?.[1]?.toLowerCase()
  const dialect = only ?? (host !== undefined && dialects.has(host) ? host : undefined)
  return dialect === undefined ? url : `/${dialect}${url.startsWith('/') ? '' : '/'}${url}`
}

const MEDIA_TYPE = /^[\w!#$%&'*+.^`|~-]+\/[\w!#$%&'*+.^`|~-]+\s*(?:;|$)/

/** JSON under any JSON content type, absent when the body is empty; anything else is refused `invalid`. */
function parseBodies(app: FastifyInstance): void {
  app.removeAllContentTypeParsers()
  const parse = app.getDefaultJsonParser('error', 'error')
  app.addContentTypeParser(
    /^application\/([\w.-]+\+)?json(?:;|$)/i,
    { parseAs: 'string' },
    (request, body, done) => {
      if (body.length === 0) done(null, undefined)
      else void parse(request, body as string, done)
    },
  )
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => {
    if (body.length === 0) done(null, undefined)
    else done(new CloudError('invalid', 'Body must be JSON with Content-Type: application/json'), undefined)
  })
}

/** Nobody but a workload may ask what is for workloads alone. */
function refuseOutside(request: FastifyRequest, _reply: unknown, done: (error?: Error) => void): void {
  const refusal = 'This API is for workloads, each through the socket in its own container'
  done(replicaOf(request.raw.socket) === undefined ? new CloudError('not_found', refusal) : undefined)
}

/** What belongs to no dialect: health, version, metrics, and the reference of each dialect. */
function rootRoutes(
  app: FastifyInstance,
  { cloud, authority }: HttpOptions,
  documents: ReadonlyMap<string, () => Promise<Document>>,
  own: { text(): Promise<string> },
): void {
  const documentNamed = async (name: string): Promise<Document> => {
    const document = documents.get(name)
    if (!document)
      throw new CloudError(
        'not_found',
        `There is no dialect ${name}: there are ${[...documents.keys()].join(', ')}`,
      )
    return await document()
  }
  const html = 'text/html; charset=utf-8'
  app.addHook('onRequest', (request, reply, done) => {
    void reply.header('x-request-id', request.id)
    void reply.header('x-content-type-options', 'nosniff')
    // A refused upgrade ends its connection: said, so that no client asks the next thing on it.
    if (request.headers.upgrade !== undefined) void reply.header('connection', 'close')
    // One that cannot be read is none that is known: refused with a body, and of no account without one.
    const type = request.headers['content-type']
    if (type !== undefined && !MEDIA_TYPE.test(type))
      request.headers['content-type'] = 'application/octet-stream'
    done()
  })
  app.get('/healthz', async () => ({ status: 'ok' }))
  app.get('/version', async () => ({ name: 'arcus', ...cloud.version }))
  app.get('/metrics', async (request, reply) => {
    // Figures of the whole installation: for the machine itself and for administrators.
    const address = clientAddress(request)
    const token = /^Bearer (.+)$/i.exec(request.headers.authorization ?? '')?.[1]
    const caller = token
      ? await cloud.authenticate(token, { dialect: 'http', address, requestId: request.id })
      : undefined
    if (!isLoopback(address) && caller?.scope !== 'admin')
      throw new CloudError(
        'unauthenticated',
        'Metrics from elsewhere need an administrator: Authorization: Bearer TOKEN',
      )
    void reply.type('text/plain; version=0.0.4; charset=utf-8')
    return `${(await cloud.metrics()).trimEnd()}\n${await own.text()}`.trimStart()
  })
  if (authority)
    app.get('/ca.crt', async (_request, reply) =>
      reply.type('application/x-pem-file').send(await authority()),
    )
  app.get<{ Params: { file: string } }>(
    '/openapi/:file',
    async (request) => await documentNamed(request.params.file.replace(/\.json$/, '')),
  )
  app.get<{ Params: { name: string } }>('/docs/:name', async (request, reply) => {
    const { name } = request.params
    void reply.type(html).header('content-security-policy', "default-src 'none'; style-src 'unsafe-inline'")
    return pageOf(await documentNamed(name), name)
  })
}

/** Ours in the place of those that fastify would load; its types know none but these. */
const COMPILERS = {
  buildValidator: () => validatorCompiler,
  buildSerializer: () => () => jsonOf,
} as unknown as NonNullable<NonNullable<FastifyServerOptions['schemaController']>['compilersFactory']>

/** An app that takes bodies as they are, names its requests, counts them and notes them at debug level. */
async function openApp(
  options: HttpOptions,
  limits: HttpLimits,
  trusted: (address: string) => boolean,
  rewriteUrl: (request: IncomingMessage) => string,
) {
  const app = Fastify({
    logger: false,
    bodyLimit: limits.bodyBytesMax,
    // A function is asked for every hop of every request.
    trustProxy: options.trustedProxies?.length ? (address) => trusted(address) : false,
    genReqId: ({ headers }) => requestIdOf(headers['x-request-id'], options.ids),
    rewriteUrl: (request) => rewriteUrl(request as IncomingMessage),
    routerOptions: { maxParamLength: limits.headerBytesMax },
    forceCloseConnections: false,
    schemaController: { compilersFactory: COMPILERS },
  })
  parseBodies(app)
  app.setReplySerializer(jsonOf)
  // Before every hook that may refuse: it closes the connection of an upgrade that is refused.
  await app.register(websocket, { options: { maxPayload: limits.bodyBytesMax } })
  const metrics = httpMetrics(options.dialects.map((it) => it.name))
  /** Notes requests like this one, each with its id and the milliseconds from it to the end of its answer. */
  const notingOf = (request: FastifyRequest, status: number): Note => {
    const { url, method, routeOptions } = request
    const route = routeOptions.url ?? 'unmatched'
    const count = metrics.counterOf(url, method, route, status)
    const address = clientAddress(request)
    return (requestId, ms) => {
      count(ms / 1000)
      options.log.debug('request', {
        requestId,
        method,
        route,
        status,
        ms: Math.round(ms * 10) / 10,
        address,
      })
    }
  }
  app.addHook('onResponse', (request, reply, done) => {
    notingOf(request, reply.statusCode)(request.id, reply.elapsedTime)
    done()
  })
  const { moment } = options.cloud
  const answers = rememberAnswers({ moment, ids: options.ids, limits, notingOf, hit: metrics.remembered })
  answers.serve(app)
  return { app, metrics, answers }
}

/** One HTTP server for every dialect; it listens where it is told. */
export async function createHttp(given: HttpOptions): Promise<Http> {
  const options: HttpOptions = { ...given, log: given.log.with({ part: 'http' }) }
  const { cloud, dialects, clock, log } = options
  const limits: HttpLimits = { ...HTTP_LIMITS, ...options.limits }
  const trusted = addressSet(options.trustedProxies ?? [])
  const names = new Set(dialects.map((it) => it.name))
  /** Which dialect alone the listener of a connection serves. */
  const alone = new WeakMap<Duplex, string>()
  const { app, metrics, answers } = await openApp(options, limits, trusted, (it) =>
    routed(it, names, alone.get(it.socket)),
  )
  answerErrors(app, { log, methodsAt: collectRoutes(app).methodsAt }, (fault, request) => {
    const status = PROBLEM_STATUS[fault.code]
    return { status, body: { title: fault.code, status, detail: fault.message, requestId: request.id } }
  })
  const documents = new Map<string, () => Promise<Document>>()
  rootRoutes(app, options, documents, metrics)
  for (const dialect of dialects) {
    await app.register(
      async (scope) => {
        const { all, methodsAt } = collectRoutes(scope)
        scope.addHook('onRoute', forgetAnswers)
        const document = documentOf(dialect, cloud.version.version, all)
        const page = async (): Promise<string> => pageOf(await document(), dialect.name)
        if (dialect.inside) scope.addHook('onRequest', refuseOutside)
        await dialect.register(scope, cloud, {
          log: log.with({ dialect: dialect.name }),
          clock,
          methodsAt,
          page,
        })
        documents.set(dialect.name, document)
      },
      { prefix: `/${dialect.name}` },
    )
  }
  await app.ready()

  const listeners: Listener[] = []
  const handlersOf = (dialect: string | undefined): Pick<ListenerOptions, 'onRequest' | 'onUpgrade'> => {
    const mark = ({ socket }: IncomingMessage): void => {
      if (dialect !== undefined && !alone.has(socket)) alone.set(socket, dialect)
    }
    return {
      onRequest: (request, response) => {
        mark(request)
        if (!answers.answer(request, response, dialect)) app.routing(request, response)
      },
      onUpgrade: (request, socket, head) => {
        mark(request)
        app.server.emit('upgrade', request, socket, head)
      },
    }
  }
  const within = dialects.find((it) => it.inside)
  const inside = openInside({
    ...handlersOf(within?.name),
    limits: { ...limits, ...INSIDE_LIMITS },
    broken: (detail) => within?.inside?.broken(detail) ?? { detail },
    clock,
  })
  const close = async (): Promise<void> => {
    // Fastify refuses new requests at once and lets dialects end their streams; the listeners wait for what is left.
    answers.close()
    const ended = app.close()
    await Promise.all([...listeners.splice(0), inside].map((it) => it.close()))
    await ended
  }
  return {
    app,
    accept: (socket, replica) => void (within ? inside.accept(socket, replica) : socket.destroy()),
    close,
    [Symbol.asyncDispose]: close,
    async listen({ host, port, dialect }) {
      if (dialect !== undefined && dialect === within?.name)
        throw new CloudError('invalid', `${dialect} is served to workloads alone, on no address`)
      if (dialect !== undefined && !names.has(dialect))
        throw new CloudError('invalid', `There is no dialect ${dialect}: there are ${[...names].join(', ')}`)
      const listener = await openListener({
        host,
        port,
        limits,
        clock,
        log,
        plainFrom: trusted,
        ...(options.certificate ? { certificate: options.certificate } : {}),
        ...handlersOf(dialect),
      })
      listeners.push(listener)
      return listener
    },
  }
}
