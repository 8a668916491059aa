import { createHash } from 'node:crypto'
import {
  existsSync,
  globSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { run, type Say } from './command.ts'

const COPY_SECONDS_MAX = 120
const GIT_SECONDS_MAX = 10
/** What the processes need of a checkout, besides their dependencies. */
const PARTS = ['.node-version', 'package.json', 'package-lock.json', 'src', 'console/dist']

/** Where the node of a program folder is. */
export const nodeOf = (program: string): string => join(program, 'node_modules/.bin/node')

/** A short name for exactly this code and these dependencies; tests are no part of it. */
export function programVersion(checkout: string): string {
  const hash = createHash('sha256')
  const files = PARTS.flatMap((part) => [
    part,
    ...globSync(`${part}/**`, { cwd: checkout, withFileTypes: false }),
  ])
  for (const file of files.filter((it) => !/\.(test|testing|conformance)\.ts$/.test(it)).toSorted()) {
    const path = join(checkout, file)
    if (!existsSync(path)) continue
    hash.update(`${file}\0`)
    try {
      hash.update(readFileSync(path))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EISDIR') throw error
    }
  }
  return hash.digest('hex').slice(0, 12)
}

const modulesName = (checkout: string): string =>
  `modules-${createHash('sha256')
    .update(readFileSync(join(checkout, 'package-lock.json')))
    .digest('hex')
    .slice(0, 12)}`

type LockedPackages = Record<string, { readonly dev?: boolean }>

/** The top folders of the dependencies that the program runs with, as far as they are installed. */
function dependencies(checkout: string): string[] {
  const { packages } = JSON.parse(readFileSync(join(checkout, 'package-lock.json'), 'utf8')) as {
    packages: LockedPackages
  }
  return Object.entries(packages)
    .filter(([path, it]) => /^node_modules\/(@[^/]+\/)?[^/]+$/.test(path) && !it.dev)
    .map(([path]) => path)
    .filter((path) => existsSync(join(checkout, path)))
}

/** Copies parts of a checkout to a new folder, owned by root and readable by everyone: whole or not at all. */
async function copyParts(checkout: string, parts: readonly string[], target: string): Promise<string> {
  const next = `${target}.next`
  rmSync(next, { recursive: true, force: true })
  mkdirSync(next, { recursive: true, mode: 0o755 })
  const files = parts.filter((it) => existsSync(join(checkout, it))).map((it) => `./${it}`)
  // env(1) changes the folder: with --parents, cp keeps each path as it is named.
  await run(['env', '--chdir', checkout, 'cp', '-R', '--parents', ...files, next], COPY_SECONDS_MAX)
  await run(['chown', '-R', '-h', 'root:root', next], COPY_SECONDS_MAX)
  await run(['chmod', '-R', 'u=rwX,go=rX', next], COPY_SECONDS_MAX)
  return next
}

/** Notes the commit that the program was made from, where that can be told. */
async function writeCommit(checkout: string, target: string): Promise<void> {
  const commit = await run(['git', '-C', checkout, 'rev-parse', 'HEAD'], GIT_SECONDS_MAX).catch(
    () => undefined,
  )
  if (commit) writeFileSync(join(target, '.commit'), commit, { mode: 0o644 })
}

/**
 * Copies the program into `folder` under its version and gives that place. A checkout may lie where a service account
 * cannot read, and may be writable by somebody whom root must not trust. Versions with the same dependencies share them.
 */
export async function installProgram(checkout: string, folder: string, say: Say): Promise<string> {
  const target = join(folder, programVersion(checkout))
  if (existsSync(target)) return target
  say('Installing the program …')
  const modules = join(folder, modulesName(checkout))
  if (!existsSync(modules)) {
    const parts = [...dependencies(checkout), 'node_modules/.bin/node']
    renameSync(await copyParts(checkout, parts, modules), modules)
  }
  const next = await copyParts(checkout, PARTS, target)
  await writeCommit(checkout, next)
  symlinkSync(join('..', basename(modules), 'node_modules'), join(next, 'node_modules'))
  renameSync(next, target)
  return target
}

/** Removes what no program but this one runs with. */
export function removeOtherVersions(program: string, folder: string): void {
  const modules = basename(dirname(realpathSync(join(program, 'node_modules'))))
  for (const it of readdirSync(folder)) {
    if (it !== basename(program) && it !== modules) rmSync(join(folder, it), { recursive: true, force: true })
  }
}
