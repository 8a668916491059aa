import Type from 'typebox'
import type { Caller } from '#cloud/access.ts'
import type { Cloud } from '#cloud/cloud.ts'
import { workload } from '#cloud/compute/workload.kind.ts'
import { serviceTunnel } from '#cloud/edge/service-tunnel.kind.ts'
import { tunnel, type Tunnel as Resource } from '#cloud/edge/tunnel.kind.ts'
import type { Doors } from './doors.ts'
import { idOf, listOf, Nothing, params, refusals, said, Uuid, type App } from './schema.ts'
import {
  decodeTunnel,
  encodeServiceTunnel,
  encodeTunnel,
  PORT_DEFAULT,
  ServiceTunnel,
  ServiceTunnelCreate,
  Tunnel,
  TunnelCreate,
  TunnelCreateAutoNamed,
} from './tunnel.ts'

/** How long an answer waits for the edge: what it tells is then true, in all but bad times. */
const EDGE_MS_MAX = 2000

const common = { tags: ['tunnels'] }

/** The tunnels of a tenant that are not on their way out: what is asked to go answers no more. */
export const liveTunnels = async (cloud: Cloud, caller: Caller, pod?: string): Promise<readonly Resource[]> =>
  await cloud.all(caller, tunnel, {
    deleted: false,
    ...(pod === undefined ? {} : { terms: [`workload:${pod}`] }),
  })

export function tunnelRoutes(app: App, cloud: Cloud, { callerOf }: Doors): void {
  const create = async (caller: Caller, input: Parameters<typeof decodeTunnel>[0], pod: string) => {
    const made = await cloud.act(caller, 'circloud.tunnels.create', (verbs) =>
      verbs.createTunnel(decodeTunnel(input, pod, PORT_DEFAULT)),
    )
    return encodeTunnel((await cloud.settled(caller, tunnel, made.id, EDGE_MS_MAX)) ?? made)
  }
  app.post(
    '/pods/:pod_id/tunnel',
    {
      schema: {
        ...common,
        operationId: 'createPodTunnel',
        summary: 'Create a named tunnel to a pod',
        params: params('pod_id'),
        body: TunnelCreate,
        response: { 201: said(Tunnel, 'Tunnel created.'), ...refusals(400, 401, 404, 409) },
      },
    },
    async (request, reply) => {
      const pod = idOf(request.params.pod_id, 'Pod')
      return reply.code(201).send(await create(callerOf(request), request.body, pod))
    },
  )
  app.get(
    '/pods/:pod_id/tunnels',
    {
      config: { remembered: true },
      schema: {
        ...common,
        operationId: 'listPodTunnels',
        summary: 'List the tunnels of one pod',
        params: params('pod_id'),
        response: { 200: listOf(Tunnel, 'Tunnels of the pod.'), ...refusals(401, 404) },
      },
    },
    async (request, reply) => {
      const caller = callerOf(request)
      const { id } = await cloud.get(caller, workload, idOf(request.params.pod_id, 'Pod'))
      return reply.code(200).send((await liveTunnels(cloud, caller, id)).map(encodeTunnel))
    },
  )
  app.post(
    '/tunnels',
    {
      schema: {
        ...common,
        operationId: 'createTunnelAutoNamed',
        summary: 'Create a tunnel whose name comes from the pod',
        description: 'The pod is given in the query string; the tunnel name is derived from the pod name.',
        querystring: Type.Object({ pod_id: Uuid }),
        body: TunnelCreateAutoNamed,
        response: { 201: said(Tunnel, 'Tunnel created.'), ...refusals(400, 401, 404, 409) },
      },
    },
    async (request, reply) => {
      // A name that is sent all the same counts for nothing.
      const { subdomain, protocol_type, service_port, domain } = request.body
      const input = {
        subdomain,
        protocol_type,
        ...(service_port === undefined ? {} : { service_port }),
        ...(domain === undefined ? {} : { domain }),
      }
      return reply.code(201).send(await create(callerOf(request), input, request.query.pod_id.toLowerCase()))
    },
  )
  app.get(
    '/tunnels',
    {
      config: { remembered: true },
      schema: {
        ...common,
        operationId: 'listTunnels',
        summary: "List the caller's tunnels",
        response: {
          200: listOf(
            Tunnel,
            "Tunnels of the token's tenant, oldest first. Service tunnels are not included.",
          ),
          ...refusals(401),
        },
      },
    },
    async (request, reply) =>
      reply.code(200).send((await liveTunnels(cloud, callerOf(request))).map(encodeTunnel)),
  )
  app.delete(
    '/tunnels/:tunnel_id',
    {
      schema: {
        ...common,
        operationId: 'deleteTunnel',
        summary: 'Delete a tunnel',
        params: Type.Object({ tunnel_id: Type.String() }),
        response: {
          204: Nothing('Deleted; the hostname no longer answers. No body.'),
          ...refusals(401, 404),
        },
      },
    },
    async (request, reply) => {
      const caller = callerOf(request)
      const id = idOf(request.params.tunnel_id, 'Tunnel')
      await cloud.act(caller, 'circloud.tunnels.delete', (verbs) => verbs.deleteTunnel(id))
      await cloud.settled(caller, tunnel, id, EDGE_MS_MAX)
      return reply.code(204).send(null)
    },
  )
}

/** In a scope for administrators. */
export function serviceTunnelRoutes(app: App, cloud: Cloud, { callerOf }: Doors): void {
  app.post(
    '/service-tunnels',
    {
      schema: {
        ...common,
        operationId: 'createServiceTunnel',
        summary: 'Create a tunnel to a platform service',
        security: [{ AdminToken: [] }],
        body: ServiceTunnelCreate,
        response: { 201: said(ServiceTunnel, 'Tunnel created.'), ...refusals(400, 401, 409) },
      },
    },
    async (request, reply) => {
      const caller = callerOf(request)
      const { service, subdomain, tunnel_name: name, protocol_type: protocol = 'https' } = request.body
      const { service_port: port, domain } = request.body
      const made = await cloud.act(caller, 'circloud.service-tunnels.create', (verbs) =>
        verbs.createServiceTunnel({
          service,
          subdomain,
          protocol,
          ...(name === undefined ? {} : { name }),
          ...(port === undefined ? {} : { port }),
          ...(typeof domain === 'string' ? { domain } : {}),
        }),
      )
      const shown = (await cloud.settled(caller, serviceTunnel, made.id, EDGE_MS_MAX)) ?? made
      return reply.code(201).send(encodeServiceTunnel(shown))
    },
  )
}
