import type { FastifyInstance } from 'fastify'
import Type, { type Static } from 'typebox'
import { CloudError, isCloudError } from '#lib/errors.ts'
import { isUuid } from '#lib/ids.ts'
import { type AnyKind, PLATFORM, type Resource } from '#engine/resource.ts'
import type { Caller } from '#cloud/access.ts'
import type { Cloud, Verbs } from '#cloud/cloud.ts'
import { callerOf } from './caller.ts'
import { REFUSALS, within } from './errors.ts'
import { kindOf } from './lookup.ts'
import { isWithin, type Reference, referenceFields, referencesOf, withValue } from './references.ts'
import { isOn, NewBody, WriteParams } from './schema.ts'
import { encode } from './wire.ts'

/** Most resources one document may have: they are one commit. */
const RESOURCES_MAX = 500
/** How often a document is tried when someone else makes one of its resources meanwhile. */
const ATTEMPTS_MAX = 3

const Item = Type.Object(
  { kind: Type.String({ maxLength: 64 }), ...NewBody.properties },
  { additionalProperties: false },
)
const Body = Type.Object(
  { resources: Type.Array(Item, { minItems: 1, maxItems: RESOURCES_MAX }) },
  { additionalProperties: false },
)
type Item = Static<typeof Item>

const Applied = Type.Object({
  items: Type.Array(
    Type.Object({
      kind: Type.String(),
      name: Type.String(),
      id: Type.String(),
      action: Type.Enum(['created', 'changed', 'unchanged']),
      resource: Type.Unknown({ description: 'As GET of its kind shows it.' }),
    }),
  ),
})

type Action = 'created' | 'changed' | 'unchanged'
type Placed = { readonly resource: Resource; readonly action: Action }
type Spec = Record<string, unknown>

// Fields that a creation takes and a spec does not have, with what they came to in the resource.
const CREATION_ONLY: Readonly<Record<string, Readonly<Record<string, (spec: Spec) => unknown>>>> = {
  workload: { inbound: (spec) => spec['externalAddress'] !== undefined },
}

export function topologyRoute(app: FastifyInstance, cloud: Cloud): void {
  app.post<{ Body: Static<typeof Body>; Querystring: Static<typeof WriteParams> }>(
    '/topology',
    {
      schema: {
        tags: ['topology'],
        summary: 'Create what is missing and change what differs, all in one commit',
        description:
          'References may be names: of the document first, then of what exists; `<vpc>/<name>` where a name alone is not enough. Nothing is deleted. Applied again, it changes nothing.',
        querystring: WriteParams,
        body: Body,
        response: { 200: Applied, ...REFUSALS },
      },
    },
    async (request, reply) => {
      const dryRun = isOn(request.query.dryRun)
      if (dryRun) void reply.header('arcus-dry-run', 'true')
      const { resources } = request.body
      const placed = await apply(cloud, callerOf(request), resources, dryRun)
      return {
        items: placed.map(({ resource, action }) => ({
          kind: resource.kind,
          name: resource.name,
          id: resource.id,
          action,
          resource: encode(kindOf(cloud, resource.kind), resource),
        })),
      }
    },
  )
}

async function apply(
  cloud: Cloud,
  caller: Caller,
  items: readonly Item[],
  dryRun: boolean,
): Promise<readonly Placed[]> {
  for (const [at, item] of items.entries())
    if (kindNamed(cloud, item, at).scope === 'tenant' && caller.tenant === PLATFORM)
      throw new CloudError('invalid', 'name the tenant to act in with the header Arcus-Tenant', {
        field: `resources.${at}`,
      })
  for (let attempt = 1; ; attempt++) {
    try {
      return await cloud.act(
        caller,
        'topology.apply',
        async (verbs) => await placeAll(cloud, caller, verbs, items),
        { dryRun },
      )
    } catch (error) {
      // Perhaps another one just applied the same document: then it is there by now, and left as it is.
      if (!isCloudError(error, 'already_exists') || attempt === ATTEMPTS_MAX) throw error
    }
  }
}

function kindNamed(cloud: Cloud, item: Item, at: number): AnyKind {
  try {
    return kindOf(cloud, item.kind)
  } catch (error) {
    throw within(`resources.${at}`, item.name, error)
  }
}

