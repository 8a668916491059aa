import Type, { type Static } from 'typebox'
import type { Caller } from '#cloud/access.ts'
import { policy, type Policy as Resource, Statement } from '#cloud/identity/policy.kind.ts'
import { CloudError } from '#lib/errors.ts'
import { type Frame, operation } from './operation.ts'
import { Status, Text, Uuid } from './schema.ts'

export const Policy = Type.Object({
  id: Uuid,
  tenant_id: Uuid,
  name: Type.String(),
  description: Type.Optional(Type.String()),
  statements: Type.Array(Type.Object({ ...Statement.properties })),
})

/** Unknown members of a statement are ignored like all others. */
const StatementBody = Type.Object({ ...Statement.properties })
const Body = Type.Object({
  name: Text(200),
  statements: Type.Array(StatementBody, { minItems: 1, maxItems: 100 }),
  description: Type.Optional(Type.String({ maxLength: 4096 })),
  id: Type.Optional(Type.String({ description: 'Sent by the client; ignored.' })),
  tenant_id: Type.Optional(Type.String({ description: 'Sent by the client; ignored.' })),
})

export const encodePolicy = (it: Resource): Static<typeof Policy> => ({
  id: it.id,
  tenant_id: it.tenant,
  name: it.name,
  ...(it.spec.description === undefined ? {} : { description: it.spec.description }),
  statements: it.spec.statements,
})

const inputOf = ({ name, description, statements }: Static<typeof Body>) => ({
  name,
  ...(description === undefined ? {} : { description }),
  statements: statements.map(({ sid, effect, action, resource, condition }) => ({
    ...(sid === undefined ? {} : { sid }),
    effect,
    action,
    resource,
    ...(condition === undefined ? {} : { condition }),
  })),
})

/** Policies attached to a principal, oldest first. */
export const attachedTo = async (
  { cloud }: Frame,
  caller: Caller,
  principal: string,
): Promise<Static<typeof Policy>[]> =>
  (await cloud.owned(caller, policy, [`attached:${principal}`])).map(encodePolicy)

const common = { tag: 'IAM' }
const one = { ...common, params: { id: Uuid }, refuses: [404] as const }
const pair = { ...common, params: { userId: Uuid, policyId: Uuid }, refuses: [404] as const }

export function policyRoutes(frame: Frame): void {
  const { cloud } = frame
  operation(frame, {
    ...common,
    method: 'GET',
    path: '/iam/policies',
    id: 'listPolicies',
    summary: 'Policies of the tenant',
    answer: Type.Array(Policy),
    run: async ({ caller }) => (await cloud.owned(caller, policy)).map(encodePolicy),
  })
  operation(frame, {
    ...common,
    method: 'POST',
    path: '/iam/policies',
    id: 'createPolicy',
    summary: 'Make a policy',
    body: Body,
    answer: Policy,
    status: 201,
    refuses: [409],
    async run({ caller, body }) {
      const made = await cloud.act(caller, 'iam.policy_create', (verbs) =>
        verbs.iam.createPolicy(inputOf(body)),
      )
      return encodePolicy(made)
    },
  })
  operation(frame, {
    ...one,
    method: 'GET',
    path: '/iam/policies/:id',
    id: 'getPolicy',
    summary: 'Read a policy',
    answer: Policy,
    async run({ caller, params }) {
      const [it] = (await cloud.owned(caller, policy)).filter((known) => known.id === params.id)
      if (!it) throw new CloudError('not_found', 'Policy not found')
      return encodePolicy(it)
    },
  })
  operation(frame, {
    ...one,
    method: 'PUT',
    path: '/iam/policies/:id',
    id: 'updatePolicy',
    summary: 'Replace a policy; it stays attached where it is',
    body: Body,
    answer: Policy,
    refuses: [404, 409],
    async run({ caller, params, body }) {
      const made = await cloud.act(caller, 'iam.policy_update', (verbs) =>
        verbs.iam.updatePolicy(params.id, inputOf(body)),
      )
      return encodePolicy(made)
    },
  })
  operation(frame, {
    ...one,
    method: 'DELETE',
    path: '/iam/policies/:id',
    id: 'deletePolicy',
    summary: 'Delete a policy with its attachments',
    answer: Status('deleted'),
    async run({ caller, params }) {
      await cloud.act(caller, 'iam.policy_delete', (verbs) => verbs.iam.deletePolicy(params.id))
      return { status: 'deleted' as const }
    },
  })
  operation(frame, {
    ...pair,
    method: 'POST',
    path: '/iam/users/:userId/policies/:policyId',
    id: 'attachUserPolicy',
    summary: 'Attach a policy to a member; a repeat is fine',
    answer: Status('attached'),
    async run({ caller, params: { userId, policyId } }) {
      const user = { kind: 'user' as const, id: userId }
      await cloud.act(caller, 'iam.policy_attach', (verbs) => verbs.iam.attachPolicy(policyId, user))
      return { status: 'attached' as const }
    },
  })
  operation(frame, {
    ...pair,
    method: 'DELETE',
    path: '/iam/users/:userId/policies/:policyId',
    id: 'detachUserPolicy',
    summary: 'Detach a policy from a member',
    answer: Status('detached'),
    async run({ caller, params: { userId, policyId } }) {
      const user = { kind: 'user' as const, id: userId }
      await cloud.act(caller, 'iam.policy_detach', (verbs) => verbs.iam.detachPolicy(policyId, user))
      return { status: 'detached' as const }
    },
  })
  operation(frame, {
    ...common,
    method: 'GET',
    path: '/iam/users/:userId/policies',
    id: 'listUserPolicies',
    summary: 'Policies attached to a member',
    params: { userId: Uuid },
    answer: Type.Array(Policy),
    async run({ caller, params: { userId: id } }) {
      if (!(await cloud.members(caller)).some((it) => it.user.id === id))
        throw new CloudError('forbidden', 'This user is not a member of the tenant')
      return await attachedTo(frame, caller, id)
    },
  })
}
