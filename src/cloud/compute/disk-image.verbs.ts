import { closedTo, guardedUrl } from '#lib/guarded.ts'
import { CloudError } from '#lib/errors.ts'
import { isUuid } from '#lib/ids.ts'
import { ALL } from '#engine/resource.ts'
import {
  authorise,
  authoriseFirst,
  type Caller,
  creatorOf,
  decide,
  ownTenant,
  tenantFor,
} from '#cloud/access.ts'
import type { Settings, VerbContext } from '#cloud/context.ts'
import { diskImage, type DiskImage } from './disk-image.kind.ts'

/** Of one tenant. */
const DISK_IMAGES_MAX = 20

export type NewDiskImage = {
  readonly name: string
  readonly labels?: Readonly<Record<string, string>>
  readonly os: string
  readonly version: string
  readonly description?: string
  /** Off unless told. */
  readonly public?: boolean
  /** Where its content is fetched from, in the background; without it is uploaded. */
  readonly url?: string
}

export const MISSING_IMAGE = 'Image not found'

/** Whether a caller sees an image: its tenant's own, and what is public. */
export const seesDiskImage = (caller: Caller, it: DiskImage): boolean =>
  it.deletedAt === undefined && (it.spec.public || [ALL, it.tenant].includes(tenantFor(caller, diskImage)))

/** What the spec says of an address to fetch from; `invalid` for one that may not be asked. */
function fromOf({ allowedNetworks }: Settings, text: string): Pick<DiskImage['spec'], 'url' | 'source'> {
  const { href, origin, pathname } = guardedUrl(text, closedTo(allowedNetworks))
  return { url: href, source: origin + pathname }
}

/** Registers an image. An address that may not be asked is refused `invalid`, one too many `exhausted`, rule `quota`. */
export async function createDiskImage(
  { draft, caller, settings }: VerbContext,
  input: NewDiskImage,
): Promise<DiskImage> {
  const { name, labels, url, public: isPublic = false, ...about } = input
  authorise(caller, 'write', 'image:create', { kind: 'image', name })
  const tenant = ownTenant(caller)
  const id = draft.id()
  const pool = `images:${tenant}`
  draft.pool(pool, DISK_IMAGES_MAX, tenant)
  const refusal = `A tenant has at most ${DISK_IMAGES_MAX} images; delete one first`
  const made = draft.create(diskImage, {
    id,
    tenant,
    name,
    ...(labels ? { labels } : {}),
    spec: {
      ...about,
      public: isPublic,
      ...(url === undefined ? {} : fromOf(settings, url)),
      ...creatorOf(caller),
    },
    ...(url === undefined ? {} : { status: { state: 'loading' } }),
  })
  draft.claim({ pool, value: id, ends: 'deletion', amount: 1, refusal }, id)
  return await Promise.resolve(made)
}

/** Refused `forbidden` to all but who made it, the owners of its tenant and whom a policy allows it. */
function needDiskImageOwner(caller: Caller, it: DiskImage, action: string): void {
  if (it.spec.creator !== caller.subject && !decide(caller, 'own', action, it).allowed)
    throw new CloudError('forbidden', 'Only who made the image, or an owner of its tenant, may do this')
}

/**
 * A changed spec: an address is new only while there is no content and none on its way (`conflict`, rule `wrong_state`),
 * and then fetched from. Whoever may change it is as of `needDiskImageOwner`.
 */
export function changeDiskImage(
  { caller, settings }: VerbContext,
  it: DiskImage,
  wanted: DiskImage['spec'],
): DiskImage['spec'] {
  needDiskImageOwner(caller, it, 'image:update')
  if (wanted.url === it.spec.url) return wanted
  if (wanted.url === undefined) throw new CloudError('invalid', 'cannot be taken away', { field: 'spec.url' })
  if (it.status.state !== 'pending' && it.status.state !== 'error')
    throw new CloudError('conflict', 'The image has content, or some is on its way; import another', {
      rule: 'wrong_state',
    })
  return { ...wanted, ...fromOf(settings, wanted.url) }
}

/** An image that the caller may upload to or delete. One that others made public is `forbidden`, not unknown. */
async function owned({ draft, caller }: VerbContext, id: string, action: string): Promise<DiskImage> {
  authoriseFirst(caller, 'write', action)
  const it = await draft.get(diskImage, ALL, id)
  if (!it || !seesDiskImage(caller, it)) throw new CloudError('not_found', MISSING_IMAGE)
  if (![ALL, it.tenant].includes(tenantFor(caller, diskImage)))
    throw new CloudError('forbidden', 'The image is another tenant’s')
  authorise(caller, 'write', action, it)
  needDiskImageOwner(caller, it, action)
  return it
}

export async function deleteDiskImage(context: VerbContext, id: string): Promise<DiskImage> {
  const it = await owned(context, id, 'image:delete')
  context.draft.mark(it)
  return it
}

/** An image that content may be uploaded to; `conflict`, rule `wrong_state`, once it has some or is to be fetched. */
export async function imageToUpload(context: VerbContext, id: string): Promise<DiskImage> {
  const it = await owned(context, id, 'image:create')
  if (it.spec.source !== undefined)
    throw new CloudError('conflict', 'The image is imported; register another to upload to', {
      rule: 'wrong_state',
    })
  if (it.status.state === 'active')
    throw new CloudError('conflict', 'The image has its content already; register another', {
      rule: 'wrong_state',
    })
  return it
}

/** Notes that content was uploaded, which is there by now. */
export async function imageUploaded(context: VerbContext, id: string): Promise<DiskImage> {
  const it = await owned(context, id, 'image:create')
  return context.draft.edit(diskImage, it, { spec: { ...it.spec, uploads: (it.spec.uploads ?? 0) + 1 } })
}

/**
 * Refused `unsupported` where what is to be launched as a container is the id of a disk image that the caller sees, or the
 * name of one of its tenant's: others' names say nothing here, or they could forbid the images of registries.
 */
export async function refuseDiskImage({ draft, caller }: VerbContext, image: string): Promise<void> {
  const byId = isUuid(image) ? await draft.get(diskImage, ALL, image.toLowerCase()) : undefined
  const [named] =
    byId && seesDiskImage(caller, byId)
      ? [byId]
      : await draft.list(diskImage, { tenant: ownTenant(caller), terms: [`name:${image}`], deleted: false })
  if (!named) return
  const text = `${named.name} is the image of a disk and needs a virtual machine, which this installation cannot run; for a container image of that name write its registry too, as docker.io/library/NAME`
  throw new CloudError('unsupported', text, { field: 'image' })
}
