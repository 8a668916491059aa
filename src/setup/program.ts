import { existsSync, mkdirSync, readdirSync, realpathSync, renameSync, rmSync, symlinkSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { removeWhole } from '#lib/files.ts'
import { run, type Say } from './command.ts'

const COPY_SECONDS_MAX = 120
const NODE = 'node'
/** Of a checkout's bundle: the code that Node compiled. */
const CACHE = 'cache'

/** Where the Node of a bundle is. */
export const nodeOf = (program: string): string => join(program, NODE)

/** Copies parts of a folder to a new one, owned by root and readable by everyone: whole or not at all. */
async function copyParts(from: string, parts: readonly string[], target: string): Promise<string> {
  const next = `${target}.next`
  rmSync(next, { recursive: true, force: true })
  mkdirSync(next, { recursive: true, mode: 0o755 })
  await run(['cp', '-R', ...parts.map((it) => join(from, it)), next], COPY_SECONDS_MAX)
  await run(['chown', '-R', '-h', 'root:root', next], COPY_SECONDS_MAX)
  await run(['chmod', '-R', 'u=rwX,go=rX', next], COPY_SECONDS_MAX)
  return next
}

/**
 * Copies a bundle and its Node into `folder`, and gives the copy. A checkout may lie where a service account cannot read,
 * and may be writable by somebody whom root must not trust. Versions with the same Node share it.
 */
export async function installProgram(bundle: string, folder: string, say: Say): Promise<string> {
  const target = join(folder, basename(bundle))
  if (existsSync(target)) return target
  say('Installing the program …')
  const node = join(folder, `node-${process.version}`)
  if (!existsSync(node)) {
    const binary = realpathSync(nodeOf(bundle))
    renameSync(await copyParts(dirname(binary), [basename(binary)], node), node)
  }
  const parts = readdirSync(bundle).filter((it) => it !== NODE && it !== CACHE)
  const next = await copyParts(bundle, parts, target)
  symlinkSync(join('..', basename(node), 'node'), nodeOf(next))
  renameSync(next, target)
  return target
}

/** Removes what no program but this one runs with. */
export function removeOtherVersions(program: string, folder: string): void {
  const node = basename(dirname(realpathSync(nodeOf(program))))
  for (const it of readdirSync(folder)) {
    if (it !== basename(program) && it !== node) removeWhole(join(folder, it))
  }
}
