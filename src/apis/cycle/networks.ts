import type { App } from '#apis/app.ts'
import type { Inside } from '#cloud/cloud.ts'
import { listOf } from './answers.ts'
import { instanceOf } from './doors.ts'
import { encodeEnvironment } from './environment.ts'
import { encodeNetwork } from './hub.ts'
import { encodeInstance } from './instance.ts'
import { Environment } from './schema/environment.ts'
import { Instance } from './schema/instance.ts'
import { Network } from './schema/network.ts'

const common = { tags: ['SDN'] }

export function networkRoutes(app: App, inside: Inside): void {
  app.get(
    '/v1/sdn/networks',
    {
      config: { remembered: true },
      schema: {
        ...common,
        operationId: 'getNetworks',
        summary: 'The networks that join the environment with others',
        response: listOf(Network, 'Oldest first.'),
      },
    },
    async (request) => ({ data: (await inside.networks(instanceOf(request))).map(encodeNetwork) }),
  )
  app.get(
    '/v1/sdn/networks/environments',
    {
      config: { remembered: true },
      schema: {
        ...common,
        operationId: 'getNetworkEnvironments',
        summary: 'The environments of those networks, its own among them',
        response: listOf(Environment, 'Each once, oldest first.'),
      },
    },
    async (request) => ({ data: (await inside.joined(instanceOf(request))).map(encodeEnvironment) }),
  )
  app.get(
    '/v1/sdn/networks/instances',
    {
      config: { remembered: true },
      schema: {
        ...common,
        operationId: 'getNetworkInstances',
        summary: 'The instances of those environments',
        response: listOf(Instance, 'Each once, oldest first.'),
      },
    },
    async (request) => {
      const of = instanceOf(request)
      return { data: (await inside.joinedReplicas(of)).map((it) => encodeInstance(it, inside.machine)) }
    },
  )
}
