/**
 * The unix sockets through which workloads reach their own API: one for each replica, in a folder of its own that its
 * container finds at `/var/run/cycle/api`. Verbs are idempotent, keyed by the replica's id.
 */
export interface SocketsDriver {
  /**
   * Makes the replica's socket and listens on it; done when it answers. A folder that is there stays the same one, so that
   * a container which has it mounted reaches the new socket. `unsupported` where the host agent is of before there were any.
   */
  ensure(replica: string, signal: AbortSignal): Promise<void>
  /** Ends the socket's connections and removes it. Fine when there is none. */
  remove(replica: string, signal: AbortSignal): Promise<void>
  /** Replicas whose sockets are listened on and can be found where they belong. */
  list(signal: AbortSignal): Promise<readonly string[]>
}
