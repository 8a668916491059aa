import { chmod, mkdir, open, readdir, realpath, rename, rm, rmdir, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import type { SeenVolume, VolumeWish } from '#cloud/compute/compute.driver.ts'
import { run } from '#lib/command.ts'
import { CloudError, messageOf } from '#lib/errors.ts'
import { readIfThere } from '#lib/files.ts'
import { isUuid } from '#lib/ids.ts'
import { createLanes } from '#lib/lanes.ts'
import type { Log } from '#lib/log.ts'
import { createTurns } from '#lib/turns.ts'

/** Of a volume's whole content, which can be terabytes. */
const COPY_MS_MAX = 4 * 3_600_000
const FORMAT_MS_MAX = 300_000
const GIB = 1024 ** 3
const SIZE_GIB_MAX = 16_000
/** Volumes that are made, copied or grown at the same moment: more only makes each of them slower. */
const JOBS_MAX = 2
const GROWS_LATER = 'it grows once no container that runs uses it'

/**
 * Volumes of a size of their own: a file with an ext4 file system, mounted where the volumes are. The file takes from the
 * disk what was written to it, so all of them together may be larger than the disk. A copy is of one moment: what is
 * written meanwhile waits.
 */
export type Disks = {
  apply(wish: VolumeWish): Promise<void>
  observe(volume: string): Promise<SeenVolume | undefined>
  /** Mounted when it returns; throws `unavailable` when it is not there. */
  mount(volume: string): Promise<void>
  /** While the work is under way the volume neither grows nor is made, for both of which it is unmounted. */
  using<T>(volume: string, work: () => Promise<T>): Promise<T>
  /** Ends what is being made of it, and removes everything. Fine when there is nothing. */
  remove(volume: string): Promise<void>
  list(): Promise<readonly string[]>
  /** After the signal aborted: ends when no work is under way. */
  idle(): Promise<void>
}

export type DisksOptions = {
  /** Folder of their files, root's alone. */
  readonly directory: string
  /** Where a volume is mounted. */
  readonly path: (volume: string) => string
  readonly log: Log
}

type Job = { readonly done: Promise<void>; readonly stop: AbortController; from?: string; failed?: string }

/** Where ext4 keeps what it says of itself, and in it: how many blocks, how large they are, and that it is ext4. */
const SUPERBLOCK = { at: 1024, length: 1024, blocks: 0x04, blockLog: 0x18, magic: 0x38 } as const
const EXT4_MAGIC = 0xef53

/**
 * Bytes of the file system in a file, which is larger from when it begins to grow until it has grown; 0 when there is none in
 * it, undefined when there is no file.
 */
async function sizeOf(path: string): Promise<number | undefined> {
  const file = await open(path).catch(() => undefined)
  if (!file) return undefined
  try {
    const block = Buffer.alloc(SUPERBLOCK.length)
    await file.read(block, 0, SUPERBLOCK.length, SUPERBLOCK.at)
    if (block.readUInt16LE(SUPERBLOCK.magic) !== EXT4_MAGIC) return 0
    return block.readUInt32LE(SUPERBLOCK.blocks) * 1024 * 2 ** block.readUInt32LE(SUPERBLOCK.blockLog)
  } finally {
    await file.close()
  }
}

/** What `flock` ends with when another has the file; neither e2fsck nor mount ends so. */
const TAKEN = '75'
/**
 * The command, which fails while another such one works on the file: an agent that was killed leaves behind what it had begun.
 * The kernel ends that when the command does.
 */
const alone = (file: string, command: readonly string[]): string[] => [
  'flock',
  '-Fn',
  '--verbose',
  '-E',
  TAKEN,
  file,
  ...command,
]

/** A device's numbers as the kernel writes them, of the one that a file is on. */
const deviceOf = (dev: number): string => `${(dev >>> 8) & 0xfff}:${(dev & 0xff) | ((dev >>> 12) & 0xfff00)}`

export async function openDisks({ directory, path, log }: DisksOptions, signal: AbortSignal): Promise<Disks> {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const lanes = createLanes()
  const turns = createTurns()
  const jobs = new Map<string, Job>()
  const fileOf = (volume: string): string => {
    if (!isUuid(volume)) throw new CloudError('invalid', `a volume's id is a UUID, not '${volume}'`)
    return join(directory, volume.toLowerCase())
  }
  const real = await realpath(directory)
  const named = (volume: string): string => join(real, basename(fileOf(volume)))
  /** The file whose file system is mounted at a volume's place, as the kernel names it; undefined when none is. */
  const mountedAt = async (volume: string): Promise<string | undefined> => {
    const [at, above] = [path(volume), dirname(path(volume))].map(
      async (it) => await stat(it).catch(() => undefined),
    )
    const [mine, parents] = [await at, await above]
    if (mine === undefined || mine.dev === parents?.dev) return undefined
    return (await readIfThere(`/sys/dev/block/${deviceOf(mine.dev)}/loop/backing_file`))?.trim()
  }
  const isMounted = async (volume: string): Promise<boolean> => (await mountedAt(volume)) === named(volume)
  const mount = async (volume: string): Promise<void> => {
    if (await isMounted(volume)) return
    const file = fileOf(volume)
    if ((await sizeOf(file)) === undefined)
      throw new CloudError('unavailable', `volume ${volume} is not on this machine`)
    await unmount(volume)
    await mkdir(path(volume), { recursive: true })
    await run(alone(file, ['mount', '-t', 'ext4', '-o', 'loop,nosuid,nodev,discard', file, path(volume)]))
  }
  /** Also what was mounted there while the volume was made: what is written to that is lost. */
  const unmount = async (volume: string): Promise<void> => {
    while ((await mountedAt(volume))?.startsWith(named(volume))) await run(['umount', path(volume)])
  }
  const thaw = async (volume: string): Promise<void> =>
    void (await run(['fsfreeze', '--unfreeze', path(volume)]).catch(() => {}))

  /** Whether a container still has it mounted, though we have not. */
  const isUsed = async (volume: string): Promise<boolean> =>
    (await run(['losetup', '--associated', fileOf(volume)])).trim() !== ''

  const make = async (volume: string, file: string, sizeGib: number, stop: AbortSignal): Promise<void> => {
    await run(['truncate', '--size', String(sizeGib * GIB), file])
    await run(['mkfs.ext4', '-q', '-F', '-m', '0', file], { limitMs: FORMAT_MS_MAX, signal: stop })
    const at = path(volume)
    await unmount(volume)
    await mkdir(at, { recursive: true })
    await run(['mount', '-t', 'ext4', '-o', 'loop', file, at])
    try {
      // Images run as users of their own choice; databases want an empty folder.
      await chmod(at, 0o777)
      await rmdir(join(at, 'lost+found'))
    } finally {
      await run(['umount', at])
    }
  }

  const copy = async (from: string, file: string, sizeGib: number, stop: AbortSignal): Promise<void> =>
    await lanes(from, async () => {
      const source = fileOf(from)
      const size = await sizeOf(source)
      if (size === undefined) throw new CloudError('not_found', 'what it is to be a copy of is gone')
      if (size > sizeGib * GIB)
        throw new CloudError('invalid', `it is to be smaller than its source, which has ${size / GIB} GiB`)
      const frozen = await isMounted(from)
      if (frozen) await run(['fsfreeze', '--freeze', path(from)])
      try {
        const how = { limitMs: COPY_MS_MAX, signal: stop }
        await run(['cp', '--sparse=always', '--reflink=auto', source, file], how)
      } finally {
        if (frozen) await thaw(from)
      }
      await resize(file, sizeGib, stop)
    })

  const resize = async (file: string, sizeGib: number, stop: AbortSignal): Promise<void> => {
    await run(['truncate', '--size', String(sizeGib * GIB), file])
    // A journal that is to be replayed is no mistake: it then ends with 1.
    await run(alone(file, ['e2fsck', '-f', '-p', file]), {
      limitMs: FORMAT_MS_MAX,
      signal: stop,
      fine: [0, 1],
    })
    await run(alone(file, ['resize2fs', file]), { limitMs: FORMAT_MS_MAX, signal: stop })
  }

  const grow = async (volume: string, sizeGib: number, stop: AbortSignal): Promise<void> => {
    const file = fileOf(volume)
    const wasMounted = await isMounted(volume)
    await unmount(volume)
    try {
      if (await isUsed(volume)) throw new CloudError('conflict', GROWS_LATER, { rule: 'in_use' })
      await resize(file, sizeGib, stop)
    } finally {
      if (wasMounted) await mount(volume)
    }
  }

  const work = async ({ id, sizeGib, from }: VolumeWish, stop: AbortSignal): Promise<void> => {
    // Before its turn came.
    stop.throwIfAborted()
    const file = fileOf(id)
    const next = `${file}.next`
    const size = await sizeOf(file)
    if (size !== undefined) return size < sizeGib * GIB ? await grow(id, sizeGib, stop) : undefined
    await rm(next, { force: true })
    if (from === undefined) await make(id, next, sizeGib, stop)
    else await copy(from, next, sizeGib, stop)
    await rename(next, file)
  }

  const running = (): number => [...jobs.values()].filter((it) => it.failed === undefined).length

  for (const volume of (await readdir(directory)).filter(isUuid))
    // Whoever froze it is gone.
    if (await isMounted(volume)) await thaw(volume)

  return {
    mount: async (volume) => await lanes(volume, async () => await mount(volume)),
    using: turns.using,
    async apply(wish) {
      const { id, sizeGib } = wish
      const file = fileOf(id)
      if (!Number.isInteger(sizeGib) || sizeGib < 1 || sizeGib > SIZE_GIB_MAX)
        throw new CloudError('invalid', `a volume has 1 to ${SIZE_GIB_MAX} GiB`)
      if (wish.from !== undefined) fileOf(wish.from)
      const job = jobs.get(id)
      if ((job && job.failed === undefined) || ((await sizeOf(file)) ?? 0) >= sizeGib * GIB) return
      if (running() >= JOBS_MAX)
        throw new CloudError('unavailable', `waits for one of ${JOBS_MAX} volumes that are being made`)
      const stop = new AbortController()
      const until = AbortSignal.any([signal, stop.signal])
      const made: Job = {
        stop,
        done: turns
          .alone(id, () => lanes(id, async () => await work(wish, until)))
          .then(
            () => void jobs.delete(id),
            (error: unknown) => {
              log.warn('a volume cannot be made or grown', { volume: id, error: messageOf(error) })
              made.failed = messageOf(error)
            },
          ),
        ...(wish.from === undefined ? {} : { from: wish.from }),
      }
      jobs.set(id, made)
      await Promise.resolve()
    },
    async observe(volume) {
      const size = await sizeOf(fileOf(volume))
      const job = jobs.get(volume)
      const state = size === undefined ? (job?.failed === undefined ? 'making' : 'failed') : 'growing'
      const message = job?.failed === undefined ? {} : { message: job.failed }
      if (job) return { state, sizeGib: (size ?? 0) / GIB, ...message }
      return size === undefined ? undefined : { state: 'ready', sizeGib: size / GIB }
    },
    async remove(volume) {
      if ([...jobs.values()].some((it) => it.from === volume && it.failed === undefined))
        throw new CloudError('conflict', 'it is being copied', { rule: 'in_use' })
      jobs.get(volume)?.stop.abort(new Error('it was removed'))
      await lanes(volume, async () => {
        await unmount(volume)
        jobs.delete(volume)
        for (const file of [fileOf(volume), `${fileOf(volume)}.next`]) await rm(file, { force: true })
        await rmdir(path(volume)).catch(() => {})
      })
    },
    list: async () => (await readdir(directory)).filter(isUuid),
    async idle() {
      await Promise.all([...jobs.values()].map(async (it) => await it.done))
    },
  }
}
