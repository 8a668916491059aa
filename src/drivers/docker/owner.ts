import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { readIfThere, writeAtomically } from '#lib/files.ts'

const FILE = 'owner'
const ID_BYTES = 16
const LABEL = /^([0-9a-f]{32}) (\/.+)$/

/**
 * Whose a container or network is: of the folder that its agent keeps its wishes in. Two folders may use one name on one
 * Docker after another; what the other made is left alone for as long as that folder is there.
 */
export type Owner = {
  /** Put on everything that is made. */
  readonly label: string
  /** False for what another folder's agent made. What was made before there were labels, or whose folder is gone, is ours. */
  owns(label: string | undefined): boolean
}

const idIn = (folder: string): string | undefined => {
  try {
    return readFileSync(join(folder, FILE), 'utf8').trim()
  } catch {
    return undefined
  }
}

/** The owner that a folder is; it gets its id when it has none. `takeOver`: everything is ours, to be removed for good. */
export async function openOwner(directory: string, takeOver = false): Promise<Owner> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const path = join(directory, FILE)
  const id = (await readIfThere(path))?.trim() || randomBytes(ID_BYTES).toString('hex')
  await writeAtomically(path, `${id}\n`)
  return {
    label: `${id} ${directory}`,
    owns(label) {
      const [, theirs, folder = ''] = LABEL.exec(label ?? '') ?? []
      return takeOver || theirs === undefined || theirs === id || idIn(folder) !== theirs
    },
  }
}
