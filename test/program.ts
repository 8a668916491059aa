import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import type { Entry } from '#lib/entry.ts'

export const ROOT = join(import.meta.dirname, '..')
export const ARCUS = join(ROOT, 'arcus')

let bundle: string | undefined

/** A program as users run it, made of the sources as they are now. */
export function programFile(name: Entry): string {
  bundle ??= execFileSync(ARCUS, ['bundle'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  }).trim()
  return join(bundle, `${name}.js`)
}
