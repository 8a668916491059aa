import type { Clock } from '#lib/clock.ts'
import type { CacheItem, Instance } from './inside.ts'

/** What a tenant keeps at most, and all together. */
export const CACHE_LIMITS = { tenantBytesMax: 8_388_608, bytesMax: 67_108_864 }
/** What an item costs beside its text. */
const ITEM_BYTES = 200

type Kept = { readonly item: CacheItem; readonly until: number; readonly bytes: number }
type Shelf = { readonly items: Map<string, Kept>; bytes: number }

const placeOf = ({ tenant, vpc, workload, replica }: Instance, scope: CacheItem['scope']): string =>
  ({ global: tenant, environment: vpc, container: workload, instance: replica })[scope].id

/**
 * Values that workloads keep for each other, in memory alone. Where there is no room, a tenant's oldest go; where there is
 * none for all, the oldest of whoever has most.
 */
export function createObjectCache(clock: Clock, limits = CACHE_LIMITS) {
  const shelves = new Map<string, Shelf>()
  let total = 0

  const drop = (tenant: string, key: string): void => {
    const shelf = shelves.get(tenant)
    const it = shelf?.items.get(key)
    if (!shelf || !it) return
    shelf.items.delete(key)
    shelf.bytes -= it.bytes
    total -= it.bytes
    if (shelf.items.size === 0) shelves.delete(tenant)
  }
  const dropOldest = (tenant: string): void => {
    const [oldest] = shelves.get(tenant)?.items.keys() ?? []
    if (oldest !== undefined) drop(tenant, oldest)
  }
  const fullest = (): string =>
    [...shelves].reduce((most, it) => (it[1].bytes > most[1].bytes ? it : most))[0]

  return {
    put(of: Instance, item: CacheItem): void {
      const { id: tenant } = of.tenant
      const key = `${placeOf(of, item.scope)} ${item.key}`
      drop(tenant, key)
      const shelf = shelves.get(tenant) ?? { items: new Map<string, Kept>(), bytes: 0 }
      shelves.set(tenant, shelf)
      const bytes = ITEM_BYTES + 2 * (key.length + item.key.length + item.value.length)
      shelf.items.set(key, { item, until: clock.now() + item.seconds * 1000, bytes })
      shelf.bytes += bytes
      total += bytes
      while (shelf.bytes > limits.tenantBytesMax) dropOldest(tenant)
      while (total > limits.bytesMax) dropOldest(fullest())
    },
    get(of: Instance, scope: CacheItem['scope'], itemKey: string): CacheItem | undefined {
      const key = `${placeOf(of, scope)} ${itemKey}`
      const it = shelves.get(of.tenant.id)?.items.get(key)
      if (!it) return undefined
      if (it.until > clock.now()) return it.item
      drop(of.tenant.id, key)
      return undefined
    },
  }
}
