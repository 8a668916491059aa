import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { CloudError, messageOf } from './errors.ts'
import { readIfThere, writeAtomically } from './files.ts'
import type { Log } from './log.ts'

/** Grows with the form of the files; one of another form is not read, since whoever wrote it sends it again. */
const FILE_VERSION = 1
const SUFFIX = '.json'

type File = { readonly version: number; readonly order: number; readonly [name: string]: unknown }

/** A folder of documents (files, 0600), so that a restart serves them while whoever sent them is away. */
export type Kept = {
  /** One change after the other, so that files and memory agree on which came last. */
  inTurn<T>(work: () => Promise<T>): Promise<T>
  /** Durable when it returns; `unavailable` when it cannot be. Only in turn. */
  write(id: string, document: unknown): Promise<void>
  /** Also what is not there. Only in turn. */
  remove(id: string): Promise<void>
  /** Of these ids those without a file, and the paths of files that are of none of them. Only in turn. */
  compare(ids: Iterable<string>): Promise<{ readonly missing: string[]; readonly strays: string[] }>
}

/**
 * Opens a folder, made if it is not there, and reads what it keeps, oldest write first. A file that cannot be used, or
 * that `parse` refuses, is said and left out.
 * @param options.name what a document is called, in its file and in messages.
 */
export async function openKept<T>(options: {
  readonly directory: string
  readonly name: string
  readonly parse: (document: unknown) => T
  readonly log: Log
}): Promise<{ readonly kept: Kept; readonly found: readonly T[] }> {
  const { directory, name, parse, log } = options
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const found: { order: number; document: T }[] = []
  for (const file of await readdir(directory)) {
    if (!file.endsWith(SUFFIX)) continue
    try {
      const read = JSON.parse((await readIfThere(join(directory, file))) ?? '') as File
      if (read.version !== FILE_VERSION) throw new Error(`its version is ${read.version}`)
      found.push({ order: Number(read.order), document: parse(read[name]) })
    } catch (error) {
      log.warn(`${name} on disk cannot be used; the cloud sends it again`, { file, error: messageOf(error) })
    }
  }
  found.sort((a, b) => a.order - b.order)
  let order = found.at(-1)?.order ?? 0
  let turn: Promise<unknown> = Promise.resolve()
  const pathOf = (id: string): string => join(directory, `${id}${SUFFIX}`)
  const onDisk = async (work: () => Promise<void>): Promise<void> => {
    try {
      await work()
    } catch (error) {
      const message = `the edge cannot keep its table in ${directory}: ${messageOf(error)}`
      throw new CloudError('unavailable', message, {}, error)
    }
  }
  return {
    found: found.map((it) => it.document),
    kept: {
      inTurn(work) {
        const done = turn.then(work)
        turn = done.catch(() => {})
        return done
      },
      write: async (id, document) => {
        const file = { version: FILE_VERSION, order: ++order, [name]: document }
        await onDisk(() => writeAtomically(pathOf(id), JSON.stringify(file)))
      },
      remove: async (id) => await onDisk(() => rm(pathOf(id), { force: true })),
      async compare(ids) {
        const strays = new Set((await readdir(directory)).map((file) => join(directory, file)))
        const missing = [...ids].filter((id) => !strays.delete(pathOf(id)))
        return { missing, strays: [...strays] }
      },
    },
  }
}
