import type { FastifyInstance } from 'fastify'
import Type, { type Static } from 'typebox'
import type { AnyKind } from '#engine/resource.ts'
import type { Cloud } from '#cloud/cloud.ts'
import { latencyBuckets } from '#cloud/edge/front.driver.ts'
import { route } from '#cloud/edge/route.kind.ts'
import { serviceTunnel } from '#cloud/edge/service-tunnel.kind.ts'
import { loadBalancer } from '#cloud/network/load-balancer.kind.ts'
import { LatencyBucket, tunnel } from '#cloud/edge/tunnel.kind.ts'
import { callerOf } from './caller.ts'
import { REFUSALS } from './errors.ts'
import { byReference } from './lookup.ts'
import { type ById, RangeParams, rangeOf, RefParams } from './schema.ts'

const Moment = Type.String({ format: 'date-time' })
const Traffic = Type.Object({
  id: Type.String({ format: 'uuid' }),
  traffic: Type.Union([
    Type.Object({
      since: Type.String({ format: 'date-time', description: 'When the edge started to count.' }),
      requests: Type.Integer({ description: 'Requests; for other protocols connections or sessions.' }),
      statuses: Type.Record(Type.String(), Type.Integer(), {
        description: 'Answers by class of status: `2` counts 200 to 299.',
      }),
      receivedBytes: Type.Integer(),
      sentBytes: Type.Integer(),
      active: Type.Integer({ description: 'Open now.' }),
      latencySumMs: Type.Number(),
      latency: Type.Array(LatencyBucket, {
        description: 'Answers by how long they took, not cumulative; `upToMs` is null for what took longer.',
      }),
    }),
    Type.Null(),
  ]),
})

const Accesses = Type.Object({
  items: Type.Array(
    Type.Object({
      cursor: Type.String(),
      at: Moment,
      client: Type.String(),
      hostname: Type.String(),
      method: Type.Optional(Type.String()),
      path: Type.Optional(Type.String({ description: 'Without the query, which may hold secrets.' })),
      status: Type.Optional(Type.Integer()),
      receivedBytes: Type.Integer(),
      sentBytes: Type.Integer(),
      durationMs: Type.Number(),
      origin: Type.Optional(Type.String({ description: 'Id of the replica that answered.' })),
      userAgent: Type.Optional(Type.String()),
      fault: Type.Optional(Type.String({ description: 'Why it was refused or broke.' })),
    }),
  ),
})

/** What went through each tunnel, route and load balancer, and the authority whose certificates they have unless told otherwise. */
export function edgeRoutes(app: FastifyInstance, cloud: Cloud): void {
  for (const kind of [tunnel, route, loadBalancer, serviceTunnel] as unknown as AnyKind[]) {
    trafficRoute(app, cloud, kind)
    accessRoute(app, cloud, kind)
  }
}

function trafficRoute(app: FastifyInstance, cloud: Cloud, kind: AnyKind): void {
  app.get<ById>(
    `/${kind.name}/:id/traffic`,
    {
      schema: {
        tags: [kind.name],
        summary: `What the edge counted for a ${kind.name}; null before it was asked`,
        params: RefParams,
        response: { 200: Traffic, ...REFUSALS },
      },
    },
    async (request) => {
      const caller = callerOf(request)
      const { id } = await byReference(cloud, caller, kind, request.params.id)
      const counted = await cloud.traffic(caller, kind, id)
      if (!counted) return { id, traffic: null }
      const { route: _route, latency, since, ...rest } = counted
      return {
        id,
        traffic: {
          ...rest,
          since: new Date(since).toISOString(),
          latency: latencyBuckets(latency),
        },
      }
    },
  )
}

function accessRoute(app: FastifyInstance, cloud: Cloud, kind: AnyKind): void {
  app.get<ById & { Querystring: Static<typeof RangeParams> }>(
    `/${kind.name}/:id/accesses`,
    {
      schema: {
        tags: [kind.name],
        summary: `The access log of a ${kind.name}, oldest first; kept for 7 days`,
        params: RefParams,
        querystring: RangeParams,
        response: { 200: Accesses, ...REFUSALS },
      },
    },
    async (request) => {
      const caller = callerOf(request)
      const { id } = await byReference(cloud, caller, kind, request.params.id)
      const entries = await cloud.accesses(caller, kind, id, rangeOf(request.query))
      return {
        items: entries.map(({ route: _route, tenant: _tenant, at, ...entry }) => ({
          ...entry,
          at: new Date(at).toISOString(),
        })),
      }
    },
  )
}
