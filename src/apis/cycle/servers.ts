import Type from 'typebox'
import type { App } from '#apis/app.ts'
import type { CachedImage, Inside } from '#cloud/cloud.ts'
import { objectId } from '#lib/object-id.ts'
import { answers, listOf } from './answers.ts'
import { encodeContainer } from './container.ts'
import { instanceOf } from './doors.ts'
import { refusal } from './errors.ts'
import { encodeInstance, encodeSnapshot } from './instance.ts'
import { encodeServer } from './place.ts'
import { Container } from './schema/container.ts'
import { Instance } from './schema/instance.ts'
import { DateTime, Id } from './schema/scalar.ts'
import { Server } from './schema/server.ts'
import { ResourceSnapshot } from './schema/telemetry.ts'
import { timeOf } from './wire.ts'

const common = { tags: ['Servers'] }
/** An image is fetched in this time or the answer says that it is on its way. */
const DOWNLOAD_MS_MAX = 50_000

const ImageUse = Type.Object({ id: Id, access_time: DateTime })
const encodeImage = ({ id, usedAt }: CachedImage) => ({ id, access_time: timeOf(usedAt) })

export function serverRoutes(app: App, inside: Inside): void {
  app.get(
    '/v1/server',
    {
      schema: {
        ...common,
        operationId: 'getServer',
        summary: 'The machine that the instance runs on',
        response: answers(Server, 'The server.'),
      },
    },
    async (request) => {
      const of = instanceOf(request)
      return { data: encodeServer(await inside.server(of), of.tenant.id) }
    },
  )
  app.get(
    '/v1/server/instances',
    {
      config: { remembered: true },
      schema: {
        ...common,
        operationId: 'getServerInstances',
        summary: 'Instances of the hub on that machine, in whatever environment',
        response: listOf(Instance, 'Oldest first.'),
      },
    },
    async (request) => {
      const of = instanceOf(request)
      return { data: (await inside.serverReplicas(of)).map((it) => encodeInstance(it, inside.machine)) }
    },
  )
  app.get(
    '/v1/server/containers',
    {
      config: { remembered: true },
      schema: {
        ...common,
        operationId: 'getServerContainers',
        summary: 'Containers of the hub with an instance on that machine',
        response: listOf(Container, 'Oldest first.'),
      },
    },
    async (request) => ({
      data: (await inside.serverWorkloads(instanceOf(request))).map(encodeContainer),
    }),
  )
  app.get(
    '/v1/server/instances/telemetry',
    {
      schema: {
        ...common,
        operationId: 'getServerInstancesTelemetry',
        summary: 'The last sample of each instance of the hub that runs there',
        response: listOf(
          Type.Object({ instance_id: Id, container_id: Id, environment_id: Id, stats: ResourceSnapshot }),
          'Oldest instance first. Counters that are not read are 0.',
        ),
      },
    },
    async (request) => {
      const of = instanceOf(request)
      return {
        data: (await inside.samples(of)).map(({ replica: it, sample }) => ({
          instance_id: objectId(it.replica.id),
          container_id: objectId(it.workload.id),
          environment_id: objectId(it.vpc.id),
          stats: encodeSnapshot(it, sample, inside.machine),
        })),
      }
    },
  )
  app.get(
    '/v1/server/images',
    {
      schema: {
        ...common,
        operationId: 'getServerImages',
        summary: 'Images of the hub that the machine has',
        response: listOf(ImageUse, 'With their last use.'),
      },
    },
    async (request) => ({ data: (await inside.images(instanceOf(request))).map(encodeImage) }),
  )
  app.post(
    '/v1/server/images/download',
    {
      schema: {
        ...common,
        operationId: 'downloadImage',
        summary: 'Have an image of the hub on the machine',
        body: Type.Object({ image_id: Id }),
        response: listOf(ImageUse, 'The image, once it is there.'),
      },
    },
    async (request) => {
      const signal = AbortSignal.timeout(DOWNLOAD_MS_MAX)
      const image = await inside.fetchImage(instanceOf(request), request.body.image_id, signal)
      return { data: [encodeImage(image)] }
    },
  )
  for (const [path, operationId, summary] of [
    ['/v1/server/power/poweroff', 'poweroffServer', 'Power off the machine'],
    ['/v1/server/power/reboot', 'rebootServer', 'Reboot the machine'],
  ] as const)
    app.post(
      path,
      {
        schema: {
          ...common,
          operationId,
          summary,
          description: 'Refused to all: no container is given power over the machine that it shares.',
          response: answers(Type.Boolean(), 'Never here.'),
        },
      },
      async () => {
        throw refusal(
          '403.permissions',
          'config.runtime.host.power_management is off: no container has power over the machine here.',
        )
      },
    )
}
