import Type from 'typebox'
import { defineKind } from '#engine/kind.ts'
import type { ResourceOf } from '#engine/resource.ts'

/** A DNS domain an administrator approved for a tenant; `name` is the domain in lower case. */
export const domain = defineKind({
  name: 'domain',
  spec: Type.Object({}, { additionalProperties: false }),
  status: Type.Object({}),
  initial: {},
  claims: (r) => [{ pool: 'domain', value: r.name, ends: 'deletion', refusal: 'Domain already exists' }],
})
export type Domain = ResourceOf<typeof domain>
