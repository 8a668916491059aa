import type { SocketsDriver } from '#cloud/inside/sockets.driver.ts'
import type { Fault } from './network.ts'

export type SimulatedSockets = SocketsDriver & {
  /** Somebody removed the socket behind our back. */
  vanish(replica: string): void
}

/** Sockets that exist only by name. */
export function simulatedSockets(fault: Fault = () => {}): SimulatedSockets {
  const open = new Set<string>()
  return {
    vanish: (replica) => void open.delete(replica),
    async ensure(replica) {
      await fault('ensure', replica)
      open.add(replica)
    },
    async remove(replica) {
      await fault('remove', replica)
      open.delete(replica)
    },
    async list() {
      await fault('list', '')
      return [...open]
    },
  }
}
