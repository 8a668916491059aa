import Type from 'typebox'
import type { App } from '#apis/app.ts'
import type { Inside } from '#cloud/cloud.ts'
import { isCloudError } from '#lib/errors.ts'
import { answers } from './answers.ts'
import { instanceOf } from './doors.ts'
import { refusal } from './errors.ts'
import { Event, LoadBalancerTelemetrySnapshot, Metric } from './schema/telemetry.ts'

const CONTROLLERS_MAX = 100
const METRICS_MAX = 1000
const EVENTS_MAX = 100

export function monitoringRoutes(app: App, inside: Inside): void {
  app.post(
    '/v1/environment/services/lb/telemetry/snapshots',
    {
      schema: {
        tags: ['Environments'],
        operationId: 'submitLoadBalancerTelemetry',
        summary: 'Keep what the load balancer counted',
        description: "For instances of the environment's load balancer alone.",
        body: Type.Record(Type.String(), LoadBalancerTelemetrySnapshot, {
          maxProperties: CONTROLLERS_MAX,
          description: 'A snapshot for each controller, such as `port-443`.',
        }),
        response: answers(Type.Boolean(), 'All were kept.'),
      },
    },
    async (request) => {
      const snapshots = Object.entries(request.body).map(([controller, body]) => ({
        controller,
        at: Date.parse(body.time),
        body,
      }))
      await inside.takeSnapshots(instanceOf(request), snapshots).catch((error: unknown) => {
        throw isCloudError(error, 'forbidden') ? refusal('403.not-allowed', `${error.message}.`) : error
      })
      return { data: true }
    },
  )
  app.post(
    '/v1/monitoring/metrics',
    {
      schema: {
        tags: ['Monitoring'],
        operationId: 'postMetric',
        summary: 'Keep metrics of the container',
        body: Type.Array(Metric, { maxItems: METRICS_MAX }),
        response: answers(Type.Literal(true), 'All were kept.'),
      },
    },
    async (request) => {
      const metrics = request.body.map(({ metric, type, labels = {}, tags = [], points = [] }) => ({
        metric,
        type,
        labels,
        tags,
        points: points.map(({ time, values = [] }) => ({ at: Date.parse(time), values })),
      }))
      await inside.takeMetrics(instanceOf(request), metrics)
      return { data: true as const }
    },
  )
  app.post(
    '/v1/monitoring/events',
    {
      schema: {
        tags: ['Monitoring'],
        operationId: 'postEvent',
        summary: 'Keep events that the container tells of',
        body: Type.Array(Event, { maxItems: EVENTS_MAX }),
        response: answers(Type.Literal(true), 'All were kept.'),
      },
    },
    async (request) => {
      await inside.takeEvents(instanceOf(request), request.body)
      return { data: true as const }
    },
  )
}