/** Brings every item of a document into the commit, each after what it refers to. */
async function placeAll(
  cloud: Cloud,
  caller: Caller,
  verbs: Verbs,
  items: readonly Item[],
): Promise<readonly Placed[]> {
  const fields = referenceFields(cloud.kinds.keys())
  const placed = new Map<number, Placed>()
  const existing = new Map<number, Resource | undefined>()
  const visiting = new Set<number>()
  /** Items made without a field that refers back to themselves, with the spec they should have. */
  const deferred: { readonly at: number; readonly references: readonly Reference[] }[] = []

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

  /** The VPC an item is in, made first when the document makes it; undefined for what is in none. */
  const vpcOf = async (at: number): Promise<string | undefined> => {
    const { vpc } = (items[at]?.spec ?? {}) as { vpc?: unknown }
    return typeof vpc === 'string'
      ? await idOf({ path: ['vpc'], kind: 'vpc', text: vpc }, undefined)
      : undefined
  }

  const existingOf = async (at: number): Promise<Resource | undefined> => {
    const item = items[at] as Item
    if (!existing.has(at)) existing.set(at, await named(kindOf(cloud, item.kind), item.name, await vpcOf(at)))
    return existing.get(at)
  }

  /** The item of the document that a name means, seen from an item in `vpc`. */
  const itemNamed = async (
    kind: string,
    name: string,
    vpc: string | undefined,
  ): Promise<number | undefined> => {
    for (const [at, item] of items.entries()) {
      if (item.kind !== kind || item.name !== name) continue
      const its = await vpcOf(at)
      if (its === undefined || vpc === undefined || its === vpc) return at
    }
    return undefined
  }

  /** The id a reference means; undefined when it is of an item that is being made right now. */
  const idOrSelf = async (reference: Reference, vpc: string | undefined): Promise<string | undefined> => {
    const { kind, text, path } = reference
    if (isUuid(text)) return text
    const slash = text.indexOf('/')
    const within = slash < 0 ? vpc : await idOf({ path, kind: 'vpc', text: text.slice(0, slash) }, undefined)
    const name = text.slice(slash + 1)
    const scope = kind === 'vpc' ? undefined : within
    const at = await itemNamed(kind, name, scope)
    const there = at === undefined ? await named(kindOf(cloud, kind), name, scope) : await existingOf(at)
    if (there) return there.id
    if (at === undefined)
      throw new CloudError('invalid', `there is no ${kind} ${text}, here or in the document`, {
        field: ['spec', ...path].join('.'),
      })
    if (visiting.has(at)) return undefined
    return (await place(at)).resource.id
  }
  const idOf = async (reference: Reference, vpc: string | undefined): Promise<string> => {
    const id = await idOrSelf(reference, vpc)
    if (id === undefined)
      throw new CloudError('invalid', 'refers back to this resource', {
        field: ['spec', ...reference.path].join('.'),
      })
    return id
  }

  const place = async (at: number): Promise<Placed> => {
    const done = placed.get(at)
    if (done) return done
    const item = items[at] as Item
    visiting.add(at)
    try {
      const kind = kindOf(cloud, item.kind)
      const vpc = await vpcOf(at)
      let spec: unknown = item.spec ?? {}
      const back: Reference[] = []
      for (const reference of referencesOf(kind, spec, fields)) {
        const id = await idOrSelf(reference, reference.kind === 'vpc' ? undefined : vpc)
        if (id === undefined) back.push(reference)
        else spec = withValue(spec, reference.path, id)
      }
      const there = await existingOf(at)
      for (const reference of back) spec = withoutField(spec, reference)
      if (back.length) deferred.push({ at, references: back })
      const result = there
        ? await change(verbs, kind, there, item, spec as Spec)
        : await create(verbs, kind, item, spec)
      placed.set(at, result)
      return result
    } catch (error) {
      throw error instanceof Located
        ? error
        : new Located(within(`resources.${at}`, `${item.kind} ${item.name}`, error))
    } finally {
      visiting.delete(at)
    }
  }

  try {
    await refuseTwins(items, vpcOf)
    for (const at of items.keys()) await place(at)
    for (const { at } of deferred)
      placed.set(at, await complete(verbs, kindOf(cloud, (items[at] as Item).kind), at))
  } catch (error) {
    throw error instanceof Located ? error.cause : error
  }
  return items.map((_, at) => placed.get(at) as Placed)

  /** Gives an item the fields it was made without, now that everything has an id. */
  async function complete(theVerbs: Verbs, kind: AnyKind, at: number): Promise<Placed> {
    const vpc = await vpcOf(at)
    let spec: unknown = (items[at] as Item).spec
    for (const reference of referencesOf(kind, spec, fields))
      spec = withValue(spec, reference.path, await idOf(reference, vpc))
    const made = placed.get(at) as Placed
    return { ...made, resource: await theVerbs.patch(kind, made.resource.id, { spec }) }
  }
}

/** An error that already says which item it is about. */
class Located extends Error {
  override readonly name = 'Located'
  constructor(cause: unknown) {
    super('located', { cause })
  }
}

async function refuseTwins(
  items: readonly Item[],
  vpcOf: (at: number) => Promise<string | undefined>,
): Promise<void> {
  const seen = new Set<string>()
  for (const [at, { kind, name }] of items.entries()) {
    const vpc = await vpcOf(at).catch((error: unknown) => {
      throw within(`resources.${at}`, `${kind} ${name}`, error)
    })
    const key = `${kind}/${vpc ?? ''}/${name}`
    if (seen.has(key))
      throw new CloudError('invalid', `${kind} ${name} is in the document twice`, {
        field: `resources.${at}`,
      })
    seen.add(key)
  }
}

/** The spec without the list that a reference is in; anything but a list cannot wait until its target is made. */
function withoutField(spec: unknown, { path }: Reference): unknown {
  const [field = ''] = path
  if (!Array.isArray((spec as Spec)[field]))
    throw new CloudError('invalid', 'refers back to this resource', { field: ['spec', ...path].join('.') })
  return { ...(spec as Spec), [field]: [] }
}

async function create(verbs: Verbs, kind: AnyKind, item: Item, spec: unknown): Promise<Placed> {
  const { name, labels } = item
  return {
    resource: await verbs.create(kind, { name, spec, ...(labels ? { labels } : {}) }),
    action: 'created',
  }
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
