import type { FastifyInstance } from 'fastify'
import Type, { type Static, type TObject } from 'typebox'
import type { AnyKind } from '#engine/resource.ts'
import type { BulkRange, Cloud } from '#cloud/cloud.ts'
import { workload } from '#cloud/compute/workload.kind.ts'
import { vpc } from '#cloud/network/vpc.kind.ts'
import { callerOf } from './caller.ts'
import { REFUSALS } from './errors.ts'
import { byReference } from './lookup.ts'
import { type ById, RangeParams, rangeOf, RefParams } from './schema.ts'

const Replica = Type.String({ description: 'Id of the replica that sent it.' })
const Time = Type.String({ format: 'date-time' })

const Metric = Type.Object({
  replica: Replica,
  metric: Type.String(),
  type: Type.String(),
  labels: Type.Record(Type.String(), Type.String()),
  tags: Type.Array(Type.String()),
  points: Type.Array(Type.Object({ at: Time, values: Type.Array(Type.Number()) })),
})
const Snapshot = Type.Object({
  replica: Replica,
  controller: Type.String(),
  snapshot: Type.Object({}, { additionalProperties: true, description: 'As it was sent.' }),
})
const Told = Type.Object({
  replica: Replica,
  event: Type.Object({}, { additionalProperties: true, description: 'As it was sent.' }),
})
const Login = Type.Object({ replica: Replica, username: Type.String(), success: Type.Boolean() })

/** What replicas sent through their own API, and who tried to log in to a VPN. */
export function insideRoutes(app: FastifyInstance, cloud: Cloud): void {
  const [workloads, vpcs] = [workload, vpc] as unknown as [AnyKind, AnyKind]
  keptRoute(app, cloud, workloads, 'metrics', {
    summary: 'What the replicas of a workload measured and sent, oldest first; kept for 15 days',
    item: Metric,
    read: async (caller, id, query) =>
      (await cloud.workloadMetrics(caller, id, query)).map(({ vpc: _vpc, points, ...it }) => ({
        ...it,
        points: points.map(([at, ...values]) => ({ at: iso(at), values })),
      })),
  })
  keptRoute(app, cloud, workloads, 'snapshots', {
    summary: 'What a load balancer told of its controllers, oldest first; kept for 15 days',
    item: Snapshot,
    read: async (caller, id, query) =>
      (await cloud.balancerSnapshots(caller, id, query)).map(({ vpc: _vpc, ...it }) => it),
  })
  keptRoute(app, cloud, workloads, 'events', {
    summary: 'What the replicas of a workload told of themselves, oldest first; kept for 15 days',
    item: Told,
    read: async (caller, id, query) =>
      (await cloud.workloadEvents(caller, id, query)).map(({ vpc: _vpc, ...it }) => it),
  })
  keptRoute(app, cloud, vpcs, 'logins', {
    summary: "Who tried to log in to a VPC's VPN, oldest first; kept for 90 days",
    item: Login,
    read: async (caller, id, query) => await cloud.vpnLogins(caller, id, query),
  })
}

const iso = (ms: number): string => new Date(ms).toISOString()

function keptRoute(
  app: FastifyInstance,
  cloud: Cloud,
  kind: AnyKind,
  what: string,
  how: {
    readonly summary: string
    readonly item: TObject
    readonly read: (
      caller: ReturnType<typeof callerOf>,
      id: string,
      query: BulkRange,
    ) => Promise<readonly { readonly at: number; readonly cursor: string }[]>
  },
): void {
  const item = Type.Object({ cursor: Type.String(), at: Time, ...how.item.properties })
  app.get<ById & { Querystring: Static<typeof RangeParams> }>(
    `/${kind.name}/:id/${what}`,
    {
      schema: {
        tags: [kind.name],
        summary: how.summary,
        params: RefParams,
        querystring: RangeParams,
        response: { 200: Type.Object({ items: Type.Array(item) }), ...REFUSALS },
      },
    },
    async (request) => {
      const caller = callerOf(request)
      const { id } = await byReference(cloud, caller, kind, request.params.id)
      const kept = await how.read(caller, id, rangeOf(request.query))
      return { items: kept.map((it) => ({ ...it, at: iso(it.at) })) }
    },
  )
}
