import Type from 'typebox'
import type { App } from '#apis/app.ts'
import type { Inside, Instance } from '#cloud/cloud.ts'
import { SERVICES } from '#cloud/compute/workload.kind.ts'
import { objectId } from '#lib/object-id.ts'
import { answers, listOf } from './answers.ts'
import { encodeContainer, encodeContainerSummary } from './container.ts'
import { instanceOf } from './doors.ts'
import { encodeEnvironment } from './environment.ts'
import { encodeInstance, encodeInstanceSummary } from './instance.ts'
import { encodeIp } from './ip.ts'
import { Container } from './schema/container.ts'
import { Environment } from './schema/environment.ts'
import { Instance as InstanceBody, ServiceContainer } from './schema/instance.ts'
import { Ip } from './schema/ip.ts'
import { VirtualMachine } from './schema/virtual-machine.ts'

const common = { tags: ['Environments'] }

async function servicesOf(inside: Inside, of: Instance) {
  const { services } = await inside.environment(of)
  const shown = await Promise.all(
    SERVICES.map(async (name): Promise<[string, ServiceContainer][]> => {
      const it = services[name]
      if (!it) return []
      const replicas = await inside.replicasOf(of, objectId(it.workload.id))
      const instances = replicas.map((one) => encodeInstanceSummary(one, inside.machine))
      return [[name, { container: encodeContainerSummary(it), instances }]]
    }),
  )
  return Object.fromEntries(shown.flat()) as Partial<Record<(typeof SERVICES)[number], ServiceContainer>>
}

export function environmentRoutes(app: App, inside: Inside): void {
  app.get(
    '/v1/environment',
    {
      config: { remembered: true },
      schema: {
        ...common,
        operationId: 'getEnvironment',
        summary: 'The environment of the instance that asks',
        response: answers(Environment, 'The environment.'),
      },
    },
    async (request) => ({
      data: encodeEnvironment(await inside.environment(instanceOf(request))),
    }),
  )
  app.get(
    '/v1/environment/containers',
    {
      config: { remembered: true },
      schema: {
        ...common,
        operationId: 'getEnvironmentContainers',
        summary: 'Its containers, those of services included',
        response: listOf(Container, 'Oldest first.'),
      },
    },
    async (request) => ({
      data: (await inside.workloads(instanceOf(request))).map(encodeContainer),
    }),
  )
  app.get(
    '/v1/environment/instances',
    {
      config: { remembered: true },
      schema: {
        ...common,
        operationId: 'getEnvironmentInstances',
        summary: 'The instances of its containers',
        response: listOf(InstanceBody, 'Oldest first.'),
      },
    },
    async (request) => {
      const of = instanceOf(request)
      return { data: (await inside.replicas(of)).map((it) => encodeInstance(it, inside.machine)) }
    },
  )
  app.get(
    '/v1/environment/ips',
    {
      config: { remembered: true },
      schema: {
        ...common,
        operationId: 'getEnvironmentIPs',
        summary: 'Addresses outside that are held for it',
        response: listOf(Ip, 'In the order of their addresses.'),
      },
    },
    async (request) => {
      const of = instanceOf(request)
      return { data: (await inside.addresses(of)).map((it) => encodeIp(it, of.vpc)) }
    },
  )
  app.get(
    '/v1/environment/services',
    {
      config: { remembered: true },
      schema: {
        ...common,
        operationId: 'getEnvironmentServices',
        summary: 'Its services, with their containers and instances',
        response: answers(
          Type.Object(
            Object.fromEntries(SERVICES.map((it) => [it, Type.Optional(ServiceContainer)])) as Record<
              (typeof SERVICES)[number],
              ReturnType<typeof Type.Optional<typeof ServiceContainer>>
            >,
          ),
          'One key for each service that has a container.',
        ),
      },
    },
    async (request) => ({ data: await servicesOf(inside, instanceOf(request)) }),
  )
  app.get(
    '/v1/environment/virtual-machines',
    {
      schema: {
        ...common,
        operationId: 'getEnvironmentVirtualMachines',
        summary: 'Its virtual machines',
        response: listOf(VirtualMachine, 'None: this installation runs containers alone.'),
      },
    },
    async () => ({ data: [] }),
  )
  app.get(
    '/v1/environment/scoped-variables',
    {
      schema: {
        ...common,
        operationId: 'getEnvironmentScopedVariables',
        summary: 'The variables that the instance may read here now',
        response: answers(Type.Record(Type.String(), Type.String()), 'Identifier to value.'),
      },
    },
    async (request) => ({ data: { ...(await inside.variables(instanceOf(request))) } }),
  )
}
