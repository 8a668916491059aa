import type { Readable } from 'node:stream'
import { CloudError } from '#lib/errors.ts'
import type { Engine } from '#engine/engine.ts'
import { ALL } from '#engine/resource.ts'
import { type Caller, authorise, authoriseFirst, decide, tenantFor } from '#cloud/access.ts'
import { diskImage, type DiskImage } from './disk-image.kind.ts'
import { MISSING_IMAGE, seesDiskImage } from './disk-image.verbs.ts'
import { type DiskImagesDriver, formatOf } from './disk-images.driver.ts'

/** A file as its sender names it. */
export type SentFile = { readonly name: string; readonly content: Readable; readonly totalBytes?: number }

/** Disk images beyond one tenant's own records: what others made public, and contents. */
export type DiskImages = {
  /** Every image that the caller sees: its tenant's own, and what is public; oldest first. */
  all(caller: Caller): Promise<readonly DiskImage[]>
  get(caller: Caller, id: string): Promise<DiskImage>
  /**
   * Has `read` read an image's content, of which it hands the file on once, and gives the image when that is durable and
   * noted. Refused as `imageToUpload` before anything is read, and as the driver's `receive`.
   */
  upload(
    caller: Caller,
    id: string,
    read: (keep: (file: SentFile) => Promise<void>) => Promise<void>,
  ): Promise<DiskImage>
}

export type DiskImagesOptions = {
  readonly engine: Engine
  readonly images: DiskImagesDriver
  /** Every page of a list. */
  all(tenant: string, terms: readonly string[]): Promise<readonly DiskImage[]>
  /** Checks as `imageToUpload`, and writes nothing. */
  check(caller: Caller, id: string): Promise<unknown>
  /** Commits `imageUploaded`. */
  note(caller: Caller, id: string): Promise<DiskImage>
}

export function createDiskImages({ engine, images, all, check, note }: DiskImagesOptions): DiskImages {
  return {
    async all(caller) {
      authorise(caller, 'read', 'image:read', { kind: 'image' })
      const found = [...(await all(tenantFor(caller, diskImage), [])), ...(await all(ALL, ['public']))]
      const once = [...new Map(found.map((it) => [it.id, it])).values()]
      return once
        .filter((it) => seesDiskImage(caller, it) && decide(caller, 'read', 'image:read', it).allowed)
        .toSorted((a, b) => (a.id < b.id ? -1 : 1))
        .map((it) => engine.redact(it))
    },
    async get(caller, id) {
      authoriseFirst(caller, 'read', 'image:read')
      const it = await engine.get(diskImage, ALL, id)
      if (!it || !seesDiskImage(caller, it)) throw new CloudError('not_found', MISSING_IMAGE)
      authorise(caller, 'read', 'image:read', it)
      return engine.redact(it)
    },
    async upload(caller, id, read) {
      await check(caller, id)
      await read(async ({ name, content, totalBytes }) => {
        const file = { format: formatOf(name), ...(totalBytes === undefined ? {} : { totalBytes }) }
        // Its reconciler tells how far it is, and goes on looking until it is there.
        await Promise.all([images.receive(id, file, content), engine.wake(`image/${id}`)])
      })
      return await note(caller, id)
    },
  }
}
