import { constants } from 'node:fs'
import { chmod, type FileHandle, open, readdir, rename, rmdir, stat, unlink } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import type { SocketsDriver } from '#cloud/inside/sockets.driver.ts'
import type { Clock } from '#lib/clock.ts'
import { CloudError, messageOf } from '#lib/errors.ts'
import { unlessMissing } from '#lib/files.ts'
import { isUuid } from '#lib/ids.ts'
import { createLanes, inParallel } from '#lib/lanes.ts'
import type { Log } from '#lib/log.ts'

/** What one replica may take of its socket. */
export const SOCKET_LIMITS = {
  /** Open connections; more are closed as they come. */
  connectionsMax: 32,
  /** Connections made within a second; at more nobody listens for `restMs`, so that no loop of connects costs the others. */
  connectsPerSecondMax: 500,
  restMs: 1000,
  /** Connections that the kernel keeps until they are taken. */
  backlogMax: 64,
}
export type SocketLimits = typeof SOCKET_LIMITS

const SOCKET = 'api.sock'
const BINDS_AT_ONCE_MAX = 32
const WINDOW_MS = 1000
/** Whoever runs in the container, as whichever user; the folders above decide who gets this far on the host. */
const SOCKET_MODE = 0o666

export type SocketsOptions = {
  /** Where the replicas' folders lie. */
  readonly folder: string
  /** Makes the folder of a replica, empty, for this process to write; fine when it is there. */
  readonly make: (replica: string, signal: AbortSignal) => Promise<void>
  readonly clock: Clock
  readonly log: Log
  readonly limits?: Partial<SocketLimits>
}

/** The other end of each connection, with the replica whose socket it came by. */
export type Accept = (socket: Socket, replica: string) => void

export type Sockets = SocketsDriver & {
  /** From now on connections go to `accept`: listens again, at once, in every folder that is left of before. */
  serve(accept: Accept): Promise<void>
  /** Listens no more. The files stay, and are refused until the next process listens in their place. */
  close(): Promise<void>
}

type Listening = {
  server: Server | undefined
  /** Of the file, to know it again. */
  inode: bigint | undefined
  readonly sockets: Set<Socket>
  /** Connections made since `windowAt`. */
  connects: number
  windowAt: number
  resting: AbortController | undefined
}

