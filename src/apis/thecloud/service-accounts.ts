import Type, { type Static } from 'typebox'
import type { Caller } from '#cloud/access.ts'
import { serviceAccount, type ServiceAccount as Resource } from '#cloud/identity/service-account.kind.ts'
import { CloudError } from '#lib/errors.ts'
import { type Frame, operation } from './operation.ts'
import { attachedTo, Policy } from './policies.ts'
import { Status, Text, timestamp, Timestamp, Uuid } from './schema.ts'

const ServiceAccount = Type.Object({
  id: Uuid,
  tenant_id: Uuid,
  name: Type.String(),
  description: Type.Optional(Type.String()),
  role: Type.String(),
  enabled: Type.Boolean(),
  created_at: Timestamp,
  updated_at: Timestamp,
})
const Secret = Type.Object({
  id: Uuid,
  service_account_id: Uuid,
  name: Type.String(),
  expires_at: Type.Optional(Timestamp),
  created_at: Timestamp,
  last_used_at: Type.Optional(Timestamp),
})

const encode = (it: Resource): Static<typeof ServiceAccount> => ({
  id: it.id,
  tenant_id: it.tenant,
  name: it.name,
  ...(it.spec.description === undefined ? {} : { description: it.spec.description }),
  role: it.spec.role,
  enabled: it.spec.enabled,
  created_at: timestamp(it.createdAt),
  updated_at: timestamp(it.updatedAt),
})

const common = { tag: 'Service accounts' }
const one = { ...common, params: { id: Uuid }, refuses: [404] as const }
const pair = { ...common, params: { id: Uuid, policyId: Uuid }, refuses: [404] as const }

export function serviceAccountRoutes(frame: Frame): void {
  const { cloud } = frame
  const existing = async (caller: Caller, id: string): Promise<Resource> => {
    const found = (await cloud.owned(caller, serviceAccount)).find((it) => it.id === id)
    if (!found) throw new CloudError('not_found', 'Service account not found')
    return found
  }
  const ofAccount = (id: string) => ({ kind: 'service-account' as const, id })
  operation(frame, {
    ...common,
    method: 'POST',
    path: '/iam/service-accounts',
    id: 'createServiceAccount',
    summary: 'Make a service account; its secret is shown this once',
    body: Type.Object({
      name: Text(200),
      role: Text(100),
      description: Type.Optional(Type.String({ maxLength: 4096 })),
    }),
    answer: Type.Object({ ...ServiceAccount.properties, secret: Type.String() }),
    status: 201,
    async run({ caller, body, reply }) {
      const { account, secret } = await cloud.act(caller, 'service_account.create', (verbs) =>
        verbs.iam.createServiceAccount({
          name: body.name,
          role: body.role,
          ...(body.description === undefined ? {} : { description: body.description }),
        }),
      )
      void reply.header('cache-control', 'no-store')
      return { ...encode(account), secret }
    },
  })
  operation(frame, {
    ...common,
    method: 'GET',
    path: '/iam/service-accounts',
    id: 'listServiceAccounts',
    summary: 'Service accounts of the tenant',
    answer: Type.Array(ServiceAccount),
    run: async ({ caller }) => (await cloud.owned(caller, serviceAccount)).map(encode),
  })
  operation(frame, {
    ...one,
    method: 'GET',
    path: '/iam/service-accounts/:id',
    id: 'getServiceAccount',
    summary: 'Read a service account',
    answer: ServiceAccount,
    run: async ({ caller, params }) => encode(await existing(caller, params.id)),
  })
  operation(frame, {
    ...one,
    method: 'DELETE',
    path: '/iam/service-accounts/:id',
    id: 'deleteServiceAccount',
    summary: 'Delete it with its secrets; its tokens open nothing any more',
    answer: Status('deleted'),
    async run({ caller, params }) {
      await cloud.act(caller, 'service_account.delete', (verbs) => verbs.iam.deleteServiceAccount(params.id))
      return { status: 'deleted' as const }
    },
  })
  operation(frame, {
    ...one,
    method: 'GET',
    path: '/iam/service-accounts/:id/secrets',
    id: 'listServiceAccountSecrets',
    summary: 'What there is to know of its secrets, but not themselves',
    answer: Type.Array(Secret),
    async run({ caller, params }) {
      const it = await existing(caller, params.id)
      return await Promise.all(
        it.spec.secrets.map(async (secret) => {
          const used = await cloud.lastUsed(secret.id)
          return {
            id: secret.id,
            service_account_id: it.id,
            name: secret.name,
            ...(secret.expiresAt === undefined ? {} : { expires_at: timestamp(secret.expiresAt) }),
            created_at: timestamp(secret.createdAt),
            ...(used === undefined ? {} : { last_used_at: timestamp(used) }),
          }
        }),
      )
    },
  })
  operation(frame, {
    ...one,
    method: 'POST',
    path: '/iam/service-accounts/:id/secrets/:secretId',
    id: 'revokeServiceAccountSecret',
    summary: 'Revoke one secret',
    params: { id: Uuid, secretId: Uuid },
    answer: Status('revoked'),
    async run({ caller, params: { id, secretId } }) {
      await cloud.act(caller, 'service_account.revoke_secret', (verbs) =>
        verbs.iam.revokeSecret(id, secretId),
      )
      return { status: 'revoked' as const }
    },
  })
  operation(frame, {
    ...one,
    method: 'POST',
    path: '/iam/service-accounts/:id/rotate-secret',
    id: 'rotateServiceAccountSecret',
    summary: 'One new secret in the place of all',
    answer: Type.Object({ secret: Type.String() }),
    async run({ caller, params, reply }) {
      const { secret } = await cloud.act(caller, 'service_account.rotate_secret', (verbs) =>
        verbs.iam.rotateSecret(params.id),
      )
      void reply.header('cache-control', 'no-store')
      return { secret }
    },
  })
  operation(frame, {
    ...pair,
    method: 'POST',
    path: '/iam/service-accounts/:id/policies/:policyId',
    id: 'attachServiceAccountPolicy',
    summary: 'Attach a policy to it; a repeat is fine',
    answer: Status('attached'),
    async run({ caller, params: { id, policyId } }) {
      await cloud.act(caller, 'iam.policy_attach', (verbs) => verbs.iam.attachPolicy(policyId, ofAccount(id)))
      return { status: 'attached' as const }
    },
  })
  operation(frame, {
    ...pair,
    method: 'DELETE',
    path: '/iam/service-accounts/:id/policies/:policyId',
    id: 'detachServiceAccountPolicy',
    summary: 'Detach a policy from it',
    answer: Status('detached'),
    async run({ caller, params: { id, policyId } }) {
      await cloud.act(caller, 'iam.policy_detach', (verbs) => verbs.iam.detachPolicy(policyId, ofAccount(id)))
      return { status: 'detached' as const }
    },
  })
  operation(frame, {
    ...one,
    method: 'GET',
    path: '/iam/service-accounts/:id/policies',
    id: 'listServiceAccountPolicies',
    summary: 'Policies attached to it',
    answer: Type.Array(Policy),
    async run({ caller, params }) {
      const { id } = await existing(caller, params.id)
      return await attachedTo(frame, caller, id)
    },
  })
}
