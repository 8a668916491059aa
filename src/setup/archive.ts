import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { chmod, mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { CloudError, messageOf } from '#lib/errors.ts'
import { run } from './command.ts'

/** Grows when an older program could not restore it. */
const FORMAT = 1
const MANIFEST = 'arcus-backup.json'
const TAR_SECONDS_MAX = 6 * 3600

/** What a backup says of itself. */
export type Manifest = {
  readonly format: number
  /** Of the program that made it. */
  readonly version: string
  /** ISO 8601. */
  readonly madeAt: string
  readonly files: Readonly<Record<string, { readonly bytes: number; readonly sha256: string }>>
}

async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  return entries
    .filter((it) => it.isFile())
    .map((it) => relative(folder, join(it.parentPath, it.name)))
    .toSorted()
}

async function digestOf(path: string): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(path), hash)
  return { bytes: (await stat(path)).size, sha256: hash.digest('hex') }
}

async function tar(args: readonly string[], what: string): Promise<void> {
  await run(['tar', ...args], TAR_SECONDS_MAX).catch((error: unknown) => {
    const full = /No space left/.test(messageOf(error)) ? '; free some space there' : ''
    throw new CloudError('unavailable', `${what}: ${messageOf(error)}${full}`, {}, error)
  })
}

/** What a file is until it is whole. */
export const nextOf = (file: string): string => `${file}.next`

/** Packs everything below a folder into one file, 0600, which appears whole or not at all. */
export async function pack(
  folder: string,
  file: string,
  about: { version: string; madeAt: string },
): Promise<void> {
  const files: Record<string, { bytes: number; sha256: string }> = {}
  for (const it of await filesBelow(folder)) files[it] = await digestOf(join(folder, it))
  const manifest: Manifest = { format: FORMAT, ...about, files }
  await writeFile(join(folder, MANIFEST), JSON.stringify(manifest, null, 2), { mode: 0o600 })
  const next = nextOf(file)
  try {
    // Made first, so that at no moment others can read it.
    await (await open(next, 'w', 0o600)).close()
    await chmod(next, 0o600)
    const owner = ['--owner=0', '--group=0', '--numeric-owner']
    await tar(
      [...owner, '-cf', next, '-C', folder, MANIFEST, ...Object.keys(files)],
      `${file} cannot be written`,
    )
    const written = await open(next, 'r+')
    try {
      await written.sync()
    } finally {
      await written.close()
    }
    await rename(next, file)
  } finally {
    await rm(next, { force: true })
  }
  const parent = await open(dirname(file), 'r')
  try {
    await parent.sync()
  } finally {
    await parent.close()
  }
}

/** Unpacks a backup into a new folder, 0700, and holds every file against its manifest; refused when one differs. */
export async function unpack(file: string, folder: string): Promise<Manifest> {
  await mkdir(folder, { mode: 0o700 })
  const no = (why: string): CloudError => new CloudError('invalid', `${file} is no backup of Arcus: ${why}`)
  await tar(
    ['-xf', file, '-C', folder, '--no-same-owner', '--no-same-permissions'],
    `${file} cannot be unpacked`,
  )
  let manifest: Manifest
  try {
    manifest = JSON.parse(await readFile(join(folder, MANIFEST), 'utf8')) as Manifest
  } catch {
    throw no(`it holds no ${MANIFEST}`)
  }
  if (manifest.format > FORMAT)
    throw new CloudError(
      'unsupported',
      `${file} was made by a later version (${manifest.version}); restore it with that one`,
    )
  await rm(join(folder, MANIFEST))
  const found = await filesBelow(folder)
  const known = Object.keys(manifest.files).toSorted()
  if (found.join('\n') !== known.join('\n')) throw no('its files are not those that it names')
  for (const it of found) {
    const { sha256 } = await digestOf(join(folder, it))
    if (sha256 !== manifest.files[it]?.sha256)
      throw new CloudError('unavailable', `${file} is damaged: ${it} is not what was saved`)
    await chmod(join(folder, it), 0o600)
  }
  return manifest
}