/** The replicas' sockets on this machine. Listens only once there is someone to take the connections. */
export function openSockets(options: SocketsOptions): Sockets {
  const { folder, clock } = options
  const limits: SocketLimits = { ...SOCKET_LIMITS, ...options.limits }
  const log = options.log.with({ part: 'sockets' })
  const all = new Map<string, Listening>()
  const inTurn = createLanes()
  let accept: Accept | undefined
  let root: FileHandle | undefined

  /** Linux refuses to bind long paths; through the open folder all are short. */
  const through = async (replica: string): Promise<string> =>
    await inTurn('', async () => {
      // It may have been removed and made again since.
      const isGone = root !== undefined && (await root.stat()).nlink === 0
      if (isGone) await closeRoot()
      const opened = root ?? (await open(folder, constants.O_RDONLY | constants.O_DIRECTORY))
      root = opened
      return `/proc/self/fd/${opened.fd}/${replica}`
    })
  const closeRoot = async (): Promise<void> => {
    const opened = root
    root = undefined
    await opened?.close()
  }
  const inodeOf = async (replica: string): Promise<bigint | undefined> => {
    const at = await stat(join(folder, replica, SOCKET), { bigint: true }).catch(() => undefined)
    return at?.isSocket() === true ? at.ino : undefined
  }

  const bind = async (replica: string, it: Listening): Promise<void> => {
    const at = await through(replica)
    const next = join(at, `${SOCKET}.next`)
    await unlink(next).catch(unlessMissing)
    const server = createServer({ allowHalfOpen: true }, (socket) => take(replica, it, socket))
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen({ path: next, backlog: limits.backlogMax }, resolve)
    })
    server.removeAllListeners('error')
    server.on('error', (error) =>
      log.warn('a socket cannot be listened on', { replica, error: messageOf(error) }),
    )
    try {
      // Open to all, and in its place, only now that it answers.
      await chmod(next, SOCKET_MODE)
      await rename(next, join(at, SOCKET))
    } catch (error) {
      server.close()
      throw error
    }
    it.server = server
    it.inode = await inodeOf(replica)
  }

  const take = (replica: string, it: Listening, socket: Socket): void => {
    const now = clock.now()
    if (Math.abs(now - it.windowAt) >= WINDOW_MS) Object.assign(it, { windowAt: now, connects: 0 })
    if (++it.connects > limits.connectsPerSecondMax) rest(replica, it)
    if (!accept || it.sockets.size >= limits.connectionsMax) return void socket.destroy()
    it.sockets.add(socket)
    socket.once('close', () => it.sockets.delete(socket))
    accept(socket, replica)
  }

  /** The kernel refuses connections meanwhile, which costs this process nothing. */
  const rest = (replica: string, it: Listening): void => {
    if (it.resting) return
    log.warn('a replica connects too often and waits', { replica, restMs: limits.restMs })
    it.resting = new AbortController()
    it.server?.close()
    it.server = undefined
    clock.sleep(limits.restMs, it.resting.signal).then(
      () => void inTurn(replica, () => wakeUp(replica, it)),
      () => {},
    )
  }
  const wakeUp = async (replica: string, it: Listening): Promise<void> => {
    if (all.get(replica) !== it) return
    it.resting = undefined
    await bind(replica, it).catch((error: unknown) => {
      all.delete(replica)
      log.warn('a socket cannot be listened on', { replica, error: messageOf(error) })
    })
  }

  const end = (replica: string): void => {
    const it = all.get(replica)
    all.delete(replica)
    it?.resting?.abort()
    it?.server?.close()
    for (const socket of it?.sockets ?? []) socket.destroy()
  }

  /** Bound by us, and found where the container looks for it. */
  const isThere = async (replica: string): Promise<boolean> => {
    const it = all.get(replica)
    return it?.inode !== undefined && it.inode === (await inodeOf(replica))
  }

  const ensure = async (replica: string, signal: AbortSignal): Promise<void> => {
    if (!accept) throw new CloudError('unavailable', "the workloads' own API is not served yet")
    if (await isThere(replica)) return
    end(replica)
    await options.make(replica, signal)
    const it: Listening = {
      server: undefined,
      inode: undefined,
      sockets: new Set(),
      connects: 0,
      windowAt: 0,
      resting: undefined,
    }
    await bind(replica, it)
    all.set(replica, it)
  }

  return {
    async serve(given) {
      accept = given
      const left = (await readdir(folder).catch(() => [])).filter(isUuid)
      const signal = new AbortController().signal
      await inParallel(left, BINDS_AT_ONCE_MAX, async (replica) => {
        await inTurn(replica, () => ensure(replica, signal)).catch((error: unknown) =>
          log.warn('a socket of before cannot be made again', { replica, error: messageOf(error) }),
        )
      })
    },
    async ensure(replica, signal) {
      if (!isUuid(replica)) throw new CloudError('invalid', `a replica's id is a UUID, not '${replica}'`)
      await inTurn(replica, () => ensure(replica, signal))
    },
    async remove(replica) {
      if (!isUuid(replica)) return
      await inTurn(replica, async () => {
        end(replica)
        await unlink(join(folder, replica, SOCKET)).catch(unlessMissing)
        // Where the host agent made the folder, it removes it too.
        await rmdir(join(folder, replica)).catch(() => {})
      })
    },
    async list() {
      const there = await inParallel([...all.keys()], BINDS_AT_ONCE_MAX, async (replica) =>
        (await isThere(replica)) ? [replica] : [],
      )
      return there.flat()
    },
    async close() {
      accept = undefined
      for (const replica of all.keys()) end(replica)
      await inTurn('', closeRoot)
    },
  }
}
