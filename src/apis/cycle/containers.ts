import Type from 'typebox'
import type { App } from '#apis/app.ts'
import type { Inside } from '#cloud/cloud.ts'
import { answers, listOf } from './answers.ts'
import { containerAnswer } from './container.ts'
import { instanceOf } from './doors.ts'
import { encodeInstance } from './instance.ts'
import { encodeCertificate, encodeRecord } from './record.ts'
import { Container } from './schema/container.ts'
import { Instance } from './schema/instance.ts'
import { Certificate, DnsRecord } from './schema/record.ts'

const common = { tags: ['Containers'] }
const querystring = Type.Object({
  'container-id': Type.Optional(
    Type.String({ description: 'Id of a container of the environment; absent or empty: its own.' }),
  ),
})

/** The container that a query names; undefined for the caller's own. */
const namedIn = (query: { readonly 'container-id'?: string }): string | undefined =>
  query['container-id'] === '' ? undefined : query['container-id']

export function containerRoutes(app: App, inside: Inside): void {
  app.get(
    '/v1/container',
    {
      config: { remembered: true },
      schema: {
        ...common,
        operationId: 'getContainer',
        summary: 'The container of the instance that asks, or another of its environment',
        querystring,
        response: answers(Container, 'The container.'),
      },
    },
    async (request) => containerAnswer(await inside.workload(instanceOf(request), namedIn(request.query))),
  )
  app.get(
    '/v1/container/instances',
    {
      config: { remembered: true },
      schema: {
        ...common,
        operationId: 'getContainerInstances',
        summary: 'The instances of a container',
        querystring,
        response: listOf(Instance, 'Oldest first.'),
      },
    },
    async (request) => {
      const of = instanceOf(request)
      const replicas = await inside.replicasOf(of, namedIn(request.query))
      return { data: replicas.map((it) => encodeInstance(it, inside.machine)) }
    },
  )
  // The vendor's first Node client asks for certificates in the singular.
  for (const [path, hide] of [
    ['/v1/containers/certificates', false],
    ['/v1/container/certificates', true],
  ] as const)
    app.get(
      path,
      {
        schema: {
          ...common,
          hide,
          operationId: 'getContainerCertificates',
          summary: 'The certificates of hostnames that lead to a container, with their keys',
          querystring,
          response: listOf(Certificate, 'Each once, oldest first.'),
        },
      },
      async (request) => {
        const of = instanceOf(request)
        const all = await inside.certificates(of, namedIn(request.query))
        return { data: all.map((it) => encodeCertificate(it, of.tenant.id)) }
      },
    )
  for (const [path, hide] of [
    ['/v1/containers/domains', false],
    ['/v1/container/domains', true],
  ] as const)
    app.get(
      path,
      {
        schema: {
          ...common,
          hide,
          operationId: 'getContainerDomains',
          summary: 'The hostnames that lead to a container',
          querystring,
          response: listOf(
            Type.Object({ fqdn: Type.String(), record: Type.Optional(DnsRecord) }),
            'Those of tunnels and routes, as LINKED records.',
          ),
        },
      },
      async (request) => {
        const all = await inside.hostnames(instanceOf(request), namedIn(request.query))
        return { data: all.map((it) => ({ fqdn: it.hostname, record: encodeRecord(it) })) }
      },
    )
}
