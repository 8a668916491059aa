import type { Engine } from '#engine/engine.ts'
import type { Everything } from '#engine/everything.ts'
import { ALL, type Key } from '#engine/resource.ts'
import { replica } from '#cloud/compute/replica.kind.ts'
import type { EventBody } from './event.kind.ts'
import { lastEvent } from './tail.ts'

const PAGE = 500
/** After these, what containers find of their replicas' own may be another. */
const WORDS: ReadonlySet<string> = new Set([
  'vpc.variables.changed',
  'vpc.services.changed',
  'vpc.deployments.changed',
  'domain.records.changed',
  'certificate.issued',
  'certificate.renewed',
])

/**
 * Which replicas have to be looked at since it was asked last, so that what their containers find is as it should be: all
 * of them the first time, then those that an event concerns.
 */
export function createRefresh(engine: Engine, everything: Everything): () => Promise<readonly Key[]> {
  let cursor: string | undefined
  const keysOf = async (tenant: string, vpc?: string): Promise<readonly Key[]> => {
    const terms = vpc === undefined ? {} : { terms: [`vpc:${vpc}`] }
    const all = await everything(replica, tenant, { ...terms, deleted: false })
    return all.map((it): Key => `replica/${it.id}`)
  }
  return async () => {
    if (cursor === undefined) {
      const last = await lastEvent(engine)
      const all = await keysOf(ALL)
      cursor = last
      return all
    }
    const { records } = await engine.store.records({
      stream: 'event',
      tenant: ALL,
      limit: PAGE,
      after: cursor,
    })
    const concerned = new Map<string, { readonly tenant: string; readonly vpc?: string }>()
    for (const { what, tenant, body } of records) {
      if (!WORDS.has(what)) continue
      const { vpcs = [] } = (body ?? {}) as EventBody
      // A certificate does not tell what it serves.
      if (what.startsWith('certificate.')) concerned.set(tenant, { tenant })
      for (const vpc of vpcs) concerned.set(vpc, { tenant, vpc })
    }
    const keys = await Promise.all([...concerned.values()].map((it) => keysOf(it.tenant, it.vpc)))
    cursor = records.at(-1)?.cursor ?? cursor
    return [...new Set(keys.flat())]
  }
}
