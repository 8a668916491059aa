import { mkdir, readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import {
  type Arrived,
  DISK_FORMATS,
  type DiskContent,
  type DiskFormat,
  type DiskImagesDriver,
  type DiskImageWish,
} from '#cloud/compute/disk-images.driver.ts'
import { CloudError, isCloudError, messageOf } from '#lib/errors.ts'
import type { GuardedOpener } from '#lib/guarded.ts'
import type { Log } from '#lib/log.ts'
import { slots } from '#lib/slots.ts'
import { openBegun } from './begun.ts'
import { fetched, isFinal } from './fetch.ts'
import { type Arriving, write } from './writer.ts'

/** Fetches at once; others wait for their turn. */
const FETCHES_MAX = 4
/** Uploads at once; more are refused. */
const UPLOADS_MAX = 16
/** From its first byte to its last, of one upload or fetch. */
const ARRIVAL_MS_MAX = 10_800_000

const FILE = new RegExp(`^([0-9a-f-]{36})\\.(${DISK_FORMATS.join('|')})\\.([0-9a-f]{64})$`)
const PART = /^([0-9a-f-]{36})\.(?:begun\.)?part$/
const CUT_OFF = /^[0-9a-f-]{36}\.part$/

/** Content on its way. */
type Task = {
  readonly stop: AbortController
  done: Promise<unknown>
  readonly isUpload: boolean
  isLate: boolean
  progress?: Arrived
}
type Failure = { readonly message: string; readonly final: boolean }

export type DiskImagesOptions = {
  /** For the files alone; made when it is not there. */
  readonly folder: string
  readonly open: GuardedOpener
  readonly log: Log
  /** ARRIVAL_MS_MAX unless told. */
  readonly arrivalMsMax?: number
}

export type DiskImages = DiskImagesDriver & {
  /** Ends what is on its way. */
  close(): Promise<void>
}

/**
 * Contents of images as files of one folder. A file's name says whose it is, its format and its hash, so that one renaming
 * makes all of it true at once; what is on its way is a `.part`, which the next start removes unless it can be gone on with.
 */
export async function openDiskImages({
  folder,
  open,
  log,
  arrivalMsMax = ARRIVAL_MS_MAX,
}: DiskImagesOptions): Promise<DiskImages> {
  const tasks = new Map<string, Task>()
  const failures = new Map<string, Failure>()
  const slot = slots(FETCHES_MAX)
  const partOf = (id: string): string => join(folder, `${id}.part`)
  await mkdir(folder, { recursive: true, mode: 0o700 })
  for (const name of await readdir(folder))
    if (CUT_OFF.test(name)) await rm(join(folder, name), { force: true })
  const begun = openBegun(folder)
  await begun.tidy()

  const files = async (
    id?: string,
  ): Promise<{ id: string; path: string; content: Omit<DiskContent, 'sizeBytes'> }[]> =>
    (await readdir(folder)).flatMap((name) => {
      const [, of, format, sha256 = ''] = FILE.exec(name) ?? []
      if (of === undefined || (id !== undefined && id !== of)) return []
      return [{ id: of, path: join(folder, name), content: { format: format as DiskFormat, sha256 } }]
    })
  const presentOf = async (id: string): Promise<DiskContent | undefined> => {
    const [file] = await files(id)
    if (!file) return undefined
    return { ...file.content, sizeBytes: (await stat(file.path)).size }
  }

  /** Runs one arrival; there is one of an id at a time. */
  const begin = <T>(id: string, isUpload: boolean, work: (task: Task) => Promise<T>): Promise<T> => {
    const task: Task = { stop: new AbortController(), done: Promise.resolve(), isUpload, isLate: false }
    tasks.set(id, task)
    failures.delete(id)
    const done = work(task).finally(() => {
      if (tasks.get(id) === task) tasks.delete(id)
    })
    task.done = done.catch(() => {})
    return done
  }
  /** Ends what takes too long; what waits for its turn has not begun. */
  const inTime = async <T>(task: Task, work: () => Promise<T>): Promise<T> => {
    const timer = setTimeout(() => {
      task.isLate = true
      task.stop.abort(new CloudError('unavailable', `it took longer than ${arrivalMsMax / 1000} s`))
    }, arrivalMsMax)
    try {
      return await work()
    } finally {
      clearTimeout(timer)
    }
  }
  const keep = async (
    id: string,
    task: Task,
    file: Pick<Arriving, 'format' | 'totalBytes' | 'from' | 'onKept'>,
    source: Readable,
    part = partOf(id),
  ): Promise<DiskContent> => {
    const onProgress = (progress: Arrived): void => void (task.progress = progress)
    const nameOf = ({ format, sha256 }: DiskContent): string => join(folder, `${id}.${format}.${sha256}`)
    return await write(source, part, nameOf, { ...file, onProgress }, task.stop.signal)
  }
  const fetchInTurn = async ({ id, url, format }: DiskImageWish, task: Task): Promise<void> => {
    const { signal } = task.stop
    const take = async (): Promise<void> => {
      signal.throwIfAborted()
      task.progress = { doneBytes: 0 }
      const there = await begun.of(id, url)
      const { source, totalBytes, from, known } = await fetched(open, url, signal, there)
      const file = { format, ...(totalBytes === undefined ? {} : { totalBytes }) }
      if (from === 0) await begun.forget(id)
      if (!known) return void (await keep(id, task, file, source))
      const onKept = async (doneBytes: number): Promise<void> =>
        await begun.note(id, url, { ...known, doneBytes })
      await keep(id, task, { ...file, from, onKept }, source, begun.partOf(id))
      await begun.forget(id)
    }
    try {
      await slot(async () => await inTime(task, take))
    } catch (error) {
      if (signal.aborted && !task.isLate) return
      await begun.forget(id)
      const code = (error as NodeJS.ErrnoException).code ?? messageOf(error)
      const message = isCloudError(error) ? error.message : `it broke off (${code})`
      failures.set(id, { message, final: task.isLate || isFinal(error) })
      log.warn('image not fetched', { image: id, reason: message })
    }
  }

  /** Ends what arrives of an image; what waits for its turn ends by itself when that comes. */
  const end = async (id: string, why: CloudError): Promise<void> => {
    const task = tasks.get(id)
    task?.stop.abort(why)
    if (task?.isUpload || task?.progress) await task.done
    else tasks.delete(id)
  }

  return {
    async receive(id, file, source) {
      const uploads = [...tasks.values()].filter((it) => it.isUpload).length
      if (tasks.has(id))
        throw new CloudError('conflict', 'Its content is on its way already', { rule: 'lost_race' })
      if (uploads >= UPLOADS_MAX)
        throw new CloudError('rate_limited', `${uploads} images are being uploaded; try again later`)
      return await begin(id, true, async (task) => {
        if (await presentOf(id))
          throw new CloudError('conflict', 'Its content is there already', { rule: 'lost_race' })
        return await inTime(task, async () => await keep(id, task, file, source))
      })
    },
    async fetch(wish) {
      if (tasks.has(wish.id) || (await presentOf(wish.id)) || tasks.has(wish.id)) return
      void begin(wish.id, false, async (task) => await fetchInTurn(wish, task))
    },
    async observe(id) {
      const task = tasks.get(id)
      if (task) return { state: 'arriving', ...(task.progress ? { progress: task.progress } : {}) }
      const content = await presentOf(id)
      if (content) return { state: 'present', content }
      const failure = failures.get(id)
      return failure && { state: 'failed', ...failure }
    },
    async remove(id) {
      await end(id, new CloudError('gone', 'The image was deleted'))
      failures.delete(id)
      for (const { path } of await files(id)) await rm(path, { force: true })
      await rm(partOf(id), { force: true })
      await begun.forget(id)
    },
    async list() {
      const parts = (await readdir(folder)).flatMap((name) => PART.exec(name)?.[1] ?? [])
      return [...new Set([...(await files()).map((it) => it.id), ...parts])]
    },
    async close() {
      const stops = new CloudError('unavailable', 'The cloud stops')
      await Promise.all([...tasks.keys()].map(async (id) => await end(id, stops)))
    },
  }
}
