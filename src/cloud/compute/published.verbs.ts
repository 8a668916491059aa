import { CloudError } from '#lib/errors.ts'
import { inRange, portKey } from '#lib/ports.ts'
import type { Engine } from '#engine/engine.ts'
import { ALL, PLATFORM } from '#engine/resource.ts'
import { needPromise, quotaPool, type VerbContext } from '#cloud/context.ts'
import { tenant } from '#cloud/identity/tenant.kind.ts'
import { hostPortPool, portsClaim, type PublishedPort, workload } from './workload.kind.ts'

const taken = (message: string): CloudError => new CloudError('conflict', message, { rule: 'port_taken' })

/**
 * Ports of the host for a workload that has `had` some: as they are asked for, and in the place of each host port 0 the one
 * that it has for this port of its own already, else a free one. Refused `conflict`, rule `port_taken`: outside of the
 * range, another workload's, or one that a program of the host listens on. `exhausted` when none is free.
 */
export async function publishedPorts(
  context: VerbContext,
  wanted: readonly PublishedPort[],
  had: readonly PublishedPort[] = [],
): Promise<PublishedPort[]> {
  if (!wanted.length) return []
  needPromise(context, 'published', 'published ports', 'spec.published')
  const { draft, pick, settings } = context
  const { publishedPorts: range } = settings
  const given = new Set<string>()
  const give = (it: PublishedPort): PublishedPort => {
    const key = portKey({ protocol: it.protocol, port: it.host })
    if (given.has(key)) throw taken(`Host port ${it.host} is asked for twice`)
    given.add(key)
    return it
  }
  const isHad = (it: PublishedPort): boolean =>
    had.some((old) => old.protocol === it.protocol && old.host === it.host)
  // A program of the host keeps what it listens on; asked only when there is something new.
  let listening: ReadonlySet<string> | undefined
  const isListened = async (protocol: PublishedPort['protocol']): Promise<(port: number) => boolean> => {
    listening ??= new Set((await context.listening()).map(portKey))
    const all = listening
    return (port) => all.has(portKey({ protocol, port }))
  }
  for (const it of wanted) {
    if (it.host === 0 || isHad(it)) continue
    if (!inRange(range, it.host))
      throw taken(
        `Host port ${it.host} is none that can be published: take one from ${range.from} to ${range.to}, or 0 for a free one`,
      )
    if (await draft.claimed(hostPortPool(it.protocol), String(it.host)))
      throw taken(`Host port ${it.host} is in use; take another, or 0 for a free one`)
    if ((await isListened(it.protocol))(it.host))
      throw taken(
        `A program of the host listens on port ${it.host} itself; take another, or 0 for a free one`,
      )
  }
  const fixed = new Set(wanted.filter((it) => it.host !== 0).map((it) => portKeyOf(it)))
  const published: PublishedPort[] = []
  for (const it of wanted) {
    if (it.host !== 0) {
      published.push(give(it))
      continue
    }
    const isFree = (port: number): boolean => {
      const key = portKey({ protocol: it.protocol, port })
      return !fixed.has(key) && !given.has(key)
    }
    const own = had.find(
      (old) => old.protocol === it.protocol && old.container === it.container && isFree(old.host),
    )
    const isTaken = own ? undefined : await isListened(it.protocol)
    const host =
      own?.host ??
      (await pick.number(
        draft,
        hostPortPool(it.protocol),
        range,
        (port) => !isFree(port) || isTaken?.(port) === true,
      ))
    if (host === undefined)
      throw new CloudError(
        'exhausted',
        `No port of the host from ${range.from} to ${range.to} is free; an administrator can give more with --published-ports`,
        { rule: 'capacity' },
      )
    published.push(give({ ...it, host }))
  }
  return published
}

const portKeyOf = (it: PublishedPort): string => portKey({ protocol: it.protocol, port: it.host })

const COUNTED = { pool: 'singleton', value: 'published ports counted' } as const

/** Counts once, against the tenants' quotas, the ports that were published before there was a quota of them. */
export async function countPublished(engine: Engine): Promise<void> {
  if (await engine.store.claim(COUNTED.pool, COUNTED.value)) return
  await engine.transact(async (draft) => {
    for (const it of await draft.list(workload, { tenant: ALL, terms: [], deleted: false }))
      for (const claim of portsClaim(it)) draft.claim(claim, it.id)
    // Afterwards: who has more keeps what there is.
    for (const it of await draft.list(tenant, { tenant: PLATFORM, terms: [], deleted: false }))
      draft.pool(quotaPool(it.id, 'publishedPorts'), it.spec.quotas.publishedPorts, it.id)
    draft.claim({ ...COUNTED, ends: 'deletion' }, PLATFORM)
  })
}
