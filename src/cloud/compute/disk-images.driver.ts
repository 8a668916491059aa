import type { Readable } from 'node:stream'

/** What a disk image's file is; an `img` is whatever its maker says that it is. */
export const DISK_FORMATS = ['qcow2', 'img', 'raw', 'iso'] as const
export type DiskFormat = (typeof DISK_FORMATS)[number]

/** Of one image, and so of one upload or import. */
export const DISK_IMAGE_BYTES_MAX = 10 * 1_073_741_824

/** What is said of a file by its name's ending: `qcow2` where that says nothing. */
export const formatOf = (name: string): DiskFormat =>
  DISK_FORMATS.find((it) => name.toLowerCase().endsWith(`.${it}`)) ?? 'qcow2'

export type DiskContent = {
  readonly format: DiskFormat
  readonly sizeBytes: number
  /** In hexadecimal. */
  readonly sha256: string
}

/** How much of something that is on its way is there. */
export type Arrived = { readonly doneBytes: number; readonly totalBytes?: number }

export type SeenDiskImage =
  /** `progress` is absent while it waits for its turn. */
  | { readonly state: 'arriving'; readonly progress?: Arrived }
  | { readonly state: 'present'; readonly content: DiskContent }
  /** The last fetch failed. `final`: another would end the same. */
  | { readonly state: 'failed'; readonly message: string; readonly final: boolean }

/** Where content is fetched from. The address may hold a secret: it is in no message. */
export type DiskImageWish = { readonly id: string; readonly url: string; readonly format: DiskFormat }

/**
 * Contents of disk images on one machine, whole or not at all: what was answered as kept survives a crash, and what a
 * crash cut off is gone at the next start, or gone on with when it is fetched again. Keyed by our ids, idempotent but for `receive`.
 */
export interface DiskImagesDriver {
  /**
   * Keeps what a stream brings, and ends once that is durable, or the stream was destroyed. Refused `invalid` when it is not what its format says, is
   * empty, refers to other files of a host, or is more than DISK_IMAGE_BYTES_MAX (rule `too_large`); `conflict` while
   * content is there or on its way; `exhausted`, rule `capacity`, when the disk is full, `rate_limited` when too many
   * arrive. Nothing is left of what was refused.
   */
  receive(
    id: string,
    file: { readonly format: DiskFormat; readonly totalBytes?: number },
    source: Readable,
  ): Promise<DiskContent>
  /** Begins to fetch it; fine when it is there or on its way. A failure of before is forgotten. */
  fetch(wish: DiskImageWish, signal: AbortSignal): Promise<void>
  /** Undefined where there is nothing of it. */
  observe(id: string, signal: AbortSignal): Promise<SeenDiskImage | undefined>
  /** Ends what is on its way and removes what is there; done when it returns. */
  remove(id: string, signal: AbortSignal): Promise<void>
  /** Every image of which a file is there or arrives. */
  list(signal: AbortSignal): Promise<readonly string[]>
}
