import type { Static } from 'typebox'
import Type from 'typebox'
import { CloudError } from '#lib/errors.ts'
import { isUuid } from '#lib/ids.ts'
import type { AnyKind, Resource } from '#engine/resource.ts'
import type { Caller } from '#cloud/access.ts'
import type { Cloud } from '#cloud/cloud.ts'
import { kindOf } from './lookup.ts'
import type { Reference } from './references.ts'
import { NewBody } from './schema.ts'

/** One resource of a topology document. */
export const Item = Type.Object(
  { kind: Type.String({ maxLength: 64 }), ...NewBody.properties },
  { additionalProperties: false },
)
export type Item = Static<typeof Item>

/** What names in a document mean: an item of the document before what exists. */
export type Resolver = {
  /** Id of the VPC an item is in, made first when the document makes it; undefined for what is in none. */
  vpcOf(at: number): Promise<string | undefined>
  /** The live resource that an item names, undefined when it is yet to be made. */
  existingOf(at: number): Promise<Resource | undefined>
  /** The id a reference means, seen from something in `vpc`; undefined when that is being made right now. */
  idOf(reference: Reference, vpc: string | undefined): Promise<string | undefined>
}

export const fieldOf = ({ path }: Reference): string => ['spec', ...path].join('.')

/** `make` gives the id of an item that does not exist yet, undefined while it is being made. */
export function createResolver(
  { cloud, caller, items }: { cloud: Cloud; caller: Caller; items: readonly Item[] },
  make: (at: number) => Promise<string | undefined>,
): Resolver {
  const existing = new Map<number, Resource | undefined>()

  const named = async (
    kind: AnyKind,
    name: string,
    vpc: string | undefined,
  ): Promise<Resource | undefined> => {
    const terms = [`name:${name}`, ...(vpc === undefined ? [] : [`vpc:${vpc}`])]
    const { items: found } = await cloud.list(caller, kind, { terms, deleted: false, limit: 2 })
    if (found.length > 1)
      throw new CloudError('conflict', `Several of kind ${kind.name} are named ${name}: use an id`, {
        blockers: found.map((it) => `${it.kind} ${it.name} (${it.id})`),
      })
    return found[0]
  }

  /** The item that a name means, seen from something in `vpc`. */
  const itemNamed = async (
    kind: string,
    name: string,
    vpc: string | undefined,
  ): Promise<number | undefined> => {
    for (const [at, item] of items.entries()) {
      if (item.kind !== kind || item.name !== name) continue
      const its = await resolver.vpcOf(at)
      if (its === undefined || vpc === undefined || its === vpc) return at
    }
    return undefined
  }

  const resolver: Resolver = {
    async vpcOf(at) {
      const { vpc } = (items[at]?.spec ?? {}) as { vpc?: unknown }
      return typeof vpc === 'string'
        ? await resolver.idOf({ path: ['vpc'], kind: 'vpc', text: vpc }, undefined)
        : undefined
    },
    async existingOf(at) {
      const item = items[at]
      if (!item) return undefined
      if (!existing.has(at))
        existing.set(at, await named(kindOf(cloud, item.kind), item.name, await resolver.vpcOf(at)))
      return existing.get(at)
    },
    async idOf(reference, vpc) {
      const { kind, text, path } = reference
      if (isUuid(text)) return text.toLowerCase()
      const slash = text.indexOf('/')
      const inside =
        slash < 0 ? vpc : await resolver.idOf({ path, kind: 'vpc', text: text.slice(0, slash) }, undefined)
      const name = text.slice(slash + 1)
      const scope = kind === 'vpc' ? undefined : inside
      const at = await itemNamed(kind, name, scope)
      const there =
        at === undefined ? await named(kindOf(cloud, kind), name, scope) : await resolver.existingOf(at)
      if (there) return there.id
      if (at !== undefined) return await make(at)
      throw new CloudError('invalid', `there is no ${kind} ${text}, here or in the document`, {
        field: fieldOf(reference),
      })
    },
  }
  return resolver
}
