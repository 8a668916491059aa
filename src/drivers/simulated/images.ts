import type { Readable } from 'node:stream'
import { createHash } from 'node:crypto'
import type { Clock } from '#lib/clock.ts'
import { CloudError } from '#lib/errors.ts'
import type {
  DiskContent,
  DiskFormat,
  DiskImagesDriver,
  SeenDiskImage,
} from '#cloud/compute/disk-images.driver.ts'
import type { Fault } from './network.ts'

const FETCH_MS = 100
const FETCHED_BYTES = 1024

export type SimulatedImages = DiskImagesDriver & {
  /** From now on it is seen like this; without `seen` it is as it is again. */
  pretend(id: string, seen?: SeenDiskImage): void
  /** Somebody removed the file behind our back. */
  vanish(id: string): void
}

/** Contents of images that exist only by size and hash; what is fetched is there after 100 ms. */
export function simulatedImages(clock: Clock, fault: Fault = () => {}): SimulatedImages {
  const kept = new Map<string, { readonly content: DiskContent; readonly at: number }>()
  const pretences = new Map<string, SeenDiskImage>()
  const contentOf = (format: DiskFormat, bytes: Buffer): DiskContent => ({
    format,
    sizeBytes: bytes.length,
    sha256: createHash('sha256').update(bytes).digest('hex'),
  })
  return {
    pretend(id, seen) {
      if (seen) pretences.set(id, seen)
      else pretences.delete(id)
    },
    vanish: (id) => void kept.delete(id),
    async receive(id, { format }, source) {
      await fault('receive', id)
      if (kept.has(id))
        throw new CloudError('conflict', 'Its content is there already', { rule: 'lost_race' })
      const chunks: Buffer[] = []
      for await (const chunk of source as Readable & AsyncIterable<Buffer>) chunks.push(chunk)
      const content = contentOf(format, Buffer.concat(chunks))
      if (content.sizeBytes === 0) throw new CloudError('invalid', 'is empty', { field: 'file' })
      kept.set(id, { content, at: clock.now() })
      return content
    },
    async fetch({ id, url, format }) {
      await fault('fetch', id)
      if (pretences.has(id) || kept.has(id)) return
      const bytes = Buffer.alloc(FETCHED_BYTES, url)
      kept.set(id, { content: contentOf(format, bytes), at: clock.now() + FETCH_MS })
    },
    async observe(id) {
      await fault('observe', id)
      const it = kept.get(id)
      const pretended = pretences.get(id)
      if (pretended ?? !it) return pretended
      if (clock.now() >= it.at) return { state: 'present', content: it.content }
      return { state: 'arriving', progress: { doneBytes: FETCHED_BYTES / 2, totalBytes: FETCHED_BYTES } }
    },
    async remove(id) {
      await fault('remove', id)
      kept.delete(id)
    },
    async list() {
      await fault('list', '')
      return [...kept.keys()]
    },
  }
}
