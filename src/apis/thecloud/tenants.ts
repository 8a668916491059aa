import Type, { type Static } from 'typebox'
import type { Tenant as Resource } from '#cloud/identity/tenant.kind.ts'
import { type Frame, operation } from './operation.ts'
import { Email, Message, NIL, Text, timestamp, Timestamp, Uuid } from './schema.ts'

export const Tenant = Type.Object({
  id: Uuid,
  name: Type.String(),
  slug: Type.String(),
  owner_id: Uuid,
  plan: Type.Enum(['free', 'pro', 'enterprise']),
  status: Type.Enum(['active', 'suspended']),
  created_at: Timestamp,
  updated_at: Timestamp,
})

/** One made in another dialect is called as its slug. */
export const encodeTenant = (it: Resource): Static<typeof Tenant> => ({
  id: it.id,
  name: it.spec.title ?? it.name,
  slug: it.name,
  owner_id: it.spec.founder ?? NIL,
  plan: it.spec.plan ?? 'free',
  status: it.spec.suspended ? 'suspended' : 'active',
  created_at: timestamp(it.createdAt),
  updated_at: timestamp(it.updatedAt),
})

const common = { tag: 'Tenants', tenancy: 'optional' as const }
const Slug = Type.String({
  minLength: 1,
  maxLength: 100,
  pattern: '^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$',
  title: 'letters, digits, ., _ and -, with a letter or digit at both ends',
})

export function tenantRoutes(frame: Frame): void {
  const { cloud } = frame
  operation(frame, {
    ...common,
    method: 'GET',
    path: '/tenants',
    id: 'listTenants',
    summary: 'Tenants that the caller belongs to',
    answer: Type.Array(Tenant),
    run: async ({ caller }) => (await cloud.ownTenants(caller)).map(encodeTenant),
  })
  operation(frame, {
    ...common,
    method: 'POST',
    path: '/tenants',
    id: 'createTenant',
    summary: 'Make a tenant; the caller owns it',
    body: Type.Object({ name: Text(200), slug: Slug }),
    answer: Tenant,
    status: 201,
    refuses: [409],
    async run({ caller, body: { name: title, slug } }) {
      const made = await cloud.act(caller, 'tenant.create', (verbs) => verbs.createOwnTenant({ title, slug }))
      return encodeTenant(made)
    },
  })
  operation(frame, {
    ...common,
    method: 'POST',
    path: '/tenants/:id/switch',
    id: 'switchTenant',
    summary: 'Change what this key sees from now on',
    params: { id: Uuid },
    answer: Message('tenant switched'),
    refusals: { conflict: { status: 400 } },
    async run({ caller, params }) {
      await cloud.act(caller, 'tenant.switch', (verbs) => verbs.switchTenant(params.id))
      return { message: 'tenant switched' as const }
    },
  })
  operation(frame, {
    ...common,
    method: 'POST',
    path: '/tenants/:id/members',
    id: 'addTenantMember',
    summary: 'Add a user to a tenant, by id or e-mail',
    description: 'The role `member` is `developer`. Nobody gives a role that says more than their own.',
    params: { id: Uuid },
    body: Type.Object({
      role: Text(100),
      user_id: Type.Optional(Uuid),
      email: Type.Optional(Email),
    }),
    answer: Message('member invited'),
    refuses: [404, 409],
    async run({ caller, params, body: { role, user_id: id, email: name } }) {
      const inside = await cloud.inTenant(caller, params.id)
      const user = {
        ...(id === undefined ? {} : { id }),
        ...(name === undefined ? {} : { name }),
      }
      await cloud.act(inside, 'tenant.member_add', (verbs) => verbs.addMember({ user, role }))
      return { message: 'member invited' as const }
    },
  })
}
