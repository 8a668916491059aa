import { chmodSync, chownSync, existsSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { CloudError, messageOf } from '#lib/errors.ts'
import type { User } from './users.ts'

/** Where everything of one cloud lies on this machine. */
export type Layout = {
  readonly data: string
  /** Sockets and pid files. */
  readonly run: string
  readonly logs: string
  /** Compiled code, one folder for each process. */
  readonly cache: string
  /** Copies of the program. */
  readonly programs: string
}

/** Linux refuses longer paths of unix sockets. */
const SOCKET_PATH_BYTES_MAX = 107

/** The cloud that `up` runs: one for each machine. */
export const machineLayout = (data: string): Layout => ({
  data,
  run: '/run/arcus',
  logs: '/var/log/arcus',
  cache: '/var/cache/arcus',
  programs: '/usr/local/lib/arcus',
})

/** A cloud of its own below one folder, as `serve` runs it. */
export const folderLayout = (data: string): Layout => ({
  data,
  run: join(data, 'run'),
  logs: join(data, 'log'),
  cache: join(data, 'cache'),
  programs: join(data, 'program'),
})

export const agentSocket = (it: Layout): string => join(it.run, 'agent.sock')
/** In a folder of the edge's own, since it may not write beside root's socket. */
export const edgeSocket = (it: Layout): string => join(it.run, 'edge', 'edge.sock')
/** Beside the agent's socket, where both processes look for it: of the workloads' own sockets. */
export const instancesFolder = (it: Layout): string => join(it.run, 'instances')
export const agentData = (it: Layout): string => join(it.data, 'agent')
export const edgeData = (it: Layout): string => join(it.data, 'edge')
export const cloudData = (it: Layout): string => join(it.data, 'cloud')
/** Where a backup is unpacked, to become the cloud's folder when it is whole. */
export const restoringData = (it: Layout): string => `${cloudData(it)}.restoring`

/** The folder of the cloud process that runs below a folder, or in it, as one without a parent does. */
export const cloudFolder = (data: string): string | undefined =>
  [join(data, 'cloud'), data].find((it) => existsSync(join(it, 'arcus.sqlite')))

function folder(path: string, mode: number, uid = 0, gid = 0): void {
  try {
    mkdirSync(path, { recursive: true, mode })
    chownSync(path, uid, gid)
    chmodSync(path, mode)
  } catch (error) {
    const why = messageOf(error)
    throw new CloudError(
      'unavailable',
      `the folder ${path} cannot be used (${why}); choose another with --data DIR`,
    )
  }
}

/** Makes every folder with its owner: each process can read and write its own and pass through what lies above. */
export function makeFolders(it: Layout, users: { readonly cloud: User; readonly edge: User }): void {
  const socket = edgeSocket(it)
  if (Buffer.byteLength(socket) > SOCKET_PATH_BYTES_MAX) {
    throw new CloudError(
      'invalid',
      `the path ${it.data} is too long for a socket below it; choose a shorter --data DIR`,
    )
  }
  for (const path of [it.data, it.run, it.cache]) folder(path, 0o711)
  folder(it.logs, 0o750)
  folder(agentData(it), 0o700)
  folder(join(it.cache, 'agent'), 0o700)
  for (const [name, user] of [
    ['edge', users.edge],
    ['cloud', users.cloud],
  ] as const) {
    folder(join(it.data, name), 0o700, user.uid, user.gid)
    folder(join(it.cache, name), 0o700, user.uid, user.gid)
  }
  // Set-gid: the socket that the edge makes there belongs to the cloud's group.
  folder(join(it.run, 'edge'), 0o2750, users.edge.uid, users.cloud.gid)
  // Only root puts folders there; the cloud passes to those that are its own.
  folder(instancesFolder(it), 0o750, 0, users.cloud.gid)
}
