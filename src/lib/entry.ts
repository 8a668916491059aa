import { existsSync } from 'node:fs'
import { dirname, extname, join } from 'node:path'

/**
 * What Node is started on: programs, and threads of theirs. Each is a file of the sources, and one of the same name in a
 * bundle, which is what `arcus` runs (decisions/0096).
 */
export const ENTRIES = [
  'main',
  'host',
  'edge',
  'certify',
  'up',
  'serve',
  'down',
  'backup',
  'restore',
  'doctor',
  'trace',
  'cli/cli',
  'engine/store.sqlite.worker',
  'engine/bulk.worker',
] as const
export type Entry = (typeof ENTRIES)[number]

/** The nearest folder from here upwards that has this file. */
function above(file: string): string {
  let folder = import.meta.dirname
  while (!existsSync(join(folder, file))) {
    if (folder === '/') throw new Error(`${import.meta.dirname} is in no folder with ${file}`)
    folder = dirname(folder)
  }
  return folder
}

const extension = extname(import.meta.filename)
/** The folder of the code that runs: `src`, or a bundle. */
export const CODE = above(`main${extension}`)
/** The folder of what the code comes with (package.json, .node-version): the checkout, or a bundle, which has its own. */
export const PROGRAM = above('package.json')

/** The file of an entry, of the same kind as this code. */
export const entryFile = (name: Entry): string => join(CODE, name + extension)
