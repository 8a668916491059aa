import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import type { Clock } from '#lib/clock.ts'
import type { Log } from '#lib/log.ts'
import { createKeyring, openMasterKey } from '#engine/secrets.ts'
import { openConnector } from '#drivers/cloudflare/connector.ts'
import { localEdge as localZones } from '#drivers/edge/local.ts'
import { localFront } from '#drivers/front/local.ts'
import type { Listen } from '#drivers/front/listener.ts'

export type LocalEdgeOptions = {
  /** Everything that is held over restarts; it is there. One process at a time. */
  readonly directory: string
  /** Where names are answered; nowhere when absent. */
  readonly dns?: Listen | undefined
  readonly http: Listen
  readonly https: Listen
  readonly clock: Clock
  readonly log: Log
}

/** All that the edge serves: names of the VPCs, the front door, and Cloudflare's connector. */
export async function localEdge({ directory, dns, http, https, clock, log }: LocalEdgeOptions) {
  const seal = createKeyring(await openMasterKey(join(directory, 'seal.key'), randomBytes))
  const shared = { clock, log }
  const edge = await localZones({ ...shared, directory: join(directory, 'zones'), listen: dns })
  const front = await localFront({
    ...shared,
    directory: join(directory, 'front'),
    http,
    https,
    seal,
    inside: dns?.address,
  })
  const connector = await openConnector({
    ...shared,
    program: 'cloudflared',
    path: process.env['PATH'] ?? '',
    file: join(directory, 'connector'),
    seal,
  })
  return {
    edge,
    front,
    connector,
    close: async () => void (await Promise.all([edge.close(), front.close(), connector.close()])),
  }
}
