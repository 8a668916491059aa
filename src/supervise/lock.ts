import { DatabaseSync } from 'node:sqlite'

/** Held until released; releasing it again does nothing. */
export type Lock = { release(): void }

/**
 * Takes a lock that the kernel drops when this process dies, however it dies; undefined when another process holds it.
 * SQLite's file lock is the one that Node offers without a native module; the file stays empty.
 */
export function takeLock(path: string): Lock | undefined {
  const database = new DatabaseSync(path, { timeout: 0 })
  try {
    database.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE')
  } catch (error) {
    database.close()
    if (/database is locked/.test(String(error))) return undefined
    throw error
  }
  return {
    release() {
      if (database.isOpen) database.close()
    },
  }
}
