import { chmod, lstat, mkdir, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { CloudError } from '#lib/errors.ts'
import { isUuid } from '#lib/ids.ts'
import type { Log } from '#lib/log.ts'
import { type Disks, openDisks } from './disks.ts'

/** Directories of the host that containers mount, one per volume id, below one folder that only root can enter. */
export type Volumes = {
  /** Host path of a volume; refuses anything but a UUID, so that it can't lead elsewhere. */
  path(volume: string): string
  /** There when it returns; one with a `disk` is not made, but mounted. */
  ensure(mount: { readonly volume: string; readonly disk?: boolean }): Promise<void>
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
  return {
    path,
    disks,
    async ensure({ volume, disk }) {
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
    },
    async remove(volume) {
      // First of all: what is removed through a mount is its content.
      await disks.remove(volume)
      await rm(path(volume), { recursive: true, force: true })
    },
    list: async () => [...new Set([...(await readdir(directory)).filter(isUuid), ...(await disks.list())])],
  }
}
