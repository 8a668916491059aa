import Type, { type Static } from 'typebox'
import type { Caller } from '#cloud/access.ts'
import { snapshot, type Snapshot as Resource } from '#cloud/storage/snapshot.kind.ts'
import { INVALID_INPUT } from './errors.ts'
import { byIdOrName } from './lookup.ts'
import { type Frame, operation } from './operation.ts'
import { Message, NIL, timestamp, Timestamp, Uuid } from './schema.ts'
import { encodeVolume, Volume, VolumeName } from './volumes.ts'

const Snapshot = Type.Object({
  id: Uuid,
  user_id: Uuid,
  tenant_id: Uuid,
  volume_id: Uuid,
  volume_name: Type.String(),
  size_gb: Type.Integer(),
  status: Type.Enum(['CREATING', 'AVAILABLE', 'ERROR']),
  description: Type.String(),
  created_at: Timestamp,
})

const STATUS = { creating: 'CREATING', available: 'AVAILABLE', error: 'ERROR' } as const

const encode = (it: Resource): Static<typeof Snapshot> => ({
  id: it.id,
  user_id: it.spec.creator ?? NIL,
  tenant_id: it.tenant,
  volume_id: it.spec.volume,
  volume_name: it.spec.volumeName,
  size_gb: it.spec.sizeGib,
  status: STATUS[it.status.state],
  description: it.spec.description ?? '',
  created_at: timestamp(it.createdAt),
})

const common = { tag: 'Snapshots' }
const one = { ...common, params: { id: Uuid }, refuses: [404] as const }

export function snapshotRoutes(frame: Frame): void {
  const { cloud } = frame
  const named = async (caller: Caller, id: string): Promise<Resource> =>
    await byIdOrName(cloud, caller, snapshot, id, 'Snapshot')
  operation(frame, {
    ...common,
    method: 'POST',
    path: '/snapshots',
    id: 'createSnapshot',
    summary: 'Copy what a volume holds now, in the background',
    description: 'What is written to the volume while it is copied waits.',
    body: Type.Object({
      volume_id: Uuid,
      description: Type.Optional(Type.String({ maxLength: 1024 })),
    }),
    answer: Snapshot,
    status: 201,
    refuses: [404],
    refusals: { 'conflict:wrong_state': INVALID_INPUT },
    async run({ caller, body: { volume_id: of, description } }) {
      const input = { volume: of, ...(description === undefined ? {} : { description }) }
      return encode(await cloud.act(caller, 'snapshot.create', (verbs) => verbs.createSnapshot(input)))
    },
  })
  operation(frame, {
    ...common,
    method: 'GET',
    path: '/snapshots',
    id: 'listSnapshots',
    summary: 'Snapshots of the tenant, oldest first',
    answer: Type.Array(Snapshot),
    run: async ({ caller }) => (await cloud.all(caller, snapshot, { deleted: false })).map(encode),
  })
  operation(frame, {
    ...one,
    method: 'GET',
    path: '/snapshots/:id',
    id: 'getSnapshot',
    summary: 'Read a snapshot',
    answer: Snapshot,
    run: async ({ caller, params }) => encode(await named(caller, params.id)),
  })
  operation(frame, {
    ...one,
    method: 'DELETE',
    path: '/snapshots/:id',
    id: 'deleteSnapshot',
    summary: 'Delete a snapshot; volumes made from it stay',
    answer: Message('snapshot deleted'),
    async run({ caller, params }) {
      const { id } = await named(caller, params.id)
      await cloud.act(caller, 'snapshot.delete', (verbs) => verbs.remove(snapshot, id))
      return { message: 'snapshot deleted' as const }
    },
  })
  operation(frame, {
    ...one,
    method: 'POST',
    path: '/snapshots/:id/restore',
    id: 'restoreSnapshot',
    summary: 'A new volume with what a snapshot holds',
    body: Type.Object({ new_volume_name: VolumeName }),
    answer: Volume,
    status: 201,
    refusals: {
      'conflict:wrong_state': INVALID_INPUT,
      already_exists: { status: 400 },
      conflict: { status: 400 },
    },
    async run({ caller, params, body: { new_volume_name: name } }) {
      const input = { id: params.id, name }
      return encodeVolume(
        await cloud.act(caller, 'snapshot.restore', (verbs) => verbs.restoreSnapshot(input)),
      )
    },
  })
}
