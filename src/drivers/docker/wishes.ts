import { mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { ContainerWish, InsideFile } from '#cloud/compute/compute.driver.ts'
import { readIfThere, writeAtomically } from '#lib/files.ts'
import { isUuid } from '#lib/ids.ts'
import { messageOf } from '#lib/errors.ts'
import type { Log } from '#lib/log.ts'

/** Seals a secret for the disk; `binding` names its place, and it opens nowhere else. Opening throws when it can't. */
export type Seal = {
  seal(plain: string, binding: string): string
  open(sealed: string, binding: string): string
}

/** A wish whose registry password and contents of files are sealed. */
export type KeptWish = Omit<ContainerWish, 'registry' | 'inside'> & {
  readonly inside?: { readonly files: readonly Omit<InsideFile, 'content'>[]; readonly sealed: string }
  readonly registry?: { readonly server: string; readonly username: string; readonly sealed: string }
}

/** How a container ended that was seen ending while Docker was up: it did so by itself. */
export type Ended = { readonly runtimeId: string; readonly finishedAt: string; readonly exitCode: number }

/** What is held for one container, on disk. */
export type Held = {
  readonly wish: KeptWish
  /** Starts seen of this attempt, and which the last one was. */
  readonly starts: number
  readonly lastStart?: string
  readonly ended?: Ended
  /** This attempt can never start, and why. */
  readonly failed?: string
  /** To be stopped and removed; then forgotten. */
  readonly removing?: boolean
}

const VERSION = 1

/** The wishes of one machine: in memory for reading, on disk (0600, each replaced whole) for the next start. */
export type Wishes = {
  get(id: string): Held | undefined
  all(): readonly Held[]
  /** Held at once; durable when it returns. What could not be written is held all the same, and is not saved. */
  put(held: Held): Promise<void>
  /** Whether what is held of an id is on disk. */
  isSaved(id: string): boolean
  forget(id: string): Promise<void>
}

/** Reads what is on disk. A file that cannot be read is left alone and logged: its container shows as an orphan. */
export async function openWishes(directory: string, log: Log): Promise<Wishes> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const held = new Map<string, Held>()
  const path = (id: string): string => join(directory, `${id}.json`)
  for (const name of await readdir(directory)) {
    const id = name.replace(/\.json$/, '')
    if (!name.endsWith('.json') || !isUuid(id)) continue
    try {
      const parsed = JSON.parse((await readIfThere(join(directory, name))) ?? '') as {
        version: number
        held: Held
      }
      if (parsed.version !== VERSION) throw new Error(`version ${parsed.version} is not known`)
      held.set(id, parsed.held)
    } catch (error) {
      log.error('wish cannot be read', { id, error: messageOf(error) })
    }
  }
  const unsaved = new Set<string>()
  // One write of a file at a time, in the order asked.
  const turns = new Map<string, Promise<void>>()
  const inTurn = (id: string, work: () => Promise<void>): Promise<void> => {
    const turn = (turns.get(id) ?? Promise.resolve()).catch(() => {}).then(work)
    turns.set(id, turn)
    const done = (): void => {
      if (turns.get(id) === turn) turns.delete(id)
    }
    turn.then(done, done)
    return turn
  }
  return {
    get: (id) => held.get(id),
    all: () => [...held.values()],
    put(it) {
      const id = it.wish.id
      held.set(id, it)
      unsaved.add(id)
      return inTurn(id, async () => {
        await writeAtomically(path(id), JSON.stringify({ version: VERSION, held: it }))
        if (held.get(id) === it) unsaved.delete(id)
      })
    },
    isSaved: (id) => !unsaved.has(id),
    forget(id) {
      held.delete(id)
      unsaved.delete(id)
      return inTurn(id, () => rm(path(id), { force: true }))
    },
  }
}
