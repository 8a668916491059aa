import { createHash } from 'node:crypto'
import { type FileHandle, open, rename, rm, statfs } from 'node:fs/promises'
import { dirname } from 'node:path'
import { addAbortSignal, type Readable } from 'node:stream'
import {
  type Arrived,
  DISK_IMAGE_BYTES_MAX,
  type DiskContent,
  type DiskFormat,
} from '#cloud/compute/disk-images.driver.ts'
import { CloudError } from '#lib/errors.ts'
import { syncFolder } from '#lib/files.ts'
import { formatFault, HEAD_BYTES } from './format.ts'

/** Kept free on the disk for everybody else, the database first. */
const FREE_BYTES_MIN = 1_073_741_824
/** What is written is on the disk after so much: no last sync waits for all of it. */
const SYNC_EVERY_BYTES = 67_108_864
/** A stretch of zeros of this length is left out of the file. */
const HOLE_BYTES = 65_536
const ZEROS = Buffer.alloc(HOLE_BYTES)
/** A stream that brings nothing for so long is given up. */
export const SILENCE_MS = 60_000

export type Arriving = {
  readonly format: DiskFormat
  readonly totalBytes?: number
  readonly bytesMax?: number
  readonly silenceMs?: number
  /** The stream goes on where so much of it lies in `part` already; without it `part` is begun anew. */
  readonly from?: number
  /** So much lies on the disk for sure. Where this is told, what is stopped from outside stays. */
  readonly onKept?: (bytes: number) => Promise<void>
  onProgress(progress: Arrived): void
}

const tooLarge = (bytesMax: number): CloudError =>
  new CloudError('invalid', `is more than ${bytesMax} bytes`, { field: 'file', rule: 'too_large' })

const DISK_FULL = new Set(['ENOSPC', 'EDQUOT'])
const diskFull = (cause?: unknown): CloudError =>
  new CloudError(
    'exhausted',
    'The disk of this machine has no room for the image; an administrator can make some',
    { rule: 'capacity' },
    cause,
  )

/** Refused `exhausted` unless the disk of a folder has room for so much and what has to stay free. */
async function needRoom(folder: string, bytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(folder)
  if (bavail * bsize < FREE_BYTES_MIN + bytes) throw diskFull()
}

/**
 * Writes a stream to `part`, and to the name that `nameOf` gives once it is whole, checked and durable. Nothing is left of
 * what fails by itself; see `receive` of the interface for what is refused.
 */
export async function write(
  source: Readable,
  part: string,
  nameOf: (content: DiskContent) => string,
  how: Arriving,
  signal: AbortSignal,
): Promise<DiskContent> {
  const { format, totalBytes, bytesMax = DISK_IMAGE_BYTES_MAX, silenceMs = SILENCE_MS } = how
  const folder = dirname(part)
  const silent = new AbortController()
  const silence = setTimeout(() => silent.abort(), silenceMs)
  try {
    if (totalBytes !== undefined && totalBytes > bytesMax) throw tooLarge(bytesMax)
    await needRoom(folder, (totalBytes ?? 0) - (how.from ?? 0))
    addAbortSignal(AbortSignal.any([signal, silent.signal]), source)
    const content = await take(source, part, { ...how, format, bytesMax }, () => silence.refresh())
    await rename(part, nameOf(content))
    await syncFolder(folder)
    return content
  } catch (error) {
    source.destroy()
    if (!how.onKept || !signal.aborted) await rm(part, { force: true })
    if (DISK_FULL.has((error as NodeJS.ErrnoException).code ?? '')) throw diskFull(error)
    signal.throwIfAborted()
    if (silent.signal.aborted)
      throw new CloudError('unavailable', `nothing of it came for ${silenceMs / 1000} s`, {}, error)
    throw error
  } finally {
    clearTimeout(silence)
  }
}

/** One call writes what there is room for. */
async function writeAll(file: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done)
    done += bytesWritten
  }
}

async function take(
  source: Readable,
  part: string,
  { format, totalBytes, bytesMax, onProgress, from = 0, onKept }: Arriving & { readonly bytesMax: number },
  heard: () => void,
): Promise<DiskContent> {
  const hash = createHash('sha256')
  const head = Buffer.alloc(HEAD_BYTES)
  let [size, synced, checked] = [0, 0, false]
  const check = (): void => {
    const fault = formatFault(format, head.subarray(0, size))
    if (fault !== undefined) throw new CloudError('invalid', fault, { field: 'file' })
    checked = true
  }
  const file = await open(part, from > 0 ? 'r+' : 'w', 0o600)
  const keep = async (): Promise<void> => {
    synced = size
    if (onKept) await file.truncate(size)
    await file.datasync()
    await onKept?.(size)
  }
  try {
    if (from > 0) {
      synced = from
      await file.truncate(from)
      const there = file.createReadStream({ start: 0, end: from - 1, autoClose: false })
      for await (const chunk of there as AsyncIterable<Buffer>) {
        heard()
        if (size < HEAD_BYTES) chunk.copy(head, size)
        hash.update(chunk)
        size += chunk.length
        if (source.destroyed) break
      }
      if (size >= HEAD_BYTES) check()
    }
    for await (const chunk of source as AsyncIterable<Buffer>) {
      heard()
      if (size + chunk.length > bytesMax) throw tooLarge(bytesMax)
      if (size < HEAD_BYTES) chunk.copy(head, size)
      hash.update(chunk)
      for (let at = 0; at < chunk.length; at += HOLE_BYTES) {
        const some = chunk.subarray(at, at + HOLE_BYTES)
        if (!some.equals(ZEROS.subarray(0, some.length))) await writeAll(file, some, size + at)
      }
      size += chunk.length
      onProgress({ doneBytes: size, ...(totalBytes === undefined ? {} : { totalBytes }) })
      if (!checked && size >= HEAD_BYTES) check()
      if (size - synced >= SYNC_EVERY_BYTES) {
        await keep()
        await needRoom(dirname(part), totalBytes === undefined ? 0 : totalBytes - size)
      }
    }
    if (from > 0 && size !== totalBytes) throw new CloudError('unavailable', 'it broke off')
    if (!checked) check()
    await file.truncate(size)
    await file.sync()
  } catch (error) {
    if (onKept && size > synced) await keep()
    throw error
  } finally {
    await file.close()
  }
  return { format, sizeBytes: size, sha256: hash.digest('hex') }
}
