import Type from 'typebox'
import { CloudError } from '#lib/errors.ts'
import { clientAddress } from '#apis/http.ts'
import { isLoopback } from '#apis/listener.ts'
import { type Frame, operation } from './operation.ts'
import { timestamp, Timestamp } from './schema.ts'

const Health = Type.Object({
  status: Type.Enum(['UP', 'DEGRADED', 'DOWN']),
  checks: Type.Record(Type.String(), Type.String()),
  time: Timestamp,
})
const Network = Type.Object({
  status: Type.Enum(['healthy', 'degraded']),
  message: Type.Optional(Type.String()),
})

const common = { tag: 'System', tenancy: 'none' as const, bare: true }

export function systemRoutes(frame: Frame): void {
  const { cloud, clock, app } = frame
  operation(frame, {
    ...common,
    method: 'GET',
    path: '/health/live',
    id: 'healthLive',
    summary: 'Whether the API is up',
    answer: Type.Object({ status: Type.Literal('ok') }),
    run: () => ({ status: 'ok' as const }),
  })
  for (const [path, id] of [
    ['/health/ready', 'healthReady'],
    ['/health', 'health'],
  ] as const)
    operation(frame, {
      ...common,
      method: 'GET',
      path,
      id,
      summary: 'Whether what the API stands on answers',
      answer: Health,
      refuses: [503],
      async run({ reply }) {
        const { database, compute } = await cloud.health()
        const isUp = database && compute
        if (!isUp) void reply.code(503)
        return {
          status: isUp ? ('UP' as const) : database ? ('DEGRADED' as const) : ('DOWN' as const),
          checks: {
            database: database ? 'CONNECTED' : 'DISCONNECTED',
            docker: compute ? 'CONNECTED' : 'DISCONNECTED',
          },
          time: timestamp(clock.now()),
        }
      },
    })
  operation(frame, {
    ...common,
    method: 'GET',
    path: '/health/ovs',
    id: 'healthNetwork',
    summary: 'Whether the network does all that it promises',
    answer: Network,
    refuses: [503],
    async run({ reply }) {
      const { network } = await cloud.health()
      if (network === undefined) {
        void reply.code(503)
        return { status: 'unavailable', error: 'The network does not answer' } as never
      }
      return network.length
        ? {
            status: 'degraded' as const,
            message: 'An administrator sees with `arcus doctor` what is missing',
          }
        : { status: 'healthy' as const }
    },
  })
  operation(frame, {
    ...common,
    method: 'POST',
    path: '/internal/admin/reset-circuit-breakers',
    id: 'adminResetCircuitBreakers',
    summary: 'Try at once what is waiting for its next try; from this machine alone',
    answer: Type.Object({ reset: Type.Literal(true) }),
    refusals: { forbidden: { status: 404, type: 'NOT_FOUND' } },
    async run({ request }) {
      if (!isLoopback(clientAddress(request))) throw new CloudError('not_found', 'Not found')
      await cloud.retryNow()
      return { reset: true as const }
    },
  })
  const open = { config: { tenancy: 'none' as const } }
  app.get(
    '/metrics',
    {
      ...open,
      schema: {
        operationId: 'metrics',
        tags: ['System'],
        summary: 'Figures for Prometheus; from this machine, or with an administrator’s key at /metrics',
        security: [],
        response: { 200: { content: { 'text/plain': { schema: Type.String() } } } },
      },
    },
    async (request, reply) => {
      if (!isLoopback(clientAddress(request))) throw new CloudError('not_found', 'Not found')
      return reply.type('text/plain; version=0.0.4; charset=utf-8').send(await cloud.metrics())
    },
  )
  app.get(
    '/swagger/*',
    {
      ...open,
      schema: {
        operationId: 'swaggerUi',
        tags: ['System'],
        summary: 'The reference of this API',
        security: [],
        response: { 200: { content: { 'text/html': { schema: Type.String() } } } },
      },
    },
    async (_request, reply) =>
      reply
        .type('text/html; charset=utf-8')
        .header('content-security-policy', "default-src 'self'; style-src 'unsafe-inline'")
        .send(await frame.page()),
  )
}
