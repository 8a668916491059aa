import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'

const PERMISSIONS_MAX = 500

/**
 * A named set of permissions (`resource:verb`, `*` for all). One of a tenant counts in that tenant; one of the installation,
 * made by an administrator, in all.
 */
export const role = defineKind({
  name: 'role',
  spec: Type.Object(
    {
      description: Type.String({ maxLength: 4096 }),
      permissions: Type.Array(Type.String({ minLength: 1, maxLength: 200 }), { maxItems: PERMISSIONS_MAX }),
    },
    { additionalProperties: false },
  ),
  status: Type.Object({}),
  initial: {},
  claims: (r) => [
    {
      pool: `role-name:${r.tenant}`,
      value: r.name,
      ends: 'deletion',
      refusal: 'Role with this name already exists',
    },
  ],
})
export type RoleResource = ResourceOf<typeof role>

/** Roles that are there from the start, by name. Their ids are fixed, so that they can be asked for like any other. */
export const BUILT_IN = {
  admin: {
    id: '00000000-0000-7000-8000-00000000a001',
    description: 'Everything in the tenant',
    permissions: ['*'],
  },
  owner: {
    id: '00000000-0000-7000-8000-00000000a002',
    description: 'Everything in the tenant',
    permissions: ['*'],
  },
  developer: {
    id: '00000000-0000-7000-8000-00000000a003',
    description: 'Everything but who may act in the tenant',
    permissions: [
      'instance:*',
      'ssh_key:*',
      'image:*',
      'vpc:*',
      'vpc_peering:*',
      'sg:*',
      'eip:*',
      'lb:*',
      'dns:*',
      'volume:*',
      'snapshot:*',
      'storage:*',
      'db:*',
      'cache:*',
      'secret:*',
      'function:*',
      'function_schedule:*',
      'queue:*',
      'notify:*',
      'cron:*',
      'gateway:*',
      'container:*',
      'pipeline:*',
      'asg:*',
      'stack:*',
      'cluster:*',
      'tenant:create',
      'tenant:read',
      'identity:create',
      'identity:read',
      'identity:delete',
      'accounting:read',
      'audit:read',
      'dashboard:read',
    ],
  },
  viewer: {
    id: '00000000-0000-7000-8000-00000000a004',
    description: 'Looks at instances, VPCs, volumes and snapshots',
    permissions: ['instance:read', 'vpc:read', 'volume:read', 'snapshot:read'],
  },
} as const
export type BuiltIn = keyof typeof BUILT_IN

/** Names that stand for a built-in role. */
const SYNONYMS: Readonly<Record<string, BuiltIn>> = { member: 'developer', user: 'developer' }

/** The built-in role of this name, undefined when it is one that people make. */
export function builtIn(name: string): BuiltIn | undefined {
  const known = SYNONYMS[name] ?? name
  return Object.hasOwn(BUILT_IN, known) ? (known as BuiltIn) : undefined
}
