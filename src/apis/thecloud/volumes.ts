import Type, { type Static } from 'typebox'
import type { Caller } from '#cloud/access.ts'
import { workload, type Workload } from '#cloud/compute/workload.kind.ts'
import { volume, type Volume as Resource, VOLUME_GIB_MAX } from '#cloud/storage/volume.kind.ts'
import { INVALID_INPUT } from './errors.ts'
import { machineNamed } from './instance.ts'
import { byIdOrName } from './lookup.ts'
import { type Frame, operation } from './operation.ts'
import { IdOrName, Message, NIL, Text, timestamp, Timestamp, Uuid } from './schema.ts'

export const Volume = Type.Object({
  id: Uuid,
  user_id: Uuid,
  tenant_id: Uuid,
  name: Type.String(),
  size_gb: Type.Integer(),
  status: Type.Enum(['AVAILABLE', 'IN-USE']),
  instance_id: Type.Optional(Uuid),
  mount_path: Type.Optional(Type.String()),
  encrypted: Type.Boolean(),
  backend_path: Type.Optional(Type.String({ description: 'Never given: it is the host’s own.' })),
  kms_key_id: Type.Optional(Type.String({ description: 'Never given: volumes are not encrypted.' })),
  created_at: Timestamp,
  updated_at: Timestamp,
})
export const VolumeName = Type.String({ minLength: 3, maxLength: 64 })

/** A volume, with the workload that has it. */
export function encodeVolume(it: Resource, user?: Workload): Static<typeof Volume> {
  const mount = user?.spec.volumes?.find((one) => one.volume === it.id)
  return {
    id: it.id,
    user_id: it.spec.creator ?? NIL,
    tenant_id: it.tenant,
    name: it.name,
    size_gb: it.spec.sizeGib,
    status: user ? 'IN-USE' : 'AVAILABLE',
    ...(user ? { instance_id: user.id } : {}),
    ...(mount ? { mount_path: mount.path } : {}),
    encrypted: false,
    created_at: timestamp(it.createdAt),
    updated_at: timestamp(it.updatedAt),
  }
}

const common = { tag: 'Volumes' }
const one = { ...common, params: { id: IdOrName }, refuses: [404] as const }

export function volumeRoutes(frame: Frame): void {
  const { cloud } = frame
  /** Who has each volume, also those on their way out. */
  const users = async (caller: Caller): Promise<ReadonlyMap<string, Workload>> => {
    const all = await cloud.all(caller, workload)
    return new Map(all.flatMap((it) => (it.spec.volumes ?? []).map((mount) => [mount.volume, it] as const)))
  }
  const named = async (caller: Caller, reference: string): Promise<Resource> =>
    await byIdOrName(cloud, caller, volume, reference, 'Volume')
  operation(frame, {
    ...common,
    method: 'GET',
    path: '/volumes',
    id: 'listVolumes',
    summary: 'Volumes of the tenant, oldest first',
    answer: Type.Array(Volume),
    async run({ caller }) {
      const [all, used] = await Promise.all([cloud.all(caller, volume, { deleted: false }), users(caller)])
      return all.map((it) => encodeVolume(it, used.get(it.id)))
    },
  })
  operation(frame, {
    ...common,
    method: 'POST',
    path: '/volumes',
    id: 'createVolume',
    summary: 'Make a volume; what is written to it cannot pass its size',
    body: Type.Object({
      name: VolumeName,
      size_gb: Type.Integer({ minimum: 1, maximum: VOLUME_GIB_MAX, description: 'GiB.' }),
    }),
    answer: Volume,
    status: 201,
    refuses: [409],
    async run({ caller, body: { name, size_gb: sizeGib } }) {
      return encodeVolume(
        await cloud.act(caller, 'volume.create', (verbs) => verbs.createVolume({ name, sizeGib })),
      )
    },
  })
  operation(frame, {
    ...one,
    method: 'GET',
    path: '/volumes/:id',
    id: 'getVolume',
    summary: 'Read a volume',
    answer: Volume,
    async run({ caller, params }) {
      const it = await named(caller, params.id)
      return encodeVolume(it, (await users(caller)).get(it.id))
    },
  })
  operation(frame, {
    ...one,
    method: 'DELETE',
    path: '/volumes/:id',
    id: 'deleteVolume',
    summary: 'Delete a volume that nobody uses, with its snapshots',
    answer: Message('volume deleted'),
    refusals: { 'conflict:in_use': INVALID_INPUT },
    async run({ caller, params }) {
      const { id } = await named(caller, params.id)
      await cloud.act(caller, 'volume.delete', (verbs) => verbs.deleteVolume(id))
      return { message: 'volume deleted' as const }
    },
  })
  operation(frame, {
    ...one,
    method: 'POST',
    path: '/volumes/:id/attach',
    id: 'attachVolume',
    summary: 'Mount a volume in an instance',
    description:
      'The instance is started anew for it, in a new container: what it wrote outside of volumes is gone. `device_path` is a name only; the volume is mounted at `mount_path`.',
    body: Type.Object({ instance_id: Text(255), mount_path: Text(1024) }),
    answer: Type.Object({ message: Type.Literal('volume attached'), device_path: Type.String() }),
    refuses: [404, 409],
    async run({ caller, params, body }) {
      const { id } = await named(caller, params.id)
      const { it } = await machineNamed(cloud, caller, body.instance_id)
      const mount = { volume: id, instance: it.id, path: body.mount_path }
      const device = await cloud.act(caller, 'volume.attach', (verbs) => verbs.attachVolume(mount))
      return { message: 'volume attached' as const, device_path: device }
    },
  })
  operation(frame, {
    ...one,
    method: 'POST',
    path: '/volumes/:id/detach',
    id: 'detachVolume',
    summary: 'Take a volume from its instance, which is started anew for it',
    answer: Message('volume detached'),
    refusals: { 'conflict:wrong_state': INVALID_INPUT },
    async run({ caller, params }) {
      const { id } = await named(caller, params.id)
      await cloud.act(caller, 'volume.detach', (verbs) => verbs.detachVolume(id))
      return { message: 'volume detached' as const }
    },
  })
}
