import Type from 'typebox'
import { type Frame, operation } from './operation.ts'

const InstanceType = Type.Object({
  id: Type.String(),
  name: Type.String(),
  vcpus: Type.Integer(),
  memory_mb: Type.Integer(),
  disk_gb: Type.Integer({ description: 'For its own files; not enforced.' }),
  network_mbps: Type.Integer({ description: 'Not enforced.' }),
  price_per_hour: Type.Number({ description: 'USD.' }),
  category: Type.String(),
})

export function instanceTypeRoutes(frame: Frame): void {
  operation(frame, {
    tag: 'Instance types',
    method: 'GET',
    path: '/instance-types',
    id: 'listInstanceTypes',
    summary: 'How large an instance can be',
    answer: Type.Array(InstanceType),
    paged: true,
    run: ({ caller }) =>
      frame.cloud.instanceTypes(caller).map((it) => ({
        id: it.id,
        name: it.name,
        vcpus: it.vcpus,
        memory_mb: it.memoryMib,
        disk_gb: it.diskGb,
        network_mbps: it.networkMbps,
        price_per_hour: it.pricePerHour,
        category: it.category,
      })),
  })
}
