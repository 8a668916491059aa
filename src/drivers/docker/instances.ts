import { closeSync, constants, fchmodSync, fchownSync, mkdirSync, openSync } from 'node:fs'
import {
  chmod,
  chown,
  lstat,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  rmdir,
  unlink,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import type { InsideFile } from '#cloud/compute/compute.driver.ts'
import { CloudError } from '#lib/errors.ts'
import { unlessMissing } from '#lib/files.ts'
import { isUuid } from '#lib/ids.ts'
import { createLanes } from '#lib/lanes.ts'

/** What a container finds below `INSIDE`, of its own replica's and of no other's. */
export const INSIDE = '/var/run/cycle'
/** Folders below it: of the socket, and of files. */
const SOCKET_FOLDER = 'api'
const FILE_FOLDERS = ['metadata', 'tls', 'variables'] as const

export type Owner = { readonly uid: number; readonly gid: number }

export type InstancesOptions = {
  /** Of the sockets' folders: root's, so that nobody else can put another thing in the place of one. */
  readonly sockets: string
  /** Who makes the sockets: the cloud's account. */
  readonly owner: Owner
  /** Of the files, which are secrets: root's alone. */
  readonly files: string
}

/** The folders of this machine that containers find at `/var/run/cycle`: two for each replica, named by its id. */
export type Instances = {
  /** Makes the folder of a replica's socket, for the cloud's account to write and everyone inside to look into. */
  prepare(id: string): Promise<void>
  /** Has the files of a replica be these and no others: each is the old or the new one at any moment. */
  write(id: string, files: readonly InsideFile[]): Promise<void>
  /** Removes both folders. Fine when there are none. */
  remove(id: string): Promise<void>
  /** Ids that have a folder, with when it last changed. */
  list(): Promise<readonly { readonly id: string; readonly path: string; readonly sinceMs: number }[]>
  mounts(id: string, files: readonly Pick<InsideFile, 'name' | 'at'>[]): ReturnType<typeof mountsOf>
}

/** A folder's part that is of one replica; refuses anything but a UUID, so that it can't lead elsewhere. */
function place(folder: string, id: string): string {
  if (!isUuid(id)) throw new CloudError('invalid', `a replica's id is a UUID, not '${id}'`)
  return join(folder, id.toLowerCase())
}

/** Pure: what of the host a replica's container finds, and where; all of it read-only. */
export const mountsOf = (
  folders: Pick<InstancesOptions, 'sockets' | 'files'>,
  id: string,
  files: readonly Pick<InsideFile, 'name' | 'at'>[],
): readonly { readonly source: string; readonly target: string }[] => [
  { source: place(folders.files, id), target: INSIDE },
  { source: place(folders.sockets, id), target: `${INSIDE}/${SOCKET_FOLDER}` },
  ...files.flatMap(({ name, at }) =>
    at === undefined ? [] : [{ source: join(place(folders.files, id), name), target: at }],
  ),
]

export async function openInstances(options: InstancesOptions): Promise<Instances> {
  const { sockets, files: all, owner } = options
  const inTurn = createLanes()
  const isUs = (uid: number, gid: number): boolean => uid === process.getuid?.() && gid === process.getgid?.()
  const give = (folder: number, to: Owner): void => {
    // An agent without root gives nothing away.
    if (!isUs(to.uid, to.gid)) fchownSync(folder, to.uid, to.gid)
  }
  /** The folder of all sockets lets nobody pass but the cloud's account, and nobody but root put anything there. */
  const makeRoot = (): void => {
    mkdirSync(sockets, { recursive: true, mode: 0o700 })
    onFolder(sockets, (it) => {
      give(it, { uid: process.getuid?.() ?? 0, gid: owner.gid })
      fchmodSync(it, 0o750)
    })
  }
  makeRoot()
  await mkdir(all, { recursive: true, mode: 0o700 })

  /** At once: a launch waits for it, and between steps it would wait for each process that is forked meanwhile. */
  const prepare = (id: string): void => {
    const at = place(sockets, id)
    try {
      mkdirSync(at, { mode: 0o700 })
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      if (code !== 'EEXIST' && code !== 'ENOENT') throw error
      // The folders of what runs are gone after the machine started again.
      if (code === 'ENOENT') {
        makeRoot()
        mkdirSync(at, { mode: 0o700 })
      }
    }
    onFolder(at, (it) => {
      give(it, owner)
      fchmodSync(it, 0o755)
    })
  }

  const write = async (id: string, wanted: readonly InsideFile[]): Promise<void> => {
    const at = place(all, id)
    for (const name of ['', SOCKET_FOLDER, ...FILE_FOLDERS]) {
      await mkdir(join(at, name), { recursive: true })
      // Every user inside may look around; the folder above all keeps everyone outside.
      await chmod(join(at, name), 0o755)
    }
    for (const it of wanted) await writeOne(at, it)
    const names = new Set(wanted.map((it) => it.name))
    for (const folder of FILE_FOLDERS)
      for (const name of await readdir(join(at, folder)))
        if (!names.has(`${folder}/${name}`)) await rm(join(at, folder, name), { recursive: true })
  }
  const writeOne = async (at: string, it: InsideFile): Promise<void> => {
    const path = join(at, it.name)
    const content = Buffer.from(it.content, 'base64')
    if (await isSame(path, content, it)) return
    // A container sees the file itself where it has it mounted, and not its name: it is written in place then.
    const inPlace = it.at !== undefined && (await lstat(path).catch(() => undefined))?.isFile() === true
    const next = inPlace ? path : `${at}.next`
    await writeFile(next, content, { mode: 0o600 })
    if (!isUs(it.uid, it.gid)) await chown(next, it.uid, it.gid)
    await chmod(next, it.mode)
    if (!inPlace) await rename(next, path)
  }

  const removeSocketFolder = async (id: string): Promise<void> => {
    const at = place(sockets, id)
    // One by one and no deeper: what lies in it is another account's, and may be a link by the time it is looked at.
    for (const name of await readdir(at).catch(none))
      await unlink(join(at, name)).catch(async (error: NodeJS.ErrnoException) => {
        if (error.code === 'EISDIR' || error.code === 'EPERM') await rmdir(join(at, name))
        else unlessMissing(error)
      })
    await rmdir(at).catch(unlessMissing)
  }

  return {
    prepare: (id) => inTurn(id, () => Promise.resolve(prepare(id))),
    write: (id, wanted) => inTurn(id, () => write(id, wanted)),
    remove: (id) =>
      inTurn(id, async () => {
        await rm(place(all, id), { recursive: true, force: true })
        await rm(`${place(all, id)}.next`, { force: true })
        await removeSocketFolder(id)
      }),
    async list() {
      const found: { id: string; path: string; sinceMs: number }[] = []
      for (const folder of [sockets, all])
        for (const name of await readdir(folder).catch(none)) {
          const path = join(folder, name)
          const id = name.replace(/\.next$/, '')
          const at = await lstat(path).catch(() => undefined)
          if (isUuid(id) && at) found.push({ id, path, sinceMs: at.mtimeMs })
        }
      return found
    },
    mounts: (id, files) => mountsOf(options, id, files),
  }
}

const none = (): string[] => []

/** What `path` itself names must be a folder, and no link to one; `work` gets its descriptor. */
function onFolder(path: string, work: (folder: number) => void): void {
  let folder: number
  try {
    folder = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW)
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code !== 'ENOTDIR' && code !== 'ELOOP') throw error
    throw new CloudError(
      'conflict',
      `${path} is in the way of a workload's folder: it is none`,
      {},
      error as Error,
    )
  }
  try {
    work(folder)
  } finally {
    closeSync(folder)
  }
}

async function isSame(path: string, content: Buffer, { mode, uid, gid }: InsideFile): Promise<boolean> {
  const at = await lstat(path).catch(() => undefined)
  if (!at?.isFile() || (at.mode & 0o7777) !== mode || at.uid !== uid || at.gid !== gid) return false
  return at.size === content.length && content.equals(await readFile(path))
}
