import Type from 'typebox'
import type { App } from '#apis/app.ts'
import { answers, listOf } from './answers.ts'
import { refusal } from './errors.ts'
import { DnsRecord } from './schema/record.ts'
import { Id, nullable } from './schema/scalar.ts'
import { VirtualMachine } from './schema/virtual-machine.ts'

const querystring = Type.Object({
  'virtual-machine-id': Type.String({ description: 'Id of a virtual machine of the environment.' }),
})

const OPERATIONS = [
  ['/v1/virtual-machine', 'getVirtualMachine', 'A virtual machine', answers(VirtualMachine, 'The machine.')],
  [
    '/v1/virtual-machine/domains',
    'getVirtualMachineDomains',
    'The hostnames that lead to a virtual machine',
    listOf(
      Type.Object({ fqdn: Type.String(), record: Type.Optional(nullable(DnsRecord)) }),
      'Its hostnames.',
    ),
  ],
  [
    '/v1/virtual-machine/gateways',
    'getVirtualMachineGateways',
    'The gateways of a virtual machine',
    listOf(
      Type.Object({
        virtual_machine_id: Id,
        gateway_instance_id: Id,
        ips: Type.Optional(
          Type.Array(
            Type.Object({
              kind: Type.Enum(['ipv4', 'ipv6']),
              public_ip: Type.String(),
              gateway_private_ip: Type.Optional(nullable(Type.String())),
              gateway_nat_ip: Type.Optional(nullable(Type.String())),
            }),
          ),
        ),
      }),
      'Its gateways.',
    ),
  ],
] as const

/** Workloads are containers here: every virtual machine that is asked for is one that does not exist. */
export function virtualMachineRoutes(app: App): void {
  for (const [path, operationId, summary, response] of OPERATIONS)
    app.get(
      path,
      {
        schema: {
          tags: ['Virtual machines'],
          operationId,
          summary,
          description: 'There are none: this installation runs containers alone.',
          querystring,
          response,
        },
      },
      async () => {
        throw refusal(
          '404.virtual-machine',
          'No such virtual machine in the environment of this instance.',
          '/query/virtual-machine-id',
        )
      },
    )
}
