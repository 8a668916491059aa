import { CloudError } from '#lib/errors.ts'
import type { AnyKind, Resource } from '#engine/resource.ts'
import type { Caller } from '#cloud/access.ts'
import type { Cloud, Verbs } from '#cloud/cloud.ts'
import { within } from './errors.ts'
import { kindOf } from './lookup.ts'
import { isWithin, type Reference, referenceFields, referencesOf, withValue } from './references.ts'
import { createResolver, fieldOf, type Item } from './resolver.ts'

/** An item of a document as it is after the commit, and what the commit did to it. */
export type Placed = { readonly resource: Resource; readonly action: 'created' | 'changed' | 'unchanged' }

type Spec = Record<string, unknown>

// Fields that a creation takes and a spec does not have, with what they came to in the resource.
const CREATION_ONLY: Readonly<Record<string, Readonly<Record<string, (spec: Spec) => unknown>>>> = {
  workload: { inbound: (spec) => spec['externalAddress'] !== undefined },
}

/** Brings every item of a document into the commit, each after what it refers to. */
export async function placeAll(
  cloud: Cloud,
  caller: Caller,
  verbs: Verbs,
  items: readonly Item[],
): Promise<readonly Placed[]> {
  const fields = referenceFields(cloud.kinds.keys())
  const placed = new Map<number, Placed>()
  const visiting = new Set<number>()
  /** Items placed without a list that refers to what is yet to be made. */
  const incomplete = new Set<number>()
  const itemAt = (at: number): { item: Item; kind: AnyKind } => {
    const item = items[at] as Item
    return { item, kind: kindOf(cloud, item.kind) }
  }
  const resolver = createResolver({ cloud, caller, items }, async (at) =>
    visiting.has(at) ? undefined : (await place(at)).resource.id,
  )

  /** The item's spec with ids for names; what has none yet is left out and told. */
  const resolved = async (at: number): Promise<{ spec: Spec; back: readonly Reference[] }> => {
    const { item, kind } = itemAt(at)
    const vpc = await resolver.vpcOf(at)
    const back: Reference[] = []
    let spec: unknown = item.spec ?? {}
    for (const reference of referencesOf(kind, spec, fields)) {
      const id = await resolver.idOf(reference, reference.kind === 'vpc' ? undefined : vpc)
      if (id === undefined) back.push(reference)
      else spec = withValue(spec, reference.path, id)
    }
    return { spec: spec as Spec, back }
  }

  const place = async (at: number): Promise<Placed> => {
    const done = placed.get(at)
    if (done) return done
    const { item, kind } = itemAt(at)
    visiting.add(at)
    try {
      const { spec, back } = await resolved(at)
      const there = await resolver.existingOf(at)
      if (back.length) incomplete.add(at)
      const result = !there
        ? await create(verbs, kind, item, back.reduce(withoutList, spec))
        : back.length
          ? ({ resource: there, action: 'unchanged' } as const)
          : await change(verbs, kind, there, item, spec)
      placed.set(at, result)
      return result
    } catch (error) {
      throw error instanceof Located ? error : new Located(at, item, error)
    } finally {
      visiting.delete(at)
    }
  }

  try {
    await refuseTwins(items, resolver.vpcOf)
    for (const at of items.keys()) await place(at)
    for (const at of incomplete) {
      const { item, kind } = itemAt(at)
      const { resource, action } = placed.get(at) as Placed
      const { spec } = await resolved(at)
      placed.set(
        at,
        action === 'created'
          ? { action, resource: await verbs.patch(kind, resource.id, { spec }) }
          : await change(verbs, kind, resource, item, spec),
      )
    }
  } catch (error) {
    throw error instanceof Located ? error.cause : error
  }
  return items.map((_, at) => placed.get(at) as Placed)
}

/** An error that already says which item it is about. */
class Located extends Error {
  override readonly name = 'Located'
  constructor(at: number, { kind, name }: Item, cause: unknown) {
    super('located', { cause: within(`resources.${at}`, `${kind} ${name}`, cause) })
  }
}

/** Two items of one kind and name in one VPC would be one resource. */
async function refuseTwins(
  items: readonly Item[],
  vpcOf: (at: number) => Promise<string | undefined>,
): Promise<void> {
  const seen = new Set<string>()
  for (const [at, item] of items.entries()) {
    const vpc = await vpcOf(at).catch((error: unknown) => {
      throw error instanceof Located ? error : new Located(at, item, error)
    })
    const key = JSON.stringify([item.kind, vpc, item.name])
    if (seen.has(key))
      throw new Located(at, item, new CloudError('invalid', 'is in the document twice', { field: 'name' }))
    seen.add(key)
  }
}

/** The spec with an empty list where a reference is; anything but a list cannot wait until its target is made. */
function withoutList(spec: Spec, reference: Reference): Spec {
  const field = String(reference.path[0])
  if (!Array.isArray(spec[field]))
    throw new CloudError('invalid', 'refers back to this resource', { field: fieldOf(reference) })
  return { ...spec, [field]: [] }
}

async function create(verbs: Verbs, kind: AnyKind, { name, labels }: Item, spec: Spec): Promise<Placed> {
  const resource = await verbs.create(kind, { name, spec, ...(labels ? { labels } : {}) })
  return { resource, action: 'created' }
}

async function change(
  verbs: Verbs,
  kind: AnyKind,
  there: Resource,
  item: Item,
  given: Spec,
): Promise<Placed> {
  const now = there.spec as Spec
  const spec: Spec = { ...given }
  for (const [field, cameTo] of Object.entries(CREATION_ONLY[kind.name] ?? {})) {
    if (field in spec && spec[field] !== cameTo(now))
      throw new CloudError('invalid', 'cannot be changed', { field: `spec.${field}` })
    delete spec[field]
  }
  const labels = item.labels ?? {}
  if (isWithin(now, spec) && isWithin(there.labels, labels)) return { resource: there, action: 'unchanged' }
  const resource = await verbs.patch(kind, there.id, { spec, labels })
  // The verb sees more than is shown here: a secret that is already so changes nothing.
  return { resource, action: resource.generation === there.generation ? 'unchanged' : 'changed' }
}
