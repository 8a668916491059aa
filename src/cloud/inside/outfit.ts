import { isCloudError } from '#lib/errors.ts'
import type { ContainerWish } from '#cloud/compute/compute.driver.ts'
import type { SocketsDriver } from './sockets.driver.ts'

/** Where a container finds what is its replica's own; two spellings of one place. */
const INSIDE = ['/var/run/cycle', '/run/cycle'] as const

/** What replicas' containers are given beside what their workloads say: a socket of their own. */
export type Outfits = {
  /** Makes the replica's socket; gives the wish with what goes along with it. */
  fit(wish: ContainerWish, signal: AbortSignal): Promise<ContainerWish>
  /** Takes back what was made for a replica. */
  remove(replica: string, signal: AbortSignal): Promise<void>
}

export function createOutfits(sockets: SocketsDriver): Outfits {
  return {
    async fit(wish, signal) {
      try {
        await sockets.ensure(wish.id, signal)
      } catch (error) {
        // A host agent of before there were sockets: its containers are given theirs when it was upgraded.
        if (isCloudError(error, 'unsupported')) return wish
        throw error
      }
      return wish.mounts.some(({ path }) => isInside(path)) ? wish : { ...wish, inside: { files: [] } }
    },
    async remove(replica, signal) {
      await sockets.remove(replica, signal)
    },
  }
}

/** True for what a workload has there itself, of before the place was taken: it keeps that. */
const isInside = (path: string): boolean => INSIDE.some((at) => path === at || path.startsWith(`${at}/`))
