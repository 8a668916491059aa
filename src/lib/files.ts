import { renameSync, rmSync } from 'node:fs'
import { open, readFile, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'

/**
 * Replaces a file whole: a reader, and the next start after a crash, finds the old text or the new one and nothing
 * between. Durable when it returns. Two writers of one path must take turns.
 */
export async function writeAtomically(path: string, text: string | Uint8Array, mode = 0o600): Promise<void> {
  const next = `${path}.next`
  await rm(next, { force: true })
  const file = await open(next, 'wx', mode)
  try {
    await file.chmod(mode)
    await file.writeFile(text)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(next, path)
  await syncFolder(dirname(path))
}

/** What is not whole: a folder that is being made or removed. */
const UNFINISHED = '.next'

/** Removes a folder that whoever finds it takes for whole: cut short, what is left of it has another name. */
export function removeWhole(path: string): void {
  const unfinished = path.endsWith(UNFINISHED) ? path : `${path}${UNFINISHED}`
  if (unfinished !== path) {
    rmSync(unfinished, { recursive: true, force: true })
    renameSync(path, unfinished)
  }
  rmSync(unfinished, { recursive: true, force: true })
}

/** Makes durable which files a folder has, and under what names. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r')
  try {
    await folder.sync()
  } finally {
    await folder.close()
  }
}

/** To catch what is thrown about a path, where it is fine that there is none. */
export function unlessMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOENT') throw error
}

/** The file's text, undefined when there is none. */
export async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}
