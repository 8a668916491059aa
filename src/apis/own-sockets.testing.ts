import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Http } from './http.ts'

/** Sockets of replicas in a folder of the test's, with nothing between them and the server. */
export type OwnSockets = AsyncDisposable & {
  /** Path of the replica's socket; made when first asked for. */
  of(replica: string): Promise<string>
}

export async function openOwnSockets(http: Pick<Http, 'accept'>): Promise<OwnSockets> {
  const folder = await mkdtemp(join(tmpdir(), 'arcus-own-'))
  const servers = new Map<string, Server>()
  return {
    async of(replica) {
      const path = join(folder, replica)
      if (servers.has(replica)) return path
      const server = createServer({ allowHalfOpen: true }, (socket) => http.accept(socket, replica))
      servers.set(replica, server)
      server.listen(path)
      await once(server, 'listening')
      return path
    },
    async [Symbol.asyncDispose]() {
      for (const it of servers.values()) it.close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}
