import { chmod, lstat, mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { CloudError } from '#lib/errors.ts'
import { isUuid } from '#lib/ids.ts'
import type { Log } from '#lib/log.ts'
import { type Disks, openDisks } from './disks.ts'

type Mount = { readonly volume: string; readonly disk?: boolean }

/** Directories of the host that containers mount, one per volume id, below one folder that only root can enter. */
export type Volumes = {
  /** Host path of a volume; refuses anything but a UUID, so that it can't lead elsewhere. */
  path(volume: string): string
  /** There when it returns; one with a `disk` is not made, but mounted. */
  ensure(mount: Mount): Promise<void>
  /** Each is there until the work has ended, which is to hand them to a container. */
  using<T>(mounts: readonly Mount[], work: () => Promise<T>): Promise<T>
  remove(volume: string): Promise<void>
  list(): Promise<readonly string[]>
  /** Those with a size of their own. */
  readonly disks: Disks
}

export async function openVolumes(directory: string, log: Log, signal: AbortSignal): Promise<Volumes> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const path = (volume: string): string => {
    if (!isUuid(volume)) throw new CloudError('invalid', `a volume's id is a UUID, not '${volume}'`)
    return join(directory, volume.toLowerCase())
  }
  const disks = await openDisks({ directory: `${directory}-disks`, path, log }, signal)
  const ensure = async ({ volume, disk }: Mount): Promise<void> => {
    if (disk) return await disks.mount(volume)
    const at = path(volume)
    try {
      await mkdir(at)
      // Images run as users of their own choice; the folder above keeps everyone else out.
      await chmod(at, 0o777)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
    if (!(await lstat(at)).isDirectory())
      throw new CloudError('unavailable', `${at} is in the way of a volume`)
  }
  const usingAll = async <T>([mount, ...others]: readonly Mount[], work: () => Promise<T>): Promise<T> => {
    if (!mount) return await work()
    return await disks.using(mount.volume, async () => {
      await ensure(mount)
      return await usingAll(others, work)
    })
  }
  return {
    path,
    disks,
    ensure,
    using(mounts, work) {
      const byVolume = new Map(mounts.map((it) => [it.volume, it]))
      // Each once and in one order, so that no two wait for one another.
      return usingAll(
        [...byVolume.values()].toSorted((a, b) => (a.volume < b.volume ? -1 : 1)),
        work,
      )
    },
    async remove(volume) {
      // First of all: what is removed through a mount is its content.
      await disks.remove(volume)
      await rm(path(volume), { recursive: true, force: true })
    },
    list: async () => [...new Set([...(await readdir(directory)).filter(isUuid), ...(await disks.list())])],
  }
}
