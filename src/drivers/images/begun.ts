import { createHash } from 'node:crypto'
import { readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { readIfThere, writeAtomically } from '#lib/files.ts'
import type { Known } from './fetch.ts'

/** A fetch that its server lets be gone on with: what is known of the content, and how much of it is surely on the disk. */
export type Begun = Known & { readonly doneBytes: number }

const FILES = /^([0-9a-f-]{36})\.begun(|\.part|\.next)$/

/** The address itself may hold a key. */
const hashOf = (url: string): string => createHash('sha256').update(url).digest('hex')

/** What outlives the process of fetches under way: beside the content of each a file that says where it came from. */
export function openBegun(folder: string) {
  const aboutOf = (id: string): string => join(folder, `${id}.begun`)
  const partOf = (id: string): string => join(folder, `${id}.begun.part`)
  const read = async (id: string): Promise<(Begun & { readonly url: string }) | undefined> => {
    try {
      return JSON.parse((await readIfThere(aboutOf(id))) ?? 'null') ?? undefined
    } catch {
      return undefined
    }
  }
  return {
    partOf,
    /** What there is of the content of an address; undefined for another one. */
    async of(id: string, url: string): Promise<Begun | undefined> {
      const found = await read(id)
      if (found?.url !== hashOf(url)) return undefined
      const there = await stat(partOf(id)).catch(() => undefined)
      return there && there.size >= found.doneBytes ? found : undefined
    },
    async note(id: string, url: string, { validator, totalBytes, doneBytes }: Begun): Promise<void> {
      const about = { url: hashOf(url), validator, totalBytes, doneBytes }
      await writeAtomically(aboutOf(id), `${JSON.stringify(about)}\n`)
    },
    /** Removes what a crash left of which nothing is known, and what is known of nothing. */
    async tidy(): Promise<void> {
      const names = new Set(await readdir(folder))
      for (const name of names) {
        const [, id, end] = FILES.exec(name) ?? []
        if (id === undefined) continue
        const other = end === '' ? `${id}.begun.part` : `${id}.begun`
        if (end === '.next' || !names.has(other)) await rm(join(folder, name), { force: true })
      }
    },
    async forget(id: string): Promise<void> {
      await rm(aboutOf(id), { force: true })
      await rm(partOf(id), { force: true })
    },
  }
}
