import { join } from 'node:path'
import { CloudError } from '#lib/errors.ts'
import { type Kept, openKept } from '#lib/kept.ts'
import type { Log } from '#lib/log.ts'
import type { Front, FrontCertificate } from '#cloud/edge/front.driver.ts'
import { parseCertificate, parseFront } from './schema.ts'

/** Seals a private key for the disk; `binding` says whose it is. */
export type Seal = {
  seal(plain: string, binding: string): string
  open(sealed: string, binding: string): string
}

/**
 * A front with, for each hostname and UDP port it names, a number that tells who named it first: a later front cannot
 * take from an earlier one, over restarts too.
 */
export type HeldFront = { readonly front: Front; readonly since: Readonly<Record<string, number>> }

/** What the front door serves, each document also a file (0600), private keys sealed. */
export type FrontStore = {
  readonly fronts: ReadonlyMap<string, HeldFront>
  readonly certificates: ReadonlyMap<string, FrontCertificate>
  /** In `fronts` at once; done when it is on disk. Older than the one held: `conflict`. */
  apply(front: Front): Promise<void>
  remove(vpc: string): Promise<void>
  applyCertificate(certificate: FrontCertificate): Promise<void>
  removeCertificate(id: string): Promise<void>
}

/** What a route holds against others: its hostname, or its port. */
export const holdingOf = ({ carry, port, hostname }: Front['routes'][number]): string =>
  carry === 'datagram' ? `udp:${port}` : carry === 'tcp' ? `tcp:${port}` : hostname

function refuseOlder(what: string, generation: number, held: number | undefined): void {
  if (held === undefined || held <= generation) return
  const message = `generation ${generation} of the ${what} is older than ${held}, which is served`
  throw new CloudError('conflict', message, { rule: 'lost_race' })
}

const bindingOf = (id: string): string => `certificate ${id}`

function parseHeld(document: unknown): HeldFront {
  const { front, since } = (document ?? {}) as { front?: unknown; since?: Record<string, number> }
  return { front: parseFront(front), since: since ?? {} }
}

function openSealed(seal: Seal, document: unknown): FrontCertificate {
  const it = document as FrontCertificate
  if (!it.issued) return parseCertificate(it)
  return parseCertificate({
    ...it,
    issued: { ...it.issued, key: seal.open(it.issued.key, bindingOf(it.id)) },
  })
}

/** Reads what is on disk. What cannot be used is said and left out: the cloud applies everything after its start. */
export async function openFrontStore(options: {
  readonly directory: string
  readonly seal: Seal
  readonly log: Log
  /** Something came, changed or went. */
  readonly onChange: () => void
}): Promise<FrontStore> {
  const { directory, seal, log, onChange } = options
  const folder = (name: string): string => join(directory, name)
  const held = await openKept({ directory: folder('fronts'), name: 'front', parse: parseHeld, log })
  const certified = await openKept({
    directory: folder('certificates'),
    name: 'certificate',
    parse: (it) => openSealed(seal, it),
    log,
  })
  const fronts = new Map(held.found.map((it) => [it.front.vpc, it]))
  const certificates = new Map(certified.found.map((it) => [it.id, it]))
  let last = Math.max(0, ...held.found.flatMap((it) => Object.values(it.since)))

  // Memory first, files in the same order after it: a change does not wait for the disk to be served, only to be done.
  const removeFrom = async (kept: Kept, map: Map<string, unknown>, id: string): Promise<void> => {
    if (map.delete(id)) onChange()
    await kept.inTurn(() => kept.remove(id))
  }

  return {
    fronts,
    certificates,
    async apply(front) {
      const before = fronts.get(front.vpc)
      refuseOlder('front', front.generation, before?.front.generation)
      const since: Record<string, number> = {}
      for (const route of front.routes) {
        const holding = holdingOf(route)
        since[holding] ??= before?.since[holding] ?? ++last
      }
      fronts.set(front.vpc, { front, since })
      onChange()
      await held.kept.inTurn(() => held.kept.write(front.vpc, { front, since }))
    },
    remove: async (vpc) => await removeFrom(held.kept, fronts, vpc),
    async applyCertificate(certificate) {
      const { id, issued } = certificate
      refuseOlder('certificate', certificate.generation, certificates.get(id)?.generation)
      certificates.set(id, certificate)
      onChange()
      const sealed = issued && { ...issued, key: seal.seal(issued.key, bindingOf(id)) }
      const document = { ...certificate, ...(sealed ? { issued: sealed } : {}) }
      await certified.kept.inTurn(() => certified.kept.write(id, document))
    },
    removeCertificate: async (id) => await removeFrom(certified.kept, certificates, id),
  }
}
