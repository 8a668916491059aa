import Type, { type Static } from 'typebox'
import { sshKey, type SshKey as Resource } from '#cloud/compute/ssh-key.kind.ts'
import { byIdOrName } from './lookup.ts'
import { type Frame, operation } from './operation.ts'
import { IdOrName, NIL, Text, timestamp, Timestamp, Uuid } from './schema.ts'

const SshKey = Type.Object({
  id: Uuid,
  user_id: Uuid,
  tenant_id: Uuid,
  name: Type.String(),
  public_key: Type.String(),
  fingerprint: Type.String({ description: 'As `ssh-keygen -l` shows it.' }),
  created_at: Timestamp,
})

const encode = (it: Resource): Static<typeof SshKey> => ({
  id: it.id,
  user_id: it.spec.creator ?? NIL,
  tenant_id: it.tenant,
  name: it.name,
  public_key: it.spec.publicKey,
  fingerprint: it.spec.fingerprint,
  created_at: timestamp(it.createdAt),
})

const common = { tag: 'SSH keys' }
const one = { ...common, path: '/ssh-keys/:id', params: { id: IdOrName }, refuses: [404] as const }

export function sshKeyRoutes(frame: Frame): void {
  const { cloud } = frame
  operation(frame, {
    ...common,
    method: 'POST',
    path: '/ssh-keys',
    id: 'createSshKey',
    summary: 'Register a public key',
    body: Type.Object({ name: Text(255), public_key: Text(16_384) }),
    answer: SshKey,
    status: 201,
    refuses: [409],
    async run({ caller, body: { name, public_key: publicKey } }) {
      return encode(
        await cloud.act(caller, 'ssh_key.create', (verbs) => verbs.createSshKey({ name, publicKey })),
      )
    },
  })
  operation(frame, {
    ...common,
    method: 'GET',
    path: '/ssh-keys',
    id: 'listSshKeys',
    summary: 'Public keys of the tenant, oldest first',
    answer: Type.Array(SshKey),
    paged: true,
    run: async ({ caller }) => (await cloud.all(caller, sshKey, { deleted: false })).map(encode),
  })
  operation(frame, {
    ...one,
    method: 'GET',
    id: 'getSshKey',
    summary: 'Read a public key',
    answer: SshKey,
    run: async ({ caller, params }) => encode(await byIdOrName(cloud, caller, sshKey, params.id, 'SSH key')),
  })
  operation(frame, {
    ...one,
    method: 'DELETE',
    id: 'deleteSshKey',
    summary: 'Delete a public key; instances that have it keep it',
    status: 204,
    async run({ caller, params }) {
      const { id } = await byIdOrName(cloud, caller, sshKey, params.id, 'SSH key')
      await cloud.act(caller, 'ssh_key.delete', (verbs) => verbs.remove(sshKey, id))
    },
  })
}
