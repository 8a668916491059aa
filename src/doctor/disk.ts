import { closeSync, fsyncSync, openSync, readdirSync, rmSync, statSync, writeSync } from 'node:fs'
import { statfs } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { isCloudError } from '#lib/errors.ts'
import { checkData } from '#setup/checks.ts'
import { agentData, cloudData, edgeData, type Layout } from '#setup/layout.ts'
import { type Check, type Finding, limited, missing, ok, unseen } from './check.ts'
import { type Host, isDenied, isRoot } from './host.ts'

const GIB = 1024 ** 3
const FREE_BYTES_MIN = GIB / 2
const FREE_BYTES_GOOD_MIN = 2 * GIB
const SYNC_ROUNDS = 20
const SYNC_BYTES = 4096
/** A write of the API waits for one of these. */
const SYNC_MS_GOOD_MAX = 20
const FILES_MAX = 1000
const ELSEWHERE = 'choose another place with --data DIR'

/** By the magic number that statfs gives. */
const FILE_SYSTEMS: Readonly<
  Record<number, { readonly name: string; readonly verdict: 'network' | 'memory' | 'layer' }>
> = {
  0x01021994: { name: 'tmpfs', verdict: 'memory' },
  0x858458f6: { name: 'ramfs', verdict: 'memory' },
  0x6969: { name: 'NFS', verdict: 'network' },
  0xff534d42: { name: 'CIFS', verdict: 'network' },
  0xfe534d42: { name: 'SMB', verdict: 'network' },
  0x517b: { name: 'SMB', verdict: 'network' },
  0x01021997: { name: '9p', verdict: 'network' },
  0x65735546: { name: 'FUSE', verdict: 'network' },
  0x00c36400: { name: 'Ceph', verdict: 'network' },
  0x794c7630: { name: 'overlay', verdict: 'layer' },
}

/** The folder itself, or the nearest above it that is there. */
function nearest(path: string): string {
  let at = path
  while (statSync(at, { throwIfNoEntry: false }) === undefined && at !== dirname(at)) at = dirname(at)
  return at
}

function place(data: string): Finding {
  try {
    checkData(data)
  } catch (error) {
    if (isCloudError(error)) return missing(error.message, ELSEWHERE)
    throw error
  }
  const at = nearest(data)
  return ok(at === data ? data : `${data} can be made in ${at}`)
}

/** What a file system of this kind means for the database. */
export function verdictOn(type: number, path: string): Finding {
  const found = FILE_SYSTEMS[type >>> 0]
  switch (found?.verdict) {
    case 'memory':
      return limited(`${path} is on ${found.name}: everything is lost at a reboot`, ELSEWHERE)
    case 'network':
      return missing(
        `${path} is on ${found.name}, on which the database’s log is not safe`,
        `${ELSEWHERE}, on a local disk`,
      )
    case 'layer':
      return limited(
        `${path} is on ${found.name}: in a container’s layer it goes with the container`,
        ELSEWHERE,
      )
    case undefined:
      return ok(`${path} is on a local file system`)
  }
}

async function space(path: string): Promise<Finding> {
  const { bavail, bsize } = await statfs(path)
  const free = bavail * bsize
  const seen = `${(free / GIB).toFixed(1)} GiB are free in ${path}`
  if (free < FREE_BYTES_MIN) return missing(seen, `make room, or ${ELSEWHERE}`)
  return free < FREE_BYTES_GOOD_MIN ? limited(seen, `make room, or ${ELSEWHERE}`) : ok(seen)
}

/** The median of some durable writes, in milliseconds, in a file that goes afterwards. */
function syncMs(folder: string, nowMs: () => number): number {
  const path = join(folder, `.arcus-doctor-${process.pid}`)
  const file = openSync(path, 'wx', 0o600)
  try {
    const block = Buffer.alloc(SYNC_BYTES)
    const took = Array.from({ length: SYNC_ROUNDS }, () => {
      const since = nowMs()
      writeSync(file, block)
      fsyncSync(file)
      return nowMs() - since
    })
    return took.toSorted((a, b) => a - b)[SYNC_ROUNDS / 2] ?? 0
  } finally {
    closeSync(file)
    rmSync(path, { force: true })
  }
}

function durable(host: Host, path: string): Finding {
  try {
    const ms = syncMs(path, host.steadyMs)
    const seen = `a durable write takes ${ms.toFixed(1)} ms in ${path}`
    if (ms <= SYNC_MS_GOOD_MAX) return ok(seen)
    return limited(`${seen}, and each write of the API waits for one`, 'use a faster disk: --data DIR')
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? ''
    if (isDenied(error) && !isRoot(host)) return unseen(`the speed of ${path}`)
    return missing(`nothing can be written in ${path} (${code})`, `mount it writable, or ${ELSEWHERE}`)
  }
}

/** Folders and files that no other account may open. */
function secrets(layout: Layout): string[] {
  const folders = [cloudData, edgeData, agentData]
    .map((of) => of(layout))
    .filter((it) => statSync(it, { throwIfNoEntry: false }))
  const files = folders.flatMap((folder) =>
    readdirSync(folder, { withFileTypes: true })
      .filter((it) => it.isFile())
      .slice(0, FILES_MAX)
      .map((it) => join(folder, it.name)),
  )
  const open = (path: string, mask: number): boolean => (statSync(path).mode & mask) !== 0
  // A file below a closed folder cannot be reached, so only keys and credentials must be closed by themselves.
  return [
    ...folders.filter((it) => open(it, 0o077)),
    ...files.filter((it) => /(\.key|admin\.json)$/.test(it) && open(it, 0o077)),
  ]
}

function permissions(host: Host, layout: Layout): Finding {
  if (!host.exists(layout.data)) return ok('there is no data yet')
  try {
    const open = secrets(layout)
    if (open.length === 0) return ok('no other account can read the data')
    return missing(`other accounts can read ${open.join(', ')}`, `chmod go-rwx ${open.join(' ')}`)
  } catch (error) {
    if (isDenied(error) && !isRoot(host)) return unseen('the data folder')
    throw error
  }
}

/** The data folder: its place, file system, room, speed and permissions. */
export function diskChecks(host: Host, layout: Layout): readonly Check[] {
  const cloud = ['cloud'] as const
  const at = (): string => nearest(cloudData(layout))
  return [
    { id: 'data-folder', features: cloud, required: true, probe: () => place(layout.data) },
    {
      id: 'file-system',
      features: cloud,
      required: true,
      probe: async () => verdictOn((await statfs(at())).type, at()),
    },
    { id: 'disk-space', features: cloud, required: true, probe: () => space(at()) },
    { id: 'disk-speed', features: cloud, required: true, probe: () => durable(host, at()) },
    { id: 'permissions', features: cloud, required: true, probe: () => permissions(host, layout) },
  ]
}

/** When the newest file of the data was written, in milliseconds; undefined when there is none that may be seen. */
export function newestOf(layout: Layout): number | undefined {
  try {
    const folder = cloudData(layout)
    const times = readdirSync(folder).map((it) => statSync(join(folder, it)).mtimeMs)
    return times.length ? Math.max(...times) : undefined
  } catch {
    return undefined
  }
}
