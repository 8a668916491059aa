import Type, { type Static } from 'typebox'
import type { Caller } from '#cloud/access.ts'
import { BUILT_IN, role, type RoleResource } from '#cloud/identity/role.kind.ts'
import { CloudError } from '#lib/errors.ts'
import { isUuid } from '#lib/ids.ts'
import { INVALID_INPUT } from './errors.ts'
import { type Frame, operation } from './operation.ts'
import { IdOrName, Text, Uuid } from './schema.ts'
import { encodeUser, User } from './users.ts'

const Permission = Text(200, { description: '`resource:verb`; `*` is all.' })
const Role = Type.Object({
  id: Uuid,
  name: Type.String(),
  description: Type.String(),
  permissions: Type.Array(Type.String()),
})
type Role = Static<typeof Role>
const RoleBody = Type.Object({
  name: Text(100),
  description: Type.Optional(Type.String({ maxLength: 4096 })),
  permissions: Type.Optional(Type.Array(Permission, { maxItems: 500 })),
})

const builtIns = (): Role[] =>
  Object.entries(BUILT_IN).map(([name, it]) => ({ ...it, name, permissions: [...it.permissions] }))

const encode = (it: RoleResource): Role => ({ id: it.id, name: it.name, ...it.spec })

const common = { tag: 'Roles', tenancy: 'optional' as const }
const one = { ...common, params: { id: Uuid }, refuses: [404] as const }

export function roleRoutes(frame: Frame): void {
  const { cloud } = frame
  const all = async (caller: Caller): Promise<Role[]> => [
    ...builtIns(),
    ...(await cloud.owned(caller, role)).map(encode),
  ]
  operation(frame, {
    ...common,
    method: 'POST',
    path: '/rbac/roles',
    id: 'createRole',
    summary: 'Make a role of the tenant; an administrator without a tenant makes one of the installation',
    body: RoleBody,
    answer: Role,
    status: 201,
    refuses: [409],
    async run({ caller, body: { name, description = '', permissions = [] } }) {
      const made = await cloud.act(caller, 'iam.role_create', (verbs) =>
        verbs.iam.createRole({ name, description, permissions }),
      )
      return encode(made)
    },
  })
  operation(frame, {
    ...common,
    method: 'GET',
    path: '/rbac/roles',
    id: 'listRoles',
    summary: 'Roles that count in the tenant',
    answer: Type.Array(Role),
    run: async ({ caller }) => await all(caller),
  })
  operation(frame, {
    ...common,
    method: 'GET',
    path: '/rbac/roles/:id',
    id: 'getRole',
    summary: 'Read a role, by id or name',
    params: { id: IdOrName },
    answer: Role,
    refuses: [404],
    async run({ caller, params: { id } }) {
      const found = (await all(caller)).find((it) =>
        isUuid(id) ? it.id === id.toLowerCase() : it.name === id,
      )
      if (!found) throw new CloudError('not_found', 'Role not found')
      return found
    },
  })
  operation(frame, {
    ...one,
    method: 'PUT',
    path: '/rbac/roles/:id',
    id: 'updateRole',
    summary: 'Replace a role',
    refuses: [404, 409],
    body: RoleBody,
    answer: Role,
    refusals: { conflict: INVALID_INPUT },
    async run({ caller, params, body: { name, description = '', permissions = [] } }) {
      const made = await cloud.act(caller, 'iam.role_update', (verbs) =>
        verbs.iam.updateRole(params.id, { name, description, permissions }),
      )
      return encode(made)
    },
  })
  operation(frame, {
    ...one,
    method: 'DELETE',
    path: '/rbac/roles/:id',
    id: 'deleteRole',
    summary: 'Delete a role: who has it may nothing by it from then on',
    status: 204,
    refusals: { conflict: INVALID_INPUT },
    async run({ caller, params }) {
      await cloud.act(caller, 'iam.role_delete', (verbs) => verbs.iam.deleteRole(params.id))
    },
  })
  operation(frame, {
    ...one,
    method: 'POST',
    path: '/rbac/roles/:id/permissions',
    id: 'addRolePermission',
    summary: 'Grant a permission',
    body: Type.Object({ permission: Permission }),
    status: 204,
    async run({ caller, params, body: { permission: add } }) {
      await cloud.act(caller, 'iam.role_update', (verbs) => verbs.iam.editPermissions(params.id, { add }))
    },
  })
  operation(frame, {
    ...one,
    method: 'DELETE',
    path: '/rbac/roles/:id/permissions/:permission',
    id: 'removeRolePermission',
    summary: 'Withdraw a permission',
    params: { id: Uuid, permission: Permission },
    status: 204,
    refusals: { conflict: INVALID_INPUT },
    async run({ caller, params: { id, permission: remove } }) {
      await cloud.act(caller, 'iam.role_update', (verbs) => verbs.iam.editPermissions(id, { remove }))
    },
  })
  operation(frame, {
    ...common,
    method: 'POST',
    path: '/rbac/bindings',
    id: 'bindRole',
    summary: 'Give a member of the tenant a role',
    description:
      'An administrator that names no tenant gives a role that counts in every tenant the user belongs to.',
    body: Type.Object({
      user_identifier: Text(255, { description: 'UUID or e-mail.' }),
      role_name: Text(100),
    }),
    status: 204,
    refuses: [404],
    refusals: { conflict: INVALID_INPUT },
    async run({ caller, body: { user_identifier: who, role_name: name } }) {
      const user = isUuid(who) ? { id: who.toLowerCase() } : { name: who }
      await cloud.act(caller, 'iam.role_bind', (verbs) => verbs.iam.bindRole({ user, role: name }))
    },
  })
  operation(frame, {
    ...common,
    method: 'GET',
    path: '/rbac/bindings',
    id: 'listRoleBindings',
    summary: 'Members of the tenant with their roles',
    answer: Type.Array(User),
    run: async ({ caller }) =>
      (await cloud.members(caller)).map(({ user, role: own }) => ({
        ...encodeUser(user, caller.tenant),
        role: own,
      })),
  })
}
